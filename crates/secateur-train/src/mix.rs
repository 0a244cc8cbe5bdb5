//! Samples that are mixed in pairs.

use burn_backend::TensorMetadata;

use crate::data::random::{Random, derive};
use crate::ops::index::select;
use crate::{Engine, Error, Result, Value};

/// How the samples of a batch are mixed. The part that a sample keeps is drawn for every batch from
/// the distribution Beta(α, α); targets count by their parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mixing {
    /// Weighted sums of two samples: Zhang et al., "mixup", 2018.
    Mixup(f64),
    /// A rectangle of another image: Yun et al., "CutMix", 2019.
    CutMix(f64),
}

/// The largest α.
const MOST: f64 = 4.0;

/// How one batch is mixed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairing {
    /// The other sample of each.
    pub partners: Vec<usize>,
    /// The part that each keeps.
    pub part: f64,
    /// The rows and columns that come from the other sample, where samples are not summed.
    pub region: Option<[std::ops::Range<usize>; 2]>,
}

impl Mixing {
    /// How the batch of a step is mixed, whose first input has this shape.
    ///
    /// # Errors
    /// When α is not in 0 to 4, or rectangles are asked for and samples are no images `[n, c, h, w]`.
    pub fn draw(self, seed: u64, step: u64, shape: &[usize]) -> Result<Pairing> {
        let (Mixing::Mixup(alpha) | Mixing::CutMix(alpha)) = self;
        if !(alpha > 0.0 && alpha <= MOST) {
            let text = format!("samples are mixed with {alpha}, which is not in 0 to {MOST}");
            return Err(Error::argument(text).hint("usual are 0.2 for mixup and 1 for CutMix"));
        }
        let mut random = Random::new(derive(seed ^ 0x6d69_7869_6e67, step));
        let mut partners: Vec<usize> = (0..shape.first().copied().unwrap_or_default()).collect();
        random.shuffle(&mut partners);
        let part = beta(alpha, &mut random);
        if matches!(self, Mixing::Mixup(_)) {
            return Ok(Pairing { partners, part, region: None });
        }
        let &[_, _, height, width] = shape else {
            let text = format!("rectangles cannot be cut out of samples of shape {shape:?}");
            return Err(Error::argument(text).hint("mix whole samples: `--mixup`"));
        };
        let side = (1.0 - part).sqrt();
        let mut range = |size: usize| {
            let half = (side * size as f64 / 2.0) as usize;
            let middle = random.below(size);
            middle.saturating_sub(half)..(middle + half).min(size)
        };
        let region = [range(height), range(width)];
        let part = 1.0 - (region[0].len() * region[1].len()) as f64 / (height * width) as f64;
        Ok(Pairing { partners, part, region: Some(region) })
    }
}

impl Pairing {
    /// The mixed samples of an input.
    ///
    /// # Errors
    /// When they are no real numbers.
    pub fn mix<B: Engine>(&self, input: Value<B>) -> Result<Value<B>> {
        let Value::Float(own) = input else {
            return Err(Error::argument("samples that are no real numbers cannot be mixed"));
        };
        let other = self.partners(Value::<B>::Float(own.clone()))?.float()?;
        let mut mask = vec![self.part as f32];
        let mut shape = vec![1; own.shape().num_dims()];
        if let (Some([rows, columns]), &[_, _, height, width]) = (&self.region, &own.shape()[..]) {
            let inside =
                |at: usize| rows.contains(&(at / width)) && columns.contains(&(at % width));
            mask = (0..height * width).map(|at| if inside(at) { 0.0 } else { 1.0 }).collect();
            shape = vec![1, 1, height, width];
        }
        let mask = Value::<B>::of_floats(mask, shape, &own.device()).float()?;
        let difference = B::float_mul(B::float_sub(own, other.clone()), mask);
        Ok(Value::Float(B::float_add(other, difference)))
    }

    /// The targets, and the parts that they count by.
    ///
    /// # Errors
    /// When they are not as many as the samples.
    pub fn targets<B: Engine>(&self, target: Value<B>) -> Result<Vec<(f64, Value<B>)>> {
        if target.shape().first() != Some(&self.partners.len()) {
            return Err(Error::argument("the targets of mixed samples are not as many as these"));
        }
        let other = self.partners(target.clone())?;
        Ok(vec![(self.part, target), (1.0 - self.part, other)])
    }

    fn partners<B: Engine>(&self, value: Value<B>) -> Result<Value<B>> {
        let picks = self.partners.iter().map(|&at| at as i64).collect();
        let picks = Value::<B>::of_ints(picks, vec![self.partners.len()], &value.device()).int()?;
        Ok(select(value, 0, picks))
    }
}

/// A draw from Beta(α, α): Jöhnk, "Erzeugung von betaverteilten und gammaverteilten Zufallszahlen",
/// 1964, whose tries get many where α is large. One that underflows is a coin.
fn beta(alpha: f64, random: &mut Random) -> f64 {
    loop {
        let (x, y) = (random.unit().powf(1.0 / alpha), random.unit().powf(1.0 / alpha));
        if x + y <= 1.0 && x + y > 0.0 {
            return x / (x + y);
        }
        if x + y == 0.0 {
            return f64::from(u8::from(random.coin()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;

    #[test]
    fn parts_have_the_moments_of_their_distribution() {
        for alpha in [0.2, 1.0, 4.0] {
            let mut random = Random::new(1);
            let drawn: Vec<f64> = (0..20_000).map(|_| beta(alpha, &mut random)).collect();
            let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
            let spread = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
            assert!((spread - expected).abs() < 0.03 * expected, "{alpha}: {spread}, {expected}");
        }
    }

    #[test]
    fn sums_and_rectangles_are_mixed_as_targets_are() {
        let numbers: Vec<f32> = (0..96).map(|x| x as f32).collect();
        let input =
            || Value::<Cpu>::of_floats(numbers.clone(), vec![2, 3, 4, 4], &Default::default());
        for mixing in [Mixing::Mixup(1.0), Mixing::CutMix(1.0)] {
            for step in 0..20 {
                let mut pairing = mixing.draw(7, step, &[2, 3, 4, 4]).unwrap();
                assert_eq!(pairing, mixing.draw(7, step, &[2, 3, 4, 4]).unwrap());
                pairing.partners = vec![1, 0];
                let mixed = pairing.mix(input()).unwrap().to_floats().unwrap();
                // All elements of one sample are 48 below those of the other.
                let moved: f32 = mixed[..48].iter().zip(&numbers).map(|(a, b)| a - b).sum();
                let part = 1.0 - f64::from(moved) / (48.0 * 48.0);
                assert!((part - pairing.part).abs() < 1e-5, "{part} {}", pairing.part);
            }
        }
    }

    #[test]
    fn only_images_have_rectangles() {
        let error = Mixing::CutMix(1.0).draw(0, 0, &[8, 10]).unwrap_err();
        assert!(error.to_string().contains("rectangles cannot be cut out"), "{error}");
    }
}
