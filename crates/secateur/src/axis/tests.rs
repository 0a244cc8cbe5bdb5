//! One test per pattern of the design's table that is purely algebraic.

use super::*;

const CAUSE: Cause = Cause(7);
const PIN: Pin = Pin { reason: "model output", cause: Cause(3) };

/// The tree with atoms called `a`, `b`, … in order of `names`, others by their size.
fn show(axes: &Axes, axis: AxisId, names: &[AxisId]) -> String {
    axes.tree(axis).describe(&|atom| {
        let known = names.iter().position(|&name| axes.find(name) == atom);
        match known {
            Some(index) => char::from(b'a' + index as u8).to_string(),
            None => axes.size(atom).to_string(),
        }
    })
}

fn merge(axes: &mut Axes, a: AxisId, b: AxisId) {
    assert_eq!(axes.unify(a, b, CAUSE), Unified::Merged);
}

fn atoms<const N: usize>(axes: &mut Axes, sizes: [usize; N]) -> [AxisId; N] {
    sizes.map(|size| axes.atom(size))
}

#[test]
fn residual_add_makes_one_atom() {
    let mut axes = Axes::new();
    let [a, b, c] = atoms(&mut axes, [64; 3]);
    merge(&mut axes, a, b);
    merge(&mut axes, b, c);
    assert_eq!(axes.find(a), axes.find(c));
}

#[test]
fn flatten_keeps_channels_apart_from_pixels() {
    let mut axes = Axes::new();
    let [c, pixels, features] = atoms(&mut axes, [64, 49, 64 * 49]);
    let flat = axes.product(&[c, pixels]);
    merge(&mut axes, features, flat);
    axes.pin(pixels, PIN);
    assert_eq!(show(&axes, features, &[c]), "a × 49");
    assert_eq!(axes.pinned(pixels), Some(PIN));
    assert_eq!(axes.pinned(c), None);
    assert_eq!(axes.refined_by(features), Some(CAUSE));
    assert_eq!(axes.refined_by(c), None);
}

#[test]
fn concat_keeps_segments_apart() {
    let mut axes = Axes::new();
    let [a, b, weight] = atoms(&mut axes, [3, 5, 8]);
    let cat = axes.sum(&[a, b]);
    merge(&mut axes, cat, weight);
    assert_eq!(show(&axes, weight, &[a, b]), "a ++ b");
}

#[test]
fn chunk_cuts_an_atom_and_concat_puts_it_together() {
    let mut axes = Axes::new();
    let [x, other] = atoms(&mut axes, [8, 4]);
    let (a, b) = axes.cut(x, 4, CAUSE).unwrap();
    let yolo = axes.sum(&[a, b, other]);
    assert_eq!(show(&axes, x, &[a, b]), "a ++ b");
    assert_eq!(show(&axes, yolo, &[a, b, other]), "a ++ b ++ c");
}

#[test]
fn concat_of_a_flattened_concat_distributes() {
    let mut axes = Axes::new();
    let [a, b, k, ak, bk] = atoms(&mut axes, [3, 5, 4, 12, 20]);
    let cat = axes.sum(&[a, b]);
    let left = axes.product(&[cat, k]);
    let right = axes.sum(&[ak, bk]);
    merge(&mut axes, left, right);
    assert_eq!(show(&axes, ak, &[a, b, k]), "a × c");
    assert_eq!(show(&axes, bk, &[a, b, k]), "b × c");
    assert_eq!(show(&axes, left, &[a, b, k]), "a × c ++ b × c");
}

#[test]
fn sum_as_a_factor_prints_in_parentheses() {
    let mut axes = Axes::new();
    let [a, b, k] = atoms(&mut axes, [3, 5, 4]);
    let cat = axes.sum(&[a, b]);
    let flat = axes.product(&[cat, k]);
    assert_eq!(show(&axes, flat, &[a, b, k]), "(a ++ b) × c");
    assert_eq!(axes.tree(flat).to_string(), "(a0 ++ a1) × a2");
}

#[test]
fn channel_shuffle_swaps_the_factors() {
    let mut axes = Axes::new();
    let [x, y] = atoms(&mut axes, [10, 10]);
    let (two, k) = axes.factor(x, 5, CAUSE).unwrap();
    let shuffled = axes.product(&[k, two]);
    merge(&mut axes, y, shuffled);
    assert_eq!(show(&axes, x, &[two, k]), "a × b");
    assert_eq!(show(&axes, y, &[two, k]), "b × a");
}

#[test]
fn shuffle_net_ties_both_branches() {
    let mut axes = Axes::new();
    let [a, b, two, k] = atoms(&mut axes, [58, 58, 2, 58]);
    let cat = axes.sum(&[a, b]);
    let split = axes.product(&[two, k]);
    merge(&mut axes, cat, split);
    assert_eq!(axes.find(a), axes.find(k));
    assert_eq!(axes.find(b), axes.find(k));
    assert_eq!(axes.atoms(cat), [axes.find(k)]);
    assert_eq!(show(&axes, two, &[]), "1 ++ 1");
}

#[test]
fn grouped_convolution_prunes_groups_or_alike_in_every_group() {
    let mut axes = Axes::new();
    let [input, output, g, i, o] = atoms(&mut axes, [32, 64, 8, 4, 8]);
    let (gi, go) = (axes.product(&[g, i]), axes.product(&[g, o]));
    merge(&mut axes, input, gi);
    merge(&mut axes, output, go);
    assert_eq!(show(&axes, input, &[g, i, o]), "a × b");
    assert_eq!(show(&axes, output, &[g, i, o]), "a × c");
}

#[test]
fn depthwise_convolution_ties_input_to_output() {
    let mut axes = Axes::new();
    let [x, y, g, i, m] = atoms(&mut axes, [32, 32, 32, 1, 1]);
    let (gi, gm) = (axes.product(&[g, i]), axes.product(&[g, m]));
    merge(&mut axes, x, gi);
    merge(&mut axes, gm, y);
    assert_eq!(axes.find(x), axes.find(y));
}

#[test]
fn depthwise_multiplier_factors_the_output() {
    let mut axes = Axes::new();
    let [x, y, m] = atoms(&mut axes, [32, 64, 2]);
    let gm = axes.product(&[x, m]);
    merge(&mut axes, y, gm);
    assert_eq!(show(&axes, y, &[x, m]), "a × b");
}

#[test]
fn attention_separates_heads_from_width() {
    let mut axes = Axes::new();
    let [q, v, h, d, e] = atoms(&mut axes, [768, 768, 12, 64, 64]);
    let (hd, he) = (axes.product(&[h, d]), axes.product(&[h, e]));
    merge(&mut axes, q, hd);
    merge(&mut axes, v, he);
    assert_eq!(show(&axes, q, &[h, d, e]), "a × b");
    assert_eq!(show(&axes, v, &[h, d, e]), "a × c");
}

#[test]
fn fused_qkv_has_three_factors_and_splits_in_three() {
    let mut axes = Axes::new();
    let [x, three, h, d] = atoms(&mut axes, [3 * 12 * 64, 3, 12, 64]);
    let qkv = axes.product(&[three, h, d]);
    axes.pin(three, PIN);
    merge(&mut axes, x, qkv);
    assert_eq!(show(&axes, x, &[h, d]), "3 × a × b");
    let (q, rest) = axes.cut(x, 768, CAUSE).unwrap();
    let (k, v) = axes.cut(rest, 768, CAUSE).unwrap();
    for part in [q, k, v] {
        assert_eq!(show(&axes, part, &[h, d]), "a × b");
    }
}

#[test]
fn grouped_query_attention_ties_queries_to_their_kv_head() {
    let mut axes = Axes::new();
    let [kv, rep, d, q, k] = atoms(&mut axes, [8, 4, 128, 4096, 1024]);
    let (queries, keys) = (axes.product(&[kv, rep, d]), axes.product(&[kv, d]));
    let heads = axes.atom(32);
    let split = axes.product(&[heads, d]);
    merge(&mut axes, q, split);
    merge(&mut axes, q, queries);
    merge(&mut axes, k, keys);
    assert_eq!(show(&axes, q, &[kv, rep, d]), "a × b × c");
    assert_eq!(show(&axes, heads, &[kv, rep, d]), "a × b");
    assert_eq!(show(&axes, k, &[kv, rep, d]), "a × c");
}

#[test]
fn rotary_halves_are_merged() {
    let mut axes = Axes::new();
    let x = axes.atom(64);
    let (first, second) = axes.cut(x, 32, CAUSE).unwrap();
    let rotated = axes.sum(&[second, first]);
    merge(&mut axes, x, rotated);
    assert_eq!(show(&axes, x, &[first]), "a ++ a");
    assert_eq!(axes.tree(x).kept(&|_| Some(&[0, 5])), Some(vec![0, 5, 32, 37]));
}

#[test]
fn pixel_shuffle_peels_the_upscale_factors() {
    let mut axes = Axes::new();
    let [x, c, r] = atoms(&mut axes, [64 * 4, 64, 2]);
    let shuffled = axes.product(&[c, r, r]);
    merge(&mut axes, x, shuffled);
    assert_eq!(show(&axes, x, &[c, r]), "a × b × b");
}

#[test]
fn patch_merging_repeats_one_atom() {
    let mut axes = Axes::new();
    let [x, c] = atoms(&mut axes, [384, 96]);
    let merged = axes.sum(&[c, c, c, c]);
    merge(&mut axes, x, merged);
    assert_eq!(show(&axes, x, &[c]), "a ++ a ++ a ++ a");
    let positions = axes.tree(x).positions(c);
    assert_eq!(positions.len(), 1);
    assert_eq!(positions[0], (0..4).flat_map(|_| 0..96).collect::<Vec<u32>>());
}

#[test]
fn a_tree_that_doubles_is_sealed() {
    let mut axes = Axes::new();
    let x = axes.atom(2);
    let mut whole = vec![x];
    for index in 0..40 {
        whole.push(axes.sum(&[whole[index], whole[index]]));
    }
    axes.seal(Pin { reason: "too many", cause: Cause(0) });
    assert_eq!(axes.pinned(x).map(|pin| pin.reason), Some("too many"));
    assert_eq!(axes.tree(whole[40]).size(), 1 << 41);
    assert_eq!(axes.tree(whole[10]).positions(x).len(), 1);
}

#[test]
fn trees_that_double_out_of_step_are_pinned() {
    let mut axes = Axes::new();
    let (x, head, tail) = (axes.atom(3), axes.atom(1), axes.atom(1));
    let long = (0..40).fold(x, |long, _| axes.sum(&[long, long]));
    let (a, b) = (axes.sum(&[long, tail]), axes.sum(&[head, long]));
    assert_eq!(axes.unify(a, b, Cause(0)), Unified::Pinned);
    assert!(axes.atoms(x).into_iter().all(|atom| axes.pinned(atom).is_some()));
}

#[test]
fn only_the_middle_without_common_factorization_is_pinned() {
    let mut axes = Axes::new();
    let [c, d, e, two, three] = atoms(&mut axes, [64, 64, 5, 2, 3]);
    let (left, right) = (axes.product(&[c, two, three, e]), axes.product(&[d, three, two, e]));
    assert_eq!(axes.unify(left, right, CAUSE), Unified::Pinned);
    assert_eq!(axes.find(c), axes.find(d));
    assert_eq!(axes.pinned(c), None);
    assert_eq!(axes.pinned(e), None);
    let pin = Pin { reason: "no common factorization", cause: CAUSE };
    assert_eq!([two, three].map(|atom| axes.pinned(atom)), [Some(pin); 2]);
}

#[test]
fn common_divisor_of_factors_stays_free() {
    let mut axes = Axes::new();
    let [two, six, three, four] = atoms(&mut axes, [2, 6, 3, 4]);
    let (left, right) = (axes.product(&[two, six]), axes.product(&[three, four]));
    assert_eq!(axes.unify(left, right, CAUSE), Unified::Pinned);
    let shared = axes.atoms(six)[1];
    assert_eq!(axes.atoms(four)[1], shared);
    assert_eq!(axes.pinned(shared), None);
    assert_eq!(axes.pinned(two).map(|pin| pin.cause), Some(CAUSE));
}

#[test]
fn common_divisor_of_the_outer_factors_stays_free_and_outermost() {
    let mut axes = Axes::new();
    let [four, three, six, two] = atoms(&mut axes, [4, 3, 6, 2]);
    let (left, right) = (axes.product(&[four, three]), axes.product(&[six, two]));
    assert_eq!(axes.unify(left, right, CAUSE), Unified::Pinned);
    let shared = axes.atoms(four)[0];
    assert_eq!(axes.atoms(six)[0], shared);
    assert_eq!(axes.pinned(shared), None);
    assert!(axes.pinned(axes.atoms(four)[1]).is_some());
}

#[test]
fn sum_borders_inside_the_inner_factor_pin_both_sides() {
    let mut axes = Axes::new();
    let [a, b, p, q] = atoms(&mut axes, [2, 4, 2, 3]);
    let (sum, product) = (axes.sum(&[a, b]), axes.product(&[p, q]));
    assert_eq!(axes.unify(sum, product, CAUSE), Unified::Pinned);
    assert!([a, b, p, q].iter().all(|&atom| axes.pinned(atom).is_some()));
}

#[test]
fn sums_align_around_a_product_that_crosses_a_border() {
    let mut axes = Axes::new();
    let [p, q, x, s, y] = atoms(&mut axes, [2, 3, 4, 2, 8]);
    let product = axes.product(&[p, q]);
    let (left, right) = (axes.sum(&[product, x]), axes.sum(&[s, y]));
    assert_eq!(axes.unify(left, right, CAUSE), Unified::Pinned);
    assert_eq!(axes.pinned(x), None);
    assert_eq!(axes.atoms(y)[1], axes.find(x));
}

#[test]
fn cut_and_factor_refuse_without_a_trace() {
    let mut axes = Axes::new();
    let [p, q, a, b] = atoms(&mut axes, [2, 3, 2, 4]);
    let (product, sum) = (axes.product(&[p, q]), axes.sum(&[a, b]));
    assert_eq!(axes.cut(product, 2, CAUSE), None);
    assert_eq!(axes.cut(product, 7, CAUSE), None);
    assert_eq!(axes.factor(product, 2, CAUSE), None);
    assert_eq!(axes.factor(sum, 3, CAUSE), None);
    assert_eq!(axes.factor(sum, 0, CAUSE), None);
    assert_eq!(axes.atoms(product), [p, q]);
    assert_eq!(axes.atoms(sum), [a, b]);
    assert!([p, q, a, b].iter().all(|&atom| axes.pinned(atom).is_none()));
}

#[test]
fn sum_factors_by_one_shared_inner_atom() {
    let mut axes = Axes::new();
    let [a, b] = atoms(&mut axes, [6, 9]);
    let sum = axes.sum(&[a, b]);
    let (outer, inner) = axes.factor(sum, 3, CAUSE).unwrap();
    assert_eq!(show(&axes, outer, &[]), "2 ++ 3");
    assert_eq!(axes.atoms(a)[1], axes.find(inner));
    assert_eq!(axes.atoms(b)[1], axes.find(inner));
}

#[test]
fn product_factors_in_the_middle_of_a_factor() {
    let mut axes = Axes::new();
    let [p, q] = atoms(&mut axes, [4, 6]);
    let product = axes.product(&[p, q]);
    let (outer, inner) = axes.factor(product, 12, CAUSE).unwrap();
    assert_eq!(show(&axes, inner, &[q]), "2 × a");
    assert_eq!(axes.size(outer), 2);
}

#[test]
fn trivial_cuts_and_factors_return_the_axis() {
    let mut axes = Axes::new();
    let x = axes.atom(6);
    let (none, all) = axes.cut(x, 0, CAUSE).unwrap();
    assert_eq!((axes.size(none), all), (0, x));
    let (all, none) = axes.cut(x, 6, CAUSE).unwrap();
    assert_eq!((all, axes.size(none)), (x, 0));
    let (all, one) = axes.factor(x, 1, CAUSE).unwrap();
    assert_eq!((all, axes.size(one)), (x, 1));
    let (one, all) = axes.factor(x, 6, CAUSE).unwrap();
    assert_eq!((axes.size(one), all), (1, x));
    let empty = axes.atom(0);
    assert_eq!(axes.factor(empty, 3, CAUSE).map(|(outer, _)| outer), Some(empty));
    assert_eq!(axes.atoms(x), [x]);
}

#[test]
fn degenerate_parts_vanish() {
    let mut axes = Axes::new();
    let [none, one, x] = atoms(&mut axes, [0, 1, 5]);
    assert_eq!(axes.sum(&[none, x]), x);
    assert_eq!(axes.product(&[one, x, one]), x);
    let (empty, unit, zero) = (axes.sum(&[]), axes.product(&[one]), axes.product(&[none, x]));
    assert_eq!([empty, unit, zero].map(|axis| axes.size(axis)), [0, 1, 0]);
}

#[test]
fn axes_of_size_one_always_stay_and_never_merge() {
    let mut axes = Axes::new();
    let [one, other, x] = atoms(&mut axes, [1, 1, 3]);
    merge(&mut axes, one, other);
    assert_ne!(axes.find(one), axes.find(other));
    let sum = axes.sum(&[one, x]);
    assert_eq!(axes.tree(sum).kept(&|_| Some(&[])), Some(vec![0]));
    assert_eq!(axes.tree(sum).sized(&|_| Some(0)), 1);
}

#[test]
fn different_sizes_change_nothing() {
    let mut axes = Axes::new();
    let [a, b] = atoms(&mut axes, [5, 6]);
    assert_eq!(axes.unify(a, b, CAUSE), Unified::SizesDiffer);
    assert_eq!(axes.atoms(a), [a]);
}

#[test]
fn overflowing_sizes_are_never_merged() {
    let mut axes = Axes::new();
    let [huge, two] = atoms(&mut axes, [usize::MAX / 2, 3]);
    let (big, same) = (axes.product(&[huge, two]), axes.atom(usize::MAX));
    let bigger = axes.product(&[same, two]);
    assert_eq!(axes.size(big), usize::MAX);
    assert_eq!(axes.unify(same, bigger, CAUSE), Unified::SizesDiffer);
}

#[test]
fn axis_merged_with_its_own_reordering_repeats() {
    let mut axes = Axes::new();
    let [a, b, c] = atoms(&mut axes, [2, 4, 2]);
    let (left, right) = (axes.sum(&[a, b]), axes.sum(&[b, c]));
    merge(&mut axes, left, right);
    assert_eq!(show(&axes, left, &[a]), "a ++ a ++ a");
}

#[test]
fn pins_flow_down_through_refinements() {
    let mut axes = Axes::new();
    let [x, y, a, b] = atoms(&mut axes, [12, 12, 3, 4]);
    axes.pin(x, PIN);
    let tree = axes.product(&[a, b]);
    merge(&mut axes, x, tree);
    merge(&mut axes, y, tree);
    assert_eq!([a, b].map(|atom| axes.pinned(atom)), [Some(PIN); 2]);
    axes.pin(y, Pin { reason: "later", cause: CAUSE });
    assert_eq!(axes.pinned(a), Some(PIN));
}

#[test]
fn kept_positions_compose_along_a_product() {
    let mut axes = Axes::new();
    let [h, d] = atoms(&mut axes, [3, 4]);
    let product = axes.product(&[h, d]);
    let tree = axes.tree(product);
    let keep = |atom| if atom == h { Some(&[0, 2][..]) } else { Some(&[1, 2, 3][..]) };
    assert_eq!(tree.kept(&keep), Some(vec![1, 2, 3, 9, 10, 11]));
    assert_eq!(tree.sized(&|atom| (atom == h).then_some(2)), 8);
    assert_eq!(tree.kept(&|_| None), None);
    assert_eq!(tree.positions(h), [[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]]);
    assert_eq!(tree.positions(d), [[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]]);
}

/// A dense block: every layer appends its features to all that came before.
fn dense_chain(axes: &mut Axes, length: usize) -> (AxisId, Vec<AxisId>) {
    let leaves: Vec<_> = (0..length).map(|_| axes.atom(4)).collect();
    let chain = leaves[1..].iter().fold(leaves[0], |chain, &leaf| axes.sum(&[chain, leaf]));
    (chain, leaves)
}

#[test]
fn deep_dense_chains_unify_in_lockstep() {
    let mut axes = Axes::new();
    let (x, left) = dense_chain(&mut axes, 10_000);
    let (y, right) = dense_chain(&mut axes, 10_000);
    merge(&mut axes, x, y);
    assert!(left.iter().zip(&right).all(|(&a, &b)| axes.find(a) == axes.find(b)));
    assert!(axes.slots.len() < 40_001);
}

#[test]
fn deep_dense_chains_unify_with_flat_sums_products_and_atoms() {
    let mut axes = Axes::new();
    let (x, left) = dense_chain(&mut axes, 10_000);
    let flat: Vec<_> = (0..10_000).map(|_| axes.atom(4)).collect();
    let (flat_sum, weight) = (axes.sum(&flat), axes.atom(40_000));
    merge(&mut axes, weight, x);
    merge(&mut axes, flat_sum, weight);
    let (n, two) = (axes.atom(20_000), axes.atom(2));
    let product = axes.product(&[n, two]);
    merge(&mut axes, product, x);
    axes.pin(two, PIN);
    assert!(left.iter().all(|&leaf| axes.atoms(leaf).len() == 2));
    assert_eq!(axes.atoms(weight).len(), 10_001);
    assert_eq!(axes.tree(x).clone().size(), 40_000);
    assert!(axes.cut(x, 20_002, CAUSE).is_some());
}

#[test]
fn pinning_every_prefix_of_a_dense_chain_pins_every_leaf() {
    let mut axes = Axes::new();
    let mut chain = axes.atom(4);
    for _ in 0..10_000 {
        let leaf = axes.atom(4);
        chain = axes.sum(&[chain, leaf]);
        axes.pin(chain, PIN);
    }
    assert!(axes.atoms(chain).iter().all(|&atom| axes.pinned(atom) == Some(PIN)));
}

#[test]
fn long_chains_of_merges_keep_links_short() {
    let mut axes = Axes::new();
    let row: Vec<_> = (0..10_000).map(|_| axes.atom(64)).collect();
    for pair in row.windows(2) {
        merge(&mut axes, pair[0], pair[1]);
    }
    let (h, d) = (axes.atom(8), axes.atom(8));
    let tree = axes.product(&[h, d]);
    merge(&mut axes, row[0], tree);
    assert!(row.iter().all(|&axis| axes.find(axis) == tree));
    assert!(axes.slots.iter().all(|slot| slot.rank < 40));
}
