//! Numbers for people: three significant digits.

/// A count, such as `1.81 G`.
pub fn count(number: u64) -> String {
    scaled(number, &["", "K", "M", "G", "T", "P", "E"])
}

/// A size on disk, such as `44.6 MB` (decimal).
pub fn bytes(number: u64) -> String {
    scaled(number, &["B", "KB", "MB", "GB", "TB", "PB", "EB"])
}

/// A fraction, such as `49.8 %`. What is not quite nothing or all has as many decimals as tell so.
pub fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    format!("{percent:.*} %", decimals(percent))
}

fn decimals(percent: f64) -> usize {
    let short = percent.abs().min((100.0 - percent.abs()).abs());
    if (1e-9..0.05).contains(&short) { (-short.log10() - 1e-6).ceil() as usize } else { 1 }
}

/// How much smaller or larger, such as `-49.8 %`.
pub fn change(before: u64, after: u64) -> String {
    if before == after {
        return "same".to_string();
    }
    let percent = (after as f64 / before.max(1) as f64 - 1.0) * 100.0;
    format!("{percent:+.*} %", decimals(percent))
}

/// A time, such as `123 ms` or `68.7 s`.
pub fn duration(milliseconds: f64) -> String {
    match milliseconds {
        short if short < 999.5 => format!("{short:.0} ms"),
        long => format!("{:.1} s", long / 1000.0),
    }
}

fn scaled(number: u64, units: &[&str]) -> String {
    let mut scaled = number as f64;
    let mut unit = 0;
    while unit + 1 < units.len() && scaled >= 999.5 {
        scaled /= 1000.0;
        unit += 1;
    }
    let decimals = match scaled {
        _ if unit == 0 => 0,
        small if small < 9.995 => 2,
        small if small < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$} {}", units[unit]).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let numbers = [0, 7, 999, 1000, 9_994, 9_996, 99_960, 999_499, 999_500, 1_814_073_344];
        let texts: Vec<_> = numbers.into_iter().map(count).collect();
        let expected =
            ["0", "7", "999", "1.00 K", "9.99 K", "10.0 K", "100 K", "999 K", "1.00 M", "1.81 G"];
        assert_eq!(texts, expected);
        assert_eq!(bytes(44_600_000), "44.6 MB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
    }

    #[test]
    fn times_over_a_second_are_in_seconds() {
        assert_eq!(duration(0.4), "0 ms");
        assert_eq!(duration(999.4), "999 ms");
        assert_eq!(duration(68_690.0), "68.7 s");
    }

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(change(200, 100), "-50.0 %");
        assert_eq!(change(100, 101), "+1.0 %");
        assert_eq!(change(5, 5), "same");
        assert_eq!(change(0, 0), "same");
    }

    #[test]
    fn what_is_not_quite_nothing_or_all_says_so() {
        let fractions = [0.0, 1e-6, 0.0004, 0.0005, 0.5, 0.9994, 0.99951, 0.99999, 1.0];
        let expected = [
            "0.0 %", "0.0001 %", "0.04 %", "0.1 %", "50.0 %", "99.9 %", "99.95 %", "99.999 %",
            "100.0 %",
        ];
        assert_eq!(fractions.map(percent), expected);
        assert_eq!(change(10_000, 10_001), "+0.01 %");
        assert_eq!(change(10_000, 1), "-99.99 %");
    }
}
