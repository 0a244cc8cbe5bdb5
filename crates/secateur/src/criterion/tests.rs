//! Criteria against naive references and numbers made by hand.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::distance::Distances;
use super::reduce;
use super::*;
use crate::group::Keeps;
use crate::onnx::proto;
use crate::tensor::{Keep, TensorView};
use crate::testing::{Builder, Opened};
use crate::{DType, ErrorKind, Result};

/// `x → a (4 channels) ++ b (6 channels) → c (5 channels)`, flattened into a linear layer.
fn branches() -> Opened {
    Builder::default()
        .input("x", &[1, 3, 2, 2])
        .weight("a", &[4, 3, 1, 1])
        .weight("b", &[6, 3, 1, 1])
        .weight("c", &[5, 10, 1, 1])
        .weight("d", &[7, 20])
        .node("Conv", &["x", "a"], "ya", &[])
        .node("Conv", &["x", "b"], "yb", &[])
        .node("Concat", &["ya", "yb"], "cat", &[("#axis", &[1])])
        .node("Conv", &["cat", "c"], "yc", &[])
        .node("Flatten", &["yc"], "flat", &[])
        .node("Gemm", &["flat", "d"], "y", &[("#transB", &[1])])
        .output("y", &[1, 7])
        .open()
}

fn normed() -> Opened {
    Builder::default()
        .input("x", &[1, 2, 2, 2])
        .weight("w", &[3, 2, 1, 1])
        .floats("scale", &[3], &[0.5, -2.0, 1.5])
        .weight("bias", &[3])
        .weight("mean", &[3])
        .floats("var", &[3], &[1.0, 1.0, 1.0])
        .weight("v", &[4, 3, 1, 1])
        .weight("u", &[2, 4, 1, 1])
        .node("Conv", &["x", "w"], "y1", &[])
        .node("BatchNormalization", &["y1", "scale", "bias", "mean", "var"], "y2", &[])
        .node("Conv", &["y2", "v"], "y3", &[])
        .node("Conv", &["y3", "u"], "y4", &[])
        .output("y4", &[1, 2, 2, 2])
        .open()
}

fn options(criterion: &str) -> ScoreOptions {
    let criterion = Criterion::named(criterion).unwrap();
    let normalization = Some(Normalization::Identity);
    ScoreOptions { criterion, normalization, ..ScoreOptions::default() }
}

fn scored(model: &Opened, options: &ScoreOptions, kept: Option<&Keeps>) -> Result<Scores> {
    score(model.graph(), &model.groups, &model.weights(), options, kept)
}

fn scores_of(model: &Opened, group: &str, options: &ScoreOptions) -> Vec<f64> {
    let scores = scored(model, options, None).unwrap();
    scores.get(model.group(group).0).unwrap().to_vec()
}

fn values(model: &Opened, name: &str) -> Vec<f64> {
    let id = model.graph().param_ids().find(|&id| model.graph().param(id).name == name);
    model.weights().view(id.unwrap()).unwrap().to_f64s().unwrap()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} {expected}");
    }
}

fn encode(dtype: DType, values: &[f64]) -> Vec<u8> {
    let bytes = |value: &f64| match dtype {
        DType::F64 => value.to_le_bytes().to_vec(),
        DType::F32 => (*value as f32).to_le_bytes().to_vec(),
        DType::F16 => half::f16::from_f64(*value).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f64(*value).to_le_bytes().to_vec(),
        DType::I8 => (*value as i8).to_le_bytes().to_vec(),
        _ => vec![value.abs() as u8],
    };
    values.iter().flat_map(bytes).collect()
}

fn naive_sums(dims: &[usize], axis: usize, keep: &Keep, numbers: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; dims[axis]];
    for (offset, number) in numbers.iter().enumerate() {
        let mut rest = offset;
        let mut place = vec![0; dims.len()];
        for at in (0..dims.len()).rev() {
            place[at] = rest % dims[at];
            rest /= dims[at];
        }
        let kept = |(place, keep): (&usize, &Option<Vec<u32>>)| {
            keep.as_ref().is_none_or(|keep| keep.contains(&(*place as u32)))
        };
        if place.iter().zip(keep).all(kept) {
            sums[place[axis]] += number;
        }
    }
    sums
}

fn check_sums(dtype: DType, dims: &[usize], keep: &Keep) {
    let count = dims.iter().product::<usize>();
    let mut rng = fastrand::Rng::with_seed(count as u64);
    // Small halves are exact in every type but the integers, whole numbers in all.
    let step = if dtype.is_float() { 0.5 } else { 1.0 };
    let numbers: Vec<f64> = (0..count).map(|_| f64::from(rng.i32(-9..9)) * step).collect();
    let view = TensorView::new(dtype, dims.to_vec(), encode(dtype, &numbers).into()).unwrap();
    let axes: Vec<usize> = (0..dims.len()).collect();
    for chosen in [axes.clone(), axes.iter().copied().step_by(2).collect()] {
        let read = AtomicUsize::new(0);
        let count = |part: &[u8]| {
            read.fetch_add(part.len(), Ordering::Relaxed);
        };
        let magnitude = reduce::sums(&view, Measure::Magnitude, &chosen, keep, count).unwrap();
        assert_eq!(read.into_inner(), view.data.len());
        let square = reduce::sums(&view, Measure::Square, &chosen, keep, |_| ()).unwrap();
        for (place, &axis) in chosen.iter().enumerate() {
            let naive = |f: fn(f64) -> f64| {
                naive_sums(dims, axis, keep, &numbers.iter().map(|&n| f(n)).collect::<Vec<_>>())
            };
            assert_eq!(magnitude[place], naive(f64::abs), "{dtype} {dims:?} axis {axis}");
            assert_eq!(square[place], naive(|n| n * n), "{dtype} {dims:?} axis {axis}");
        }
    }
}

fn shape_and_keep() -> impl Strategy<Value = (Vec<usize>, Keep)> {
    let axis = (0_usize..7).prop_flat_map(|dim| {
        let keep = proptest::collection::btree_set(0..dim.max(1) as u32, 0..=dim);
        (Just(dim), proptest::option::of(keep.prop_map(|set| set.into_iter().collect())))
    });
    proptest::collection::vec(axis, 0..5).prop_map(|axes| axes.into_iter().unzip())
}

proptest! {
    #[test]
    fn criterion_sums_agree_with_a_naive_reference(
        (dims, keep) in shape_and_keep(),
        dtype in prop::sample::select(vec![
            DType::F64, DType::F32, DType::F16, DType::BF16, DType::I8, DType::U8,
        ]),
    ) {
        check_sums(dtype, &dims, &keep);
    }
}

#[test]
fn criterion_sums_cross_blocks_and_tasks() {
    let some = |keep: &[u32]| Some(keep.to_vec());
    check_sums(DType::F32, &[3, 5000], &vec![None, some(&[0, 2047, 2048, 4999])]);
    check_sums(DType::F32, &[5000, 3], &vec![some(&[1, 4998]), None]);
    check_sums(DType::BF16, &[70, 300, 3, 3], &vec![None; 4]);
    check_sums(DType::F16, &[2, 3000, 2, 1], &vec![some(&[1]), None, some(&[0]), None]);
    check_sums(DType::F32, &[1100, 1100], &vec![None, None]);
}

#[test]
fn criterion_types_that_are_no_numbers_are_refused() {
    let view = TensorView::new(DType::F8, vec![2], vec![0, 0].into()).unwrap();
    let error = reduce::sums(&view, Measure::Square, &[0], &vec![None], |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "elements of type f8 cannot be scored");
}

/// The mean over producer rows and consumer columns of a group of `a`, `b` or `c`.
fn naive_l2(model: &Opened, producer: &str, consumer: &str, columns: &[Vec<usize>]) -> Vec<f64> {
    let (rows, other) = (values(model, producer), values(model, consumer));
    let row_len = rows.len() / columns.len();
    let width = if consumer == "c" { 10 } else { 20 };
    let norm = |numbers: &[f64]| numbers.iter().map(|n| n * n).sum::<f64>().sqrt();
    let of = |(index, columns): (usize, &Vec<usize>)| {
        let column: Vec<f64> =
            other.chunks(width).flat_map(|row| columns.iter().map(|&column| row[column])).collect();
        (norm(&rows[index * row_len..][..row_len]) + norm(&column)) / 2.0
    };
    columns.iter().enumerate().map(of).collect()
}

#[test]
fn criterion_l2_follows_segments_and_products() {
    let model = branches();
    let l2 = |group| scores_of(&model, group, &options("l2"));
    let first: Vec<_> = (0..4).map(|i| vec![i]).collect();
    assert_close(&l2("a:0"), &naive_l2(&model, "a", "c", &first));
    let second: Vec<_> = (0..6).map(|i| vec![4 + i]).collect();
    assert_close(&l2("b:0"), &naive_l2(&model, "b", "c", &second));
    let product: Vec<_> = (0..5).map(|i| (0..4).map(|p| i * 4 + p).collect()).collect();
    assert_close(&l2("c:0"), &naive_l2(&model, "c", "d", &product));
}

#[test]
fn criterion_roles_and_aggregation_are_chosen() {
    let model = branches();
    let with = |roles: &[Role], aggregation| {
        let roles = Some(roles.iter().copied().collect());
        scores_of(&model, "a:0", &ScoreOptions { roles, aggregation, ..options("l1") })
    };
    let produced = with(&[Role::Producer], Aggregation::Mean);
    let rows: Vec<f64> =
        values(&model, "a").chunks(3).map(|row| row.iter().map(|n| n.abs()).sum()).collect();
    assert_close(&produced, &rows);
    let consumed = with(&[Role::Consumer], Aggregation::Mean);
    let both = |f: fn(f64, f64) -> f64| -> Vec<f64> {
        produced.iter().zip(&consumed).map(|(&p, &c)| f(p, c)).collect()
    };
    let roles = [Role::Producer, Role::Consumer];
    assert_close(&with(&roles, Aggregation::Sum), &both(|p, c| p + c));
    assert_close(&with(&roles, Aggregation::Max), &both(f64::max));
    assert_close(&with(&roles, Aggregation::Product), &both(|p, c| p * c));
    assert_close(&with(&roles, Aggregation::First), &produced);
    let none = ScoreOptions { roles: Some(BTreeSet::from([Role::Table])), ..options("l1") };
    let scores = scored(&model, &none, None).unwrap();
    assert_eq!(scores.get(model.group("a:0").0), None);
    assert_eq!(scores.missing(), "no weight of it counts");
}

#[test]
fn criterion_normalizations_make_groups_comparable() {
    let normalized = |normalization: &str, scores: &[f64]| {
        let mut scores = scores.to_vec();
        normalization.parse::<Normalization>().unwrap().apply(&mut scores);
        scores
    };
    assert_eq!(normalized("mean", &[1.0, 3.0]), [0.5, 1.5]);
    assert_eq!(normalized("max", &[1.0, 4.0]), [0.25, 1.0]);
    assert_eq!(normalized("sum", &[1.0, 3.0]), [0.25, 0.75]);
    assert_eq!(normalized("standardize", &[1.0, 3.0]), [-1.0, 1.0]);
    assert_eq!(normalized("none", &[1.0, 3.0]), [1.0, 3.0]);
    for name in Normalization::NAMES {
        assert_eq!(normalized(name, &[0.0, 0.0]), [0.0, 0.0], "{name}");
    }
}

#[test]
fn criterion_lamp_compares_with_what_is_not_smaller() {
    let mut scores = [4.0, 1.0, 9.0];
    (Criterion::named("lamp").unwrap().group)(&mut scores);
    assert_close(&scores, &[4.0 / 13.0, 1.0 / 14.0, 1.0]);
    let mut ties = [2.0, 2.0, 0.0];
    (Criterion::named("lamp").unwrap().group)(&mut ties);
    assert_close(&ties, &[0.5, 0.5, 0.0]);
}

#[test]
fn criterion_fpgm_sums_distances() {
    let model = Builder::default()
        .input("x", &[1, 2, 2, 2])
        .floats("w", &[3, 2, 1, 1], &[0.0, 0.0, 3.0, 4.0, 6.0, 8.0])
        .weight("v", &[4, 3, 1, 1])
        .node("Conv", &["x", "w"], "y1", &[])
        .node("Conv", &["y1", "v"], "y2", &[])
        .output("y2", &[1, 4, 2, 2])
        .open();
    assert_close(&scores_of(&model, "w:0", &options("fpgm")), &[15.0, 10.0, 15.0]);
    let kept = Keeps::from([(model.group("w:0").0, vec![0, 1])]);
    let scores = scored(&model, &options("fpgm"), Some(&kept)).unwrap();
    assert_eq!(scores.get(model.group("w:0").0).unwrap(), [5.0, 5.0, f64::NEG_INFINITY]);
}

#[test]
fn criterion_fpgm_agrees_with_a_naive_reference() {
    let model = branches();
    let roles = Some(BTreeSet::from([Role::Consumer]));
    let found = scores_of(&model, "c:0", &ScoreOptions { roles, ..options("fpgm") });
    let d = values(&model, "d");
    let member = |i: usize| -> Vec<f64> {
        d.chunks(20).flat_map(|row| row[i * 4..][..4].to_vec()).collect()
    };
    let distance =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    let sum = |i| (0..5).map(|j| distance(&member(i), &member(j))).sum();
    let expected: Vec<f64> = (0..5).map(sum).collect();
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
    }
}

/// Filters in several blocks of several pieces; the second half repeats the first, but for one bit of
/// one element of each.
#[test]
fn criterion_fpgm_tells_filters_that_are_almost_equal() {
    const HALF: usize = 150;
    const WIDTH: usize = 1300;
    let mut rng = fastrand::Rng::with_seed(7);
    let mut rows: Vec<Vec<f32>> =
        (0..HALF).map(|_| (0..WIDTH).map(|_| rng.f32() - 0.5).collect()).collect();
    for index in 0..HALF {
        let mut row = rows[index].clone();
        row[index] = f32::from_bits(row[index].to_bits() + 1);
        rows.push(row);
    }
    let data: Vec<u8> = rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    let view = TensorView::new(DType::F32, vec![2 * HALF, WIDTH], data.into()).unwrap();
    let members: Vec<Vec<u32>> = (0..2 * HALF as u32).map(|row| vec![row]).collect();
    let distances = Distances::new(&view, 0, &members, &vec![None, None]).unwrap();
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    for (row, found) in rows.iter().zip(distances.sums(|| ())) {
        let distance = |other: &Vec<f32>| row.iter().zip(other).map(square).sum::<f64>().sqrt();
        let expected: f64 = rows.iter().map(distance).sum();
        assert!((found - expected).abs() < 1e-9 * expected, "{found} {expected}");
    }
    let twins = [vec![3], vec![3]];
    let distances = Distances::new(&view, 0, &twins, &vec![None, None]).unwrap();
    assert_eq!(distances.sums(|| ()), [0.0, 0.0]);
}

#[test]
fn criterion_bn_scale_needs_a_normalization() {
    let model = normed();
    let scores = scored(&model, &options("bn-scale"), None).unwrap();
    assert_close(scores.get(model.group("w:0").0).unwrap(), &[0.5, 2.0, 1.5]);
    assert_eq!(scores.get(model.group("v:0").0), None);
    assert_eq!(scores.missing(), "no normalization scale follows it");
}

#[test]
fn criterion_random_follows_its_seed() {
    let model = branches();
    let random = |seed| scores_of(&model, "a:0", &ScoreOptions { seed, ..options("random") });
    assert_eq!(random(1), random(1));
    assert_ne!(random(1), random(2));
    assert!(random(1).iter().all(|score| (0.0..1.0).contains(score)));
    assert_ne!(
        random(1),
        scores_of(&model, "b:0", &ScoreOptions { seed: 1, ..options("random") })[..4]
    );
}

#[test]
fn criterion_scores_do_not_depend_on_the_number_of_threads() {
    let model = Builder::default()
        .input("x", &[1, 1500])
        .weight("w", &[1500, 1500])
        .weight("v", &[4, 1500])
        .node("Gemm", &["x", "w"], "h", &[("#transB", &[1])])
        .node("Gemm", &["h", "v"], "y", &[("#transB", &[1])])
        .output("y", &[1, 4])
        .open();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| scores_of(&model, "w:0", &options("l2")))
    };
    assert_eq!(with(1), with(4));
}

#[test]
fn criterion_kept_indices_are_scored_as_if_the_rest_was_gone() {
    let model = branches();
    let (a, b) = (model.group("a:0").0, model.group("b:0").0);
    let kept = Keeps::from([(a, vec![1, 3]), (b, vec![0])]);
    let scores = scored(&model, &options("l1"), Some(&kept)).unwrap();
    let c = values(&model, "c");
    let row = |row: &[f64]| row.iter().map(|n| n.abs()).sum::<f64>();
    let rows = c.chunks(10).map(|r| row(&[r[1], r[3], r[4]]));
    let d = values(&model, "d");
    let columns = (0..5).map(|i| d.chunks(20).map(|r| row(&r[i * 4..][..4])).sum::<f64>());
    let expected: Vec<f64> = rows.zip(columns).map(|(r, c)| (r + c) / 2.0).collect();
    assert_close(scores.get(model.group("c:0").0).unwrap(), &expected);
    let removed = scores.get(a).unwrap().iter().map(|score| score.is_finite());
    assert_eq!(removed.collect::<Vec<_>>(), [false, true, false, true]);
}

#[test]
fn criterion_weights_that_are_not_finite_are_named() {
    for (criterion, number) in [("l2", f32::NAN), ("fpgm", f32::NAN), ("l1", f32::INFINITY)] {
        let model = Builder::default()
            .input("x", &[1, 1, 2, 2])
            .floats("w", &[2, 1, 1, 1], &[1.0, number])
            .weight("v", &[4, 2, 1, 1])
            .node("Conv", &["x", "w"], "y1", &[])
            .node("Conv", &["y1", "v"], "y2", &[])
            .output("y2", &[1, 4, 2, 2])
            .open();
        let error = scored(&model, &options(criterion), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert_eq!(error.to_string(), "parameter `w`: it holds numbers that are not finite");
    }
}

#[test]
fn criterion_half_precision_weights_are_read() {
    let numbers = [0.5, -1.0, 2.0, 0.25, 1.5, -3.0];
    for (data_type, dtype) in [(proto::FLOAT, DType::F32), (10, DType::F16), (16, DType::BF16)] {
        let model = Builder::default()
            .input("x", &[1, 2, 2, 2])
            .raw("w", &[3, 2, 1, 1], data_type, encode(dtype, &numbers))
            .weight("v", &[4, 3, 1, 1])
            .node("Conv", &["x", "w"], "y1", &[])
            .node("Conv", &["y1", "v"], "y2", &[])
            .output("y2", &[1, 4, 2, 2])
            .open();
        let roles = Some(BTreeSet::from([Role::Producer]));
        let found = scores_of(&model, "w:0", &ScoreOptions { roles, ..options("l1") });
        assert_eq!(found, [1.5, 2.25, 4.5], "{dtype}");
    }
}

#[test]
fn criterion_names_are_parsed() {
    for criterion in CRITERIA {
        assert_eq!(criterion.name.parse::<&Criterion>().unwrap().name, criterion.name);
        assert!(!criterion.about.is_empty());
    }
    for name in Aggregation::NAMES {
        assert_eq!(name.parse::<Aggregation>().unwrap().name(), *name);
    }
    let error = "l3".parse::<&Criterion>().unwrap_err();
    assert_eq!(error.to_string(), "unknown criterion `l3`");
    assert_eq!(
        error.remedy(),
        Some("use one of: l2, l1, lamp, fpgm, bn-scale, random, taylor, fisher")
    );
}
