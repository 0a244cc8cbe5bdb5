//! Each option of a selection on small models, and what holds for all.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::criterion::{ScoreOptions, score};
use crate::group::Kind;
use crate::testing::{Builder, Opened};

/// Two convolutions and two linear layers in a row: groups of 16, 10, 24 and 8.
fn chain() -> Opened {
    Builder::default()
        .input("x", &[1, 3, 4, 4])
        .weight("stem.weight", &[16, 3, 3, 3])
        .weight("body.conv.weight", &[10, 16, 3, 3])
        .weight("head.0.weight", &[24, 160])
        .weight("head.1.weight", &[8, 24])
        .weight("head.2.weight", &[5, 8])
        .node("Conv", &["x", "stem.weight"], "/stem/Conv", &[("pads", &[1, 1, 1, 1])])
        .node("Relu", &["/stem/Conv"], "r", &[])
        .node("Conv", &["r", "body.conv.weight"], "/body/Conv", &[("pads", &[1, 1, 1, 1])])
        .node("Flatten", &["/body/Conv"], "flat", &[])
        .node("Gemm", &["flat", "head.0.weight"], "h0", &[("#transB", &[1])])
        .node("Relu", &["h0"], "h1", &[])
        .node("Gemm", &["h1", "head.1.weight"], "h2", &[("#transB", &[1])])
        .node("Gemm", &["h2", "head.2.weight"], "y", &[("#transB", &[1])])
        .output("y", &[1, 5])
        .open()
}

/// The scores of the first group are all below those of the others; statistics couple the third.
fn uneven() -> Opened {
    let ramp = |count: usize, scale: f32| -> Vec<f32> {
        (0..count).map(|index| (index + 1) as f32 * scale).collect()
    };
    Builder::default()
        .input("x", &[1, 1])
        .floats("a", &[4, 1], &ramp(4, 0.01))
        .floats("b", &[4, 4], &[0.01; 16])
        .floats("c", &[4, 4], &ramp(16, 1.0))
        .weight("gain", &[4])
        .weight("d", &[2, 4])
        .node("Gemm", &["x", "a"], "ya", &[("#transB", &[1])])
        .node("Gemm", &["ya", "b"], "yb", &[("#transB", &[1])])
        .node("Gemm", &["yb", "c"], "yc", &[("#transB", &[1])])
        .node("LayerNormalization", &["yc", "gain"], "yn", &[])
        .node("Gemm", &["yn", "d"], "y", &[("#transB", &[1])])
        .output("y", &[1, 2])
        .open()
}

fn selected(model: &Opened, options: &SelectOptions) -> Result<Selection> {
    selected_by(model, options, &ScoreOptions::default())
}

fn selected_by(model: &Opened, options: &SelectOptions, by: &ScoreOptions) -> Result<Selection> {
    let weights = model.weights();
    let mut scorer = |kept: Option<&Keeps>| score(model.graph(), &model.groups, &weights, by, kept);
    select(model.graph(), &model.groups, &model.cost, &mut scorer, options)
}

fn ratio(ratio: f64) -> SelectOptions {
    SelectOptions { target: Target::Ratio(ratio), ..SelectOptions::default() }
}

/// How many indices every group keeps, in order.
fn sizes(model: &Opened, options: &SelectOptions) -> Vec<usize> {
    let selection = selected(model, options).unwrap();
    let size = |(id, group): (GroupId, &crate::group::Group)| {
        selection.keeps.get(&id).map_or(group.size, Vec::len)
    };
    model.groups.iter().map(size).collect()
}

fn why(model: &Opened, options: &SelectOptions, group: &str) -> Option<String> {
    let id = model.group(group).0;
    let entries = selected(model, options).unwrap().entries;
    entries.into_iter().find(|entry| entry.group == id).unwrap().why
}

fn error(model: &Opened, options: &SelectOptions) -> (ErrorKind, String) {
    let error = selected(model, options).unwrap_err();
    (error.kind(), format!("{error}; {}", error.remedy().unwrap_or_default()))
}

#[test]
fn select_uniform_removes_the_ratio_of_every_group() {
    let model = chain();
    assert_eq!(sizes(&model, &ratio(0.5)), [8, 5, 12, 4]);
    assert_eq!(sizes(&model, &ratio(0.3)), [11, 7, 17, 6]);
    assert_eq!(sizes(&model, &ratio(0.99)), [1, 1, 1, 1]);
    assert_eq!(sizes(&model, &ratio(0.0)), [16, 10, 24, 8]);
}

#[test]
fn select_keeps_the_highest_scores() {
    let model = chain();
    let scorer = |_: Option<&Keeps>| {
        let scores = |group: &crate::group::Group| {
            Some((0..group.size).map(|index| (index % 4) as f64).collect())
        };
        Ok(Scores::new(model.groups.iter().map(|(_, group)| scores(group)).collect(), ""))
    };
    let mut scorer = scorer;
    let selection =
        select(model.graph(), &model.groups, &model.cost, &mut scorer, &ratio(0.5)).unwrap();
    assert_eq!(selection.keeps[&model.group("stem.weight:0").0], [2, 3, 6, 7, 10, 11, 14, 15]);
    assert_eq!(selection.keeps[&model.group("head.1.weight:0").0], [2, 3, 6, 7]);
    assert_eq!(selection.keeps[&model.group("body.conv.weight:0").0], [1, 2, 3, 6, 7]);
    assert_eq!(selection.before, model.cost.now());
    assert!(selection.after.parameters < selection.before.parameters);
}

#[test]
fn select_globally_takes_from_where_scores_are_low() {
    let model = uneven();
    let options = SelectOptions { scope: Scope::Global, ..ratio(0.5) };
    let by = ScoreOptions {
        normalization: Some(crate::criterion::Normalization::Identity),
        ..ScoreOptions::default()
    };
    let kept = |options: &SelectOptions| -> Vec<usize> {
        let selection = selected_by(&model, options, &by).unwrap();
        model
            .groups
            .iter()
            .map(|(id, g)| selection.keeps.get(&id).map_or(g.size, Vec::len))
            .collect()
    };
    assert_eq!(kept(&options), [1, 3, 2]);
    assert_eq!(kept(&SelectOptions { max_ratio: 0.5, ..options.clone() }), [2, 2, 2]);
    let least = SelectOptions { target: Target::Ratio(0.99), ..options };
    assert_eq!(kept(&least), [1, 1, 1]);
}

#[test]
fn select_ranks_groups_of_one_structure_together() {
    let model = chain();
    let options = SelectOptions { scope: Scope::Isomorphic, ..ratio(0.5) };
    let selection = selected(&model, &options).unwrap();
    let kept = |name: &str| selection.keeps.get(&model.group(name).0).map_or(0, Vec::len);
    assert_eq!(kept("stem.weight:0"), 8);
    assert_eq!(kept("body.conv.weight:0"), 5);
    assert_eq!(kept("head.0.weight:0") + kept("head.1.weight:0"), 16);
}

#[test]
fn select_overrides_ratios_by_pattern() {
    let model = chain();
    let patterns = |entries: &[(&str, f64)]| SelectOptions {
        ratio_for: entries.iter().map(|&(text, ratio)| (text.to_string(), ratio)).collect(),
        ..ratio(0.5)
    };
    assert_eq!(sizes(&model, &patterns(&[("stem*", 0.25)])), [12, 5, 12, 4]);
    assert_eq!(sizes(&model, &patterns(&[("head*", 0.25), ("head.1*:0", 0.0)])), [8, 5, 18, 8]);
    assert_eq!(sizes(&model, &patterns(&[("/body/*", 0.1)])), [8, 9, 12, 4]);
    let global = SelectOptions { scope: Scope::Global, ..patterns(&[("head.1*:0", 0.25)]) };
    assert_eq!(sizes(&model, &global)[3], 6);
}

#[test]
fn select_patterns_match_groups_parameters_and_nodes() {
    let model = chain();
    let keep =
        |text: &str| sizes(&model, &SelectOptions { keep: vec![text.to_string()], ..ratio(0.5) });
    assert_eq!(keep("stem.weight:0"), [16, 5, 12, 4]);
    assert_eq!(keep("body.conv.weight"), [16, 10, 12, 4]);
    assert_eq!(keep("*stem*"), [16, 5, 12, 4]);
    assert_eq!(keep("/body/*"), [16, 10, 12, 4]);
    let options = SelectOptions { keep: vec!["*stem*".into()], ..ratio(0.5) };
    assert_eq!(why(&model, &options, "stem.weight:0").unwrap(), "kept by --keep `*stem*`");
}

#[test]
fn select_patterns_that_match_nothing_are_errors() {
    let model = chain();
    let options = SelectOptions { keep: vec!["steam*".into()], ..ratio(0.5) };
    let expected = "the pattern `steam*` matches nothing; \
                    names like it: `stem.weight`, `stem.weight:0`, `/stem/Conv`";
    assert_eq!(error(&model, &options), (ErrorKind::Argument, expected.into()));
    let options = SelectOptions { ratio_for: vec![("[z-a]".into(), 0.5)], ..ratio(0.5) };
    assert_eq!(error(&model, &options).0, ErrorKind::Argument);
}

#[test]
fn select_leaves_other_kinds_and_approximate_groups_alone() {
    let model = uneven();
    let options = SelectOptions { exact_only: true, ..ratio(0.5) };
    assert_eq!(sizes(&model, &options), [2, 2, 4]);
    let reason = why(&model, &options, "c:0").unwrap();
    assert_eq!(reason, "approximate, and only exact groups were asked for");
    let model = chain();
    let options = SelectOptions { kinds: BTreeSet::from([Kind::Channels]), ..ratio(0.5) };
    assert_eq!(sizes(&model, &options), [8, 5, 24, 8]);
    let reason = why(&model, &options, "head.0.weight:0").unwrap();
    assert_eq!(reason, "kind `features` is not selected");
}

#[test]
fn select_keeps_multiples() {
    let model = chain();
    let multiple = |multiple_of, r| SelectOptions { multiple_of, ..ratio(r) };
    assert_eq!(sizes(&model, &multiple(8, 0.3)), [8, 8, 16, 8]);
    assert_eq!(sizes(&model, &multiple(4, 0.9)), [4, 4, 4, 4]);
    assert_eq!(sizes(&model, &multiple(12, 0.5)), [12, 10, 12, 8]);
    let reason = why(&model, &multiple(12, 0.5), "head.1.weight:0").unwrap();
    assert_eq!(reason, "fewer indices than --multiple-of 12");
    let reason = why(&model, &multiple(4, 0.9), "head.1.weight:0").unwrap();
    assert_eq!(reason, "rounded to a multiple of 4");
}

#[test]
fn select_caps_what_a_group_may_lose() {
    let model = chain();
    let options = SelectOptions { max_ratio: 0.25, ..ratio(0.5) };
    assert_eq!(sizes(&model, &options), [12, 8, 18, 6]);
    let reason = why(&model, &options, "stem.weight:0").unwrap();
    assert_eq!(reason, "no more than --max-ratio 0.25 may go");
    let capped = SelectOptions { multiple_of: 6, ..options };
    assert_eq!(sizes(&model, &capped), [12, 10, 18, 6]);
    assert_eq!(
        why(&model, &capped, "body.conv.weight:0").unwrap(),
        "--max-ratio leaves no multiple of 6 to keep"
    );
}

#[test]
fn select_meets_targets() {
    let model = chain();
    let now = model.cost.now();
    for scope in [Scope::Uniform, Scope::Global, Scope::Isomorphic] {
        let met = |target| {
            let options = SelectOptions { target, scope, ..SelectOptions::default() };
            selected(&model, &options).unwrap().after
        };
        let macs = met(Target::Macs(Amount::Fraction(0.4))).macs;
        assert!(macs as f64 <= 0.4 * now.macs as f64 && macs as f64 > 0.3 * now.macs as f64);
        let parameters = met(Target::Parameters(Amount::Absolute(2000))).parameters;
        assert!(parameters <= 2000 && parameters > 1600, "{parameters}");
        let bytes = met(Target::Size(Amount::Absolute(8000))).bytes;
        assert!(bytes <= 8000 && bytes > 6400, "{bytes}");
    }
}

#[test]
fn select_fills_targets_with_single_indices() {
    let model = chain();
    for percent in 20..90_u32 {
        let target = Target::Macs(Amount::Fraction(f64::from(percent) / 100.0));
        let selection = selected(&model, &SelectOptions { target, ..Default::default() }).unwrap();
        let sizes = |keeps: &Keeps, group| keeps.get(&group).map(Vec::len);
        let plain = selected(&model, &ratio(selection.entries[0].asked)).unwrap().keeps;
        for (group, kept) in &selection.keeps {
            let more = kept.len().saturating_sub(sizes(&plain, *group).unwrap_or(kept.len()));
            assert!(more <= 1, "{more} more");
            let with = |id| match id == *group {
                true => Some(kept.len() + 1),
                false => sizes(&selection.keeps, id),
            };
            let macs = model.cost.with(&with).macs * 100;
            assert!(more == 1 || macs > selection.before.macs * u64::from(percent), "{percent} %");
        }
    }
}

#[test]
fn select_targets_leave_overridden_ratios_fixed() {
    let model = chain();
    let options = SelectOptions {
        target: Target::Macs(Amount::Fraction(0.5)),
        ratio_for: vec![("stem*:0".into(), 0.25)],
        ..SelectOptions::default()
    };
    let selection = selected(&model, &options).unwrap();
    assert_eq!(selection.keeps[&model.group("stem.weight:0").0].len(), 12);
    assert!(selection.after.macs * 2 <= selection.before.macs);
}

#[test]
fn select_says_what_can_be_reached() {
    let model = chain();
    let options = SelectOptions {
        target: Target::Macs(Amount::Fraction(0.1)),
        max_ratio: 0.5,
        ..SelectOptions::default()
    };
    let expected = "at least 10244 of 34024 MACs (30.2 %) remain, and the target is 3402; raise the \
                    target or --max-ratio, keep less with --keep, or allow more with --kinds";
    assert_eq!(error(&model, &options), (ErrorKind::Unreachable, expected.into()));
    let now = model.cost.now().parameters;
    let options = SelectOptions { target: Target::Parameters(Amount::Absolute(now)), ..ratio(0.5) };
    let expected = format!(
        "the model has {now} parameters, which is not above the target of {now}; \
         give a target below what the model has, or a ratio"
    );
    assert_eq!(error(&model, &options), (ErrorKind::Argument, expected));
}

#[test]
fn select_says_why_nothing_can_be_cut() {
    let model = chain();
    let options = SelectOptions { keep: vec!["*".into()], ..ratio(0.5) };
    let expected = "no group can be cut: kept by --keep `*` (4); keep less with --keep, allow more \
                    with --kinds, or choose another --criterion";
    assert_eq!(error(&model, &options), (ErrorKind::Unreachable, expected.into()));
}

#[test]
fn select_options_out_of_range_are_refused() {
    let model = chain();
    let check = |options: SelectOptions| assert_eq!(error(&model, &options).0, ErrorKind::Argument);
    for wrong in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        check(ratio(wrong));
        check(SelectOptions { ratio_for: vec![("stem*".into(), wrong)], ..ratio(0.5) });
    }
    for max_ratio in [0.0, 1.1, f64::NAN] {
        check(SelectOptions { max_ratio, ..ratio(0.5) });
    }
    check(SelectOptions { multiple_of: 0, ..ratio(0.5) });
    check(SelectOptions { steps: 0, ..ratio(0.5) });
    for amount in [0.0, 1.0, -1.0, f64::NAN] {
        check(SelectOptions { target: Target::Macs(Amount::Fraction(amount)), ..ratio(0.5) });
    }
    check(SelectOptions { target: Target::Size(Amount::Absolute(0)), ..ratio(0.5) });
}

#[test]
fn select_in_steps_scores_what_is_left() {
    let model = chain();
    let weights = model.weights();
    let options = SelectOptions { steps: 3, ..ratio(0.6) };
    let mut seen = Vec::new();
    let mut scorer = |kept: Option<&Keeps>| {
        let size = |id| kept.and_then(|kept| kept.get(&id)).map(Vec::len);
        seen.push(size(model.group("stem.weight:0").0));
        score(model.graph(), &model.groups, &weights, &ScoreOptions::default(), kept)
    };
    let selection =
        select(model.graph(), &model.groups, &model.cost, &mut scorer, &options).unwrap();
    assert_eq!(seen, [None, Some(13), Some(10)]);
    assert_eq!(selection.keeps[&model.group("stem.weight:0").0].len(), 6);
    let target = SelectOptions {
        target: Target::Macs(Amount::Fraction(0.5)),
        schedule: Schedule::Cubic,
        ..options
    };
    let selection = selected(&model, &target).unwrap();
    assert!(selection.after.macs * 2 <= selection.before.macs);
}

#[test]
fn select_schedules_end_at_the_ratio() {
    let progress = |schedule: Schedule| (1..=4).map(move |step| schedule.progress(step, 4));
    assert_eq!(progress(Schedule::Linear).collect::<Vec<_>>(), [0.25, 0.5, 0.75, 1.0]);
    let cubic: Vec<f64> = progress(Schedule::Cubic).collect();
    assert_eq!(cubic, [0.578125, 0.875, 0.984375, 1.0]);
}

#[test]
fn select_amounts_are_parsed() {
    let parse = |text: &str| text.parse::<Amount>();
    for (text, fraction) in [("50%", 0.5), ("12.5 %", 0.125), ("0.5", 0.5)] {
        assert_eq!(parse(text).unwrap(), Amount::Fraction(fraction), "{text}");
    }
    let numbers: [(&str, u64); 10] = [
        ("2G", 2_000_000_000),
        ("3m", 3_000_000),
        ("10MB", 10_000_000),
        ("512KiB", 524_288),
        ("1.5e9", 1_500_000_000),
        ("0.5M", 500_000),
        ("1.8 G", 1_800_000_000),
        ("12", 12),
        ("7B", 7),
        ("0", 0),
    ];
    for (text, number) in numbers {
        assert_eq!(parse(text).unwrap(), Amount::Absolute(number), "{text}");
    }
    for text in ["", "%", "-1", "x", "5X", "nan", "inf", "1e999", "--5", "G"] {
        assert_eq!(parse(text).unwrap_err().kind(), ErrorKind::Argument, "{text}");
    }
}

#[test]
fn select_names_are_parsed() {
    for name in Scope::NAMES {
        assert_eq!(name.parse::<Scope>().unwrap().name(), *name);
    }
    for name in Schedule::NAMES {
        assert_eq!(name.parse::<Schedule>().unwrap().name(), *name);
    }
    let error = "local".parse::<Scope>().unwrap_err();
    assert_eq!(error.to_string(), "unknown scope `local`");
}

fn any_options() -> impl Strategy<Value = SelectOptions> {
    let target = prop_oneof![
        (0.0..0.999).prop_map(Target::Ratio),
        (0.05..0.95).prop_map(|f| Target::Macs(Amount::Fraction(f))),
        (0.05..0.95).prop_map(|f| Target::Parameters(Amount::Fraction(f))),
        (500u64..20000).prop_map(|n| Target::Size(Amount::Absolute(n))),
    ];
    let scope = prop::sample::select(vec![Scope::Uniform, Scope::Global, Scope::Isomorphic]);
    let schedule = prop::sample::select(vec![Schedule::Linear, Schedule::Cubic]);
    (target, scope, schedule, 1usize..14, 0.1..=1.0, 1usize..4).prop_map(
        |(target, scope, schedule, multiple_of, max_ratio, steps)| SelectOptions {
            target,
            scope,
            schedule,
            multiple_of,
            max_ratio,
            steps,
            ..SelectOptions::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn select_keeps_its_promises(options in any_options()) {
        let model = chain();
        let Ok(selection) = selected(&model, &options) else {
            let kind = selected(&model, &options).unwrap_err().kind();
            prop_assert!(matches!(kind, ErrorKind::Unreachable | ErrorKind::Argument));
            return Ok(());
        };
        prop_assert_eq!(&selected(&model, &options).unwrap(), &selection);
        for (&id, kept) in &selection.keeps {
            let size = model.groups.get(id).size;
            prop_assert!(!kept.is_empty() && kept.len() < size);
            prop_assert!(kept.is_sorted_by(|a, b| a < b) && kept[kept.len() - 1] < size as u32);
            prop_assert_eq!(kept.len() % options.multiple_of, 0);
            prop_assert!(size as f64 * (1.0 - options.max_ratio) <= kept.len() as f64 + 1e-6);
        }
        prop_assert_eq!(selection.entries.len(), model.groups.len());
        let before = selection.before;
        let within = |amount, now: u64, found: u64| match amount {
            Amount::Fraction(fraction) => found as f64 <= now as f64 * fraction,
            Amount::Absolute(number) => found <= number,
        };
        match options.target {
            Target::Ratio(_) => {}
            Target::Macs(a) => prop_assert!(within(a, before.macs, selection.after.macs)),
            Target::Parameters(a) => {
                prop_assert!(within(a, before.parameters, selection.after.parameters));
            }
            Target::Size(a) => prop_assert!(within(a, before.bytes, selection.after.bytes)),
        }
    }
}
