//! Every operator's rule over representative shapes, from its ONNX spelling.
//!
//! A line is an operator applied to shapes and constants, and the shapes that its results must
//! have; `Op@11` is opset 11. What comes back is the rule, the sizes of its factors, where zeros
//! go (`0·1 + 2`: a product of operands 0 and 1 plus operand 2) and the multiply-accumulates.

use expect_test::{Expect, expect};

use crate::graph::{Extent, Graph, Node};
use crate::onnx::{Hints, OnnxFile, import};
use crate::rule::{Flow, Rule};
use crate::text;

#[allow(clippy::needless_pass_by_value)]
fn check(line: &str, rule: Expect) {
    let (call, shapes) = line.rsplit_once(" -> ").unwrap();
    let shapes: Vec<&str> = shapes.split(", ").collect();
    let graph = graph_of(call, shapes.len());
    assert_eq!(graph.warnings, [""; 0], "{line}");
    for node in &graph.nodes {
        check_rule(&graph, node);
    }
    let found: Vec<String> = graph.outputs.iter().map(|&out| show(graph.shape(out))).collect();
    assert_eq!(found, shapes, "{line}");
    rule.assert_eq(&graph.nodes.iter().map(describe).collect::<Vec<_>>().join("\n"));
}

/// The reason for which an operator is left alone; `-> ?, ?` asks for two results.
#[allow(clippy::needless_pass_by_value)]
fn check_refused(line: &str, reason: Expect) {
    let (call, results) = line.rsplit_once(" -> ").unwrap_or((line, ""));
    let graph = graph_of(call, results.split(", ").count());
    let [warning] = graph.warnings.as_slice() else { panic!("{line}: {:?}", graph.warnings) };
    let reason_text = warning.strip_suffix(" (first at node `r0`)").unwrap();
    reason.assert_eq(reason_text);
}

/// The law of every rule: it spells the operands' shapes, and keeps its own notation.
pub(crate) fn check_rule(graph: &Graph, node: &Node) {
    let rule = node.rule.as_ref().unwrap();
    let shapes: Vec<Option<&[Extent]>> =
        node.inputs.iter().map(|input| input.map(|value| graph.shape(value))).collect();
    assert_eq!(rule.check(&shapes), Ok(()), "{rule}");
}

fn graph_of(call: &str, results: usize) -> Graph {
    let (head, rest) = call.split_once('(').unwrap();
    let (operands, attributes) = rest.rsplit_once(')').unwrap();
    let (kind, opset) = head.split_once('@').unwrap_or((head, "18"));
    let mut lines = format!("opset {opset}\n");
    let mut names = Vec::new();
    for (index, operand) in operands.split("; ").filter(|o| !o.is_empty()).enumerate() {
        let name = format!("v{index}");
        match operand {
            "_" => {
                names.push("_".to_string());
                continue;
            }
            constant if constant.contains('[') || constant.contains('(') => {
                lines += &format!("{name} = {constant}\n");
            }
            shape => lines += &format!("{name}: f32 {shape}\n"),
        }
        names.push(name);
    }
    let outputs: Vec<String> = (0..results).map(|index| format!("r{index}")).collect();
    let (inputs, outputs) = (names.join(", "), outputs.join(", "));
    lines += &format!("{outputs} = {kind}({inputs}) {attributes}\n-> {}", outputs.replace(',', ""));
    let file = OnnxFile::parse(text::encode(&lines).into(), "text".as_ref()).unwrap();
    import(&file, &Hints::new()).unwrap().graph
}

fn show(shape: &[Extent]) -> String {
    let sizes: Vec<String> = shape.iter().map(|extent| extent.size.to_string()).collect();
    if sizes.is_empty() { "scalar".to_string() } else { sizes.join("x") }
}

pub(crate) fn describe(node: &Node) -> String {
    let rule = node.rule.as_ref().unwrap();
    let sizes: Vec<String> =
        rule.factors.iter().map(|f| format!("{}={}", f.name, f.extent.size)).collect();
    let mut text = format!("{rule}\n  {}   zero: {}", sizes.join(" "), zeros(&rule.flow));
    if !rule.macs.is_empty() {
        text += &format!("   macs: {}", macs(rule));
    }
    text
}

fn zeros(flow: &Flow) -> String {
    let join = |operands: &[usize], by: &str| -> String {
        operands.iter().map(ToString::to_string).collect::<Vec<_>>().join(by)
    };
    match flow {
        Flow::Carry => "moved".to_string(),
        Flow::First => "0 moved".to_string(),
        Flow::Break => "lost".to_string(),
        Flow::Pole => "a pole".to_string(),
        Flow::Product { factors, terms, divisors } => {
            let mut parts = vec![join(factors, "·"), join(terms, " + ")];
            parts.retain(|part| !part.is_empty());
            if parts.is_empty() {
                return "everywhere".to_string();
            }
            let by = if divisors.is_empty() { String::new() } else { join(divisors, "·") };
            parts.join(" + ") + &if by.is_empty() { by } else { format!(" / {by}") }
        }
    }
}

fn macs(rule: &Rule) -> usize {
    let size = |product: &Vec<crate::rule::FactorId>| -> usize {
        product.iter().map(|factor| rule.factors[factor.index()].extent.size).product()
    };
    rule.macs.iter().map(size).sum()
}

#[test]
fn convolution_sums_over_input_channels() {
    check(
        "Conv(2x3x8x8; 16x3x3x3) -> 2x16x6x6",
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=1 o=16 i=3 h=8 w=8 kh=3 kw=3 h'=6 w'=6   zero: 0·1   macs: 31104"#]],
    );
    check(
        "Conv(2x3x8x8; 16x3x3x3; 16) pads=[1,1,1,1] strides=[2,2] -> 2x16x4x4",
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw], [g o] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=1 o=16 i=3 h=8 w=8 kh=3 kw=3 h'=4 w'=4   zero: 0·1 + 2   macs: 13824"#]],
    );
    check(
        "Conv(2x3x8x8; 16x3x3x3) dilations=[2,2] -> 2x16x4x4",
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=1 o=16 i=3 h=8 w=8 kh=3 kw=3 h'=4 w'=4   zero: 0·1   macs: 13824"#]],
    );
    check(
        "Conv(2x3x7x7; 16x3x3x3) auto_pad=SAME_UPPER strides=[2,2] -> 2x16x4x4",
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=1 o=16 i=3 h=7 w=7 kh=3 kw=3 h'=4 w'=4   zero: 0·1   macs: 13824"#]],
    );
}

#[test]
fn grouped_convolution_shares_groups_between_data_and_kernel() {
    check(
        "Conv(2x16x8x8; 24x4x3x3; 24) group=4 -> 2x24x6x6",
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw], [g o] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=4 o=6 i=4 h=8 w=8 kh=3 kw=3 h'=6 w'=6   zero: 0·1 + 2   macs: 62208"#]],
    );
}

#[test]
fn depthwise_convolution_is_all_groups() {
    check(
        "Conv(1x8x5x5; 8x1x3x3) group=8 -> 1x8x3x3",
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=1 g=8 o=1 i=1 h=5 w=5 kh=3 kw=3 h'=3 w'=3   zero: 0·1   macs: 648"#]],
    );
    check(
        "Conv(1x8x5x5; 16x1x3x3) group=8 -> 1x16x3x3",
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=1 g=8 o=2 i=1 h=5 w=5 kh=3 kw=3 h'=3 w'=3   zero: 0·1   macs: 1296"#]],
    );
}

#[test]
fn transposed_convolution_has_the_channels_of_its_kernel_swapped() {
    check(
        "ConvTranspose(2x12x4x4; 12x10x2x2) strides=[2,2] -> 2x10x8x8",
        expect![[r#"
        conv_transpose [n, g i, h, w], [g i, o, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=1 o=10 i=12 h=4 w=4 kh=2 kw=2 h'=8 w'=8   zero: 0·1   macs: 15360"#]],
    );
    check(
        "ConvTranspose(2x12x4x4; 12x4x2x2; 16) group=4 strides=[2,2] -> 2x16x8x8",
        expect![[r#"
        conv_transpose [n, g i, h, w], [g i, o, kh, kw], [g o] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=4 o=4 i=3 h=4 w=4 kh=2 kw=2 h'=8 w'=8   zero: 0·1 + 2   macs: 6144"#]],
    );
    check(
        "ConvTranspose(1x4x5; 4x2x3) pads=[1,1] output_padding=[1] strides=[2] -> 1x2x10",
        expect![[r#"
        conv_transpose [n, g i, h], [g i, o, kh] -> [n, g o, h']   free: n g o   summed: i   fixed: h kh h'
          n=1 g=1 o=2 i=4 h=5 kh=3 h'=10   zero: 0·1   macs: 120"#]],
    );
}

#[test]
fn convolution_has_one_to_three_spatial_axes() {
    check(
        "Conv(2x4x24; 16x4x5) pads=[4,4] dilations=[2] -> 2x16x24",
        expect![[r#"
        conv [n, g i, h], [g o, i, kh] -> [n, g o, h']   free: n g o   summed: i   fixed: h kh h'
          n=2 g=1 o=16 i=4 h=24 kh=5 h'=24   zero: 0·1   macs: 15360"#]],
    );
    check(
        "Conv(1x2x4x6x6; 8x2x3x3x3) pads=[1,1,1,1,1,1] -> 1x8x4x6x6",
        expect![[r#"
        conv [n, g i, h, w, d], [g o, i, kh, kw, kd] -> [n, g o, h', w', d']   free: n g o   summed: i   fixed: h w d kh kw kd h' w' d'
          n=1 g=1 o=8 i=2 h=4 w=6 d=6 kh=3 kw=3 kd=3 h'=4 w'=6 d'=6   zero: 0·1   macs: 62208"#]],
    );
}

#[test]
fn matmul_broadcasts_leading_axes() {
    check(
        "MatMul(3x8; 8x5) -> 3x5",
        expect![[r#"
        matmul [m, k], [k, n] -> [m, n]   free: m n   summed: k
          m=3 n=5 k=8   zero: 0·1   macs: 120"#]],
    );
    check(
        "MatMul(2x6x8; 8x5) -> 2x6x5",
        expect![[r#"
        matmul [a, m, k], [k, n] -> [a, m, n]   free: a m n   summed: k
          a=2 m=6 n=5 k=8   zero: 0·1   macs: 480"#]],
    );
    check(
        "MatMul(2x4x6x8; 2x4x8x6) -> 2x4x6x6",
        expect![[r#"
        matmul [a, b, m, k], [a, b, k, n] -> [a, b, m, n]   free: a b m n   summed: k
          a=2 b=4 m=6 n=6 k=8   zero: 0·1   macs: 2304"#]],
    );
    check(
        "MatMul(2x1x6x8; 4x8x5) -> 2x4x6x5",
        expect![[r#"
        matmul [a, 1, m, k], [b, k, n] -> [a, b, m, n]   free: a b m n   summed: k
          a=2 b=4 m=6 n=5 k=8   zero: 0·1   macs: 1920"#]],
    );
}

#[test]
fn matmul_takes_vectors() {
    check(
        "MatMul(8; 8x5) -> 5",
        expect![[r#"
        matmul [k], [k, n] -> [n]   free: n   summed: k
          n=5 k=8   zero: 0·1   macs: 40"#]],
    );
    check(
        "MatMul(3x8; 8) -> 3",
        expect![[r#"
        matmul [m, k], [k] -> [m]   free: m   summed: k
          m=3 k=8   zero: 0·1   macs: 24"#]],
    );
    check(
        "MatMul(8; 8) -> scalar",
        expect![[r#"
        matmul [k], [k] -> []   summed: k
          k=8   zero: 0·1   macs: 8"#]],
    );
    check(
        "MatMul(8; 2x8x5) -> 2x5",
        expect![[r#"
        matmul [k], [a, k, n] -> [a, n]   free: a n   summed: k
          a=2 n=5 k=8   zero: 0·1   macs: 80"#]],
    );
}

#[test]
fn gemm_reads_either_matrix_transposed() {
    check(
        "Gemm(3x8; 8x5) -> 3x5",
        expect![[r#"
        gemm [m, k], [k, n] -> [m, n]   free: m n   summed: k
          m=3 n=5 k=8   zero: 0·1   macs: 120"#]],
    );
    check(
        "Gemm(3x8; 5x8; 5) transB=1 -> 3x5",
        expect![[r#"
        gemm [m, k], [n, k], [n] -> [m, n]   free: m n   summed: k
          m=3 n=5 k=8   zero: 0·1 + 2   macs: 120"#]],
    );
    check(
        "Gemm(8x3; 8x5; 3x1) transA=1 -> 3x5",
        expect![[r#"
        gemm [k, m], [k, n], [m, 1] -> [m, n]   free: m n   summed: k
          m=3 n=5 k=8   zero: 0·1 + 2   macs: 120"#]],
    );
    check(
        "Gemm(8x3; 5x8; 3x5) transA=1 transB=1 -> 3x5",
        expect![[r#"
        gemm [k, m], [n, k], [m, n] -> [m, n]   free: m n   summed: k
          m=3 n=5 k=8   zero: 0·1 + 2   macs: 120"#]],
    );
    check(
        "Gemm(3x8; 8x5; _) -> 3x5",
        expect![[r#"
        gemm [m, k], [k, n], [] -> [m, n]   free: m n   summed: k
          m=3 n=5 k=8   zero: 0·1   macs: 120"#]],
    );
    check(
        "Gemm(3x8; 8x5; scalar) -> 3x5",
        expect![[r#"
        gemm [m, k], [k, n], [] -> [m, n]   free: m n   summed: k
          m=3 n=5 k=8   zero: 0·1 + 2   macs: 120"#]],
    );
}

#[test]
fn einsum_sums_over_letters_that_the_result_lacks() {
    check(
        "Einsum(2x6x16; 4x16x8) equation=bnc,hcd->bhnd -> 2x4x6x8",
        expect![[r#"
        einsum [b, n, c], [h, c, d] -> [b, h, n, d]   free: b n h d   summed: c
          b=2 n=6 c=16 h=4 d=8   zero: 0·1   macs: 6144"#]],
    );
    check(
        "Einsum(2x4x6x8; 4x16x8) equation=bhnd,hcd->bnc -> 2x6x16",
        expect![[r#"
        einsum [b, h, n, d], [h, c, d] -> [b, n, c]   free: b n c   summed: h d
          b=2 h=4 n=6 d=8 c=16   zero: 0·1   macs: 6144"#]],
    );
    check(
        "Einsum(4x4) equation=ii->i -> 4",
        expect![[r#"
        einsum [i, i] -> [i]   free: i
          i=4   zero: 0   macs: 4"#]],
    );
    check(
        "Einsum(3x4) equation=ij->ji -> 4x3",
        expect![[r#"
        einsum [i, j] -> [j, i]   free: i j
          i=3 j=4   zero: 0   macs: 12"#]],
    );
}

#[test]
fn einsum_names_axes_that_the_equation_does_not() {
    check(
        "Einsum(2x7x6x16; 16x8) equation=...c,cd -> 2x7x6x8",
        expect![[r#"
            einsum [₂, ₁, ₀, c], [c, d] -> [₂, ₁, ₀, d]   free: ₂ ₁ ₀ d   summed: c
              ₂=2 ₁=7 ₀=6 c=16 d=8   zero: 0·1   macs: 10752"#]],
    );
    check(
        "Einsum(7x2x3; 1x3x4) equation=...ij,...jk->...ik -> 7x2x4",
        expect![[r#"
            einsum [₀, i, j], [1, j, k] -> [₀, i, k]   free: ₀ i k   summed: j
              ₀=7 i=2 j=3 k=4   zero: 0·1   macs: 168"#]],
    );
    check(
        "Einsum(2x3; 3x4) equation=ba,ac -> 2x4",
        expect![[r#"
            einsum [b, a], [a, c] -> [b, c]   free: b c   summed: a
              b=2 a=3 c=4   zero: 0·1   macs: 24"#]],
    );
    check(
        "Einsum(4x4) equation=ii -> scalar",
        expect![[r#"
        einsum [i, i] -> []   summed: i
          i=4   zero: 0   macs: 4"#]],
    );
    check(
        "Einsum(2x1x6; 2x5x6) equation=bij,bij->bi -> 2x5",
        expect![[r#"
        einsum [b, 1, j], [b, i, j] -> [b, i]   free: b i   summed: j
          b=2 i=5 j=6   zero: 0·1   macs: 60"#]],
    );
}

#[test]
fn batch_norm_keeps_channels_independent() {
    check(
        "BatchNormalization(2x8x5x5; 8; 8; 8; 8) -> 2x8x5x5",
        expect![[r#"
        batch_norm [a, b, c, d], [b], [b], [b], [b] -> [a, b, c, d]   free: a b c d
          a=2 b=8 c=5 d=5   zero: 1 + 2"#]],
    );
}

#[test]
fn layer_norm_couples_what_its_statistics_run_over() {
    check(
        "LayerNormalization(2x6x16; 16; 16) -> 2x6x16",
        expect![[r#"
        layer_norm [a, b, c], [c], [c] -> [a, b, c]   free: a b   coupled: c
          a=2 b=6 c=16   zero: 1 + 2"#]],
    );
    check(
        "LayerNormalization(2x6x16; 6x16) axis=-2 -> 2x6x16",
        expect![[r#"
        layer_norm [a, b, c], [b, c] -> [a, b, c]   free: a   coupled: b c
          a=2 b=6 c=16   zero: 1"#]],
    );
    check(
        "LayerNormalization(2x6x16; 16; _) axis=2 -> 2x6x16",
        expect![[r#"
        layer_norm [a, b, c], [c], [] -> [a, b, c]   free: a b   coupled: c
          a=2 b=6 c=16   zero: 1"#]],
    );
    check(
        "RMSNormalization@23(2x6x16; 16) -> 2x6x16",
        expect![[r#"
        rms_norm [a, b, c], [c] -> [a, b, c]   free: a b   coupled: c
          a=2 b=6 c=16   zero: 0·1"#]],
    );
}

#[test]
fn statistics_of_a_norm_are_results() {
    check(
        "LayerNormalization(2x6x16; 16; 16) -> 2x6x16, 2x6x1, 2x6x1",
        expect![[r#"
        layer_norm [a, b, c], [c], [c] -> [a, b, c], [a, b, 1], [a, b, 1]   free: a b   coupled: c
          a=2 b=6 c=16   zero: 1 + 2"#]],
    );
}

#[test]
fn deformed_convolution_reads_channels_alike() {
    check(
        "DeformConv@19(2x8x6x6; 10x8x3x3; 2x18x4x4; 10; 2x9x4x4) -> 2x10x4x4",
        expect![[r#"
        deform_conv [n, g i, h, w], [g o, i, kh, kw], [n, c2, h', w'], [g o], [n, c4, h', w'] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w' c2 c4
          n=2 g=1 o=10 i=8 h=6 w=6 kh=3 kw=3 h'=4 w'=4 c2=18 c4=9   zero: 0·1 + 3   macs: 23040"#]],
    );
    check(
        "DeformConv@19(2x8x6x6; 10x4x3x3; 2x36x4x4) group=2 offset_group=2 -> 2x10x4x4",
        expect![[r#"
            deform_conv [n, g i, h, w], [g o, i, kh, kw], [n, c2, h', w'] -> [n, g o, h', w']   free: n o   fixed: g i h w kh kw h' w' c2
              n=2 g=2 o=5 i=4 h=6 w=6 kh=3 kw=3 h'=4 w'=4 c2=36   zero: 0·1   macs: 11520"#]],
    );
}

#[test]
fn instance_and_group_norm_couple_pixels() {
    check(
        "InstanceNormalization(2x8x5x5; 8; 8) -> 2x8x5x5",
        expect![[r#"
        instance_norm [a, b, c, d], [b], [b] -> [a, b, c, d]   free: a b   coupled: c d
          a=2 b=8 c=5 d=5   zero: 0·1 + 2"#]],
    );
    check(
        "GroupNormalization(2x16x5x5; 4; 4) num_groups=4 -> 2x16x5x5",
        expect![[r#"
            group_norm [n, g i, c, d], [g], [g] -> [n, g i, c, d]   free: n g   coupled: i c d
              n=2 g=4 i=4 c=5 d=5   zero: 1 + 2"#]],
    );
    check(
        "LpNormalization(2x16) p=2 -> 2x16",
        expect![[r#"
            lp_norm [a, b] -> [a, b]   free: a   inner: b
              a=2 b=16   zero: 0"#]],
    );
    check(
        "MeanVarianceNormalization(2x16x5x5) -> 2x16x5x5",
        expect![[r#"
            mean_variance_norm [a, b, c, d] -> [a, b, c, d]   free: b   coupled: a c d
              a=2 b=16 c=5 d=5   zero: a pole"#]],
    );
    check(
        "GroupNormalization@21(2x16x5x5; 16; 16) num_groups=4 -> 2x16x5x5",
        expect![[r#"
        group_norm [n, g i, c, d], [g i], [g i] -> [n, g i, c, d]   free: n g   coupled: i c d
          n=2 g=4 i=4 c=5 d=5   zero: 1 + 2"#]],
    );
}

#[test]
fn pools_slide_over_pixels() {
    check(
        "MaxPool(2x8x7x7) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1] -> 2x8x4x4",
        expect![[r#"
        pool [n, c, h, w] -> [n, c, h', w']   free: n c   fixed: h w h' w'
          n=2 c=8 h=7 w=7 h'=4 w'=4   zero: moved"#]],
    );
    check(
        "MaxPool(2x8x6x6) kernel_shape=[3,3] strides=[2,2] ceil_mode=1 -> 2x8x3x3",
        expect![[r#"
        pool [n, c, h, w] -> [n, c, h', w']   free: n c   fixed: h w h' w'
          n=2 c=8 h=6 w=6 h'=3 w'=3   zero: moved"#]],
    );
    check(
        "MaxPool(2x8x6) kernel_shape=[2] strides=[2] -> 2x8x3, 2x8x3",
        expect![[r#"
            pool [n, c, h] -> [n, c, h'], [n, c, h']   fixed: n c h h'
              n=2 c=8 h=6 h'=3   zero: lost"#]],
    );
    check(
        "AveragePool(1x8x4x6x6) kernel_shape=[2,2,2] -> 1x8x3x5x5",
        expect![[r#"
        pool [n, c, h, w, d] -> [n, c, h', w', d']   free: n c   fixed: h w d h' w' d'
          n=1 c=8 h=4 w=6 d=6 h'=3 w'=5 d'=5   zero: moved"#]],
    );
}

#[test]
fn global_pools_reduce_all_pixels() {
    check(
        "GlobalAveragePool(2x8x7x7) -> 2x8x1x1",
        expect![[r#"
        reduce [a, b, c, d] -> [a, b, 1, 1]   free: a b   coupled: c d
          a=2 b=8 c=7 d=7   zero: 0"#]],
    );
    check(
        "GlobalMaxPool(2x8x7) -> 2x8x1",
        expect![[r#"
        reduce [a, b, c] -> [a, b, 1]   free: a b   coupled: c
          a=2 b=8 c=7   zero: 0"#]],
    );
}

#[test]
fn reductions_keep_or_drop_their_axes() {
    check(
        "ReduceMean(2x6x16; i64[-1]) -> 2x6x1",
        expect![[r#"
        reduce [a, b, c] -> [a, b, 1]   free: a b   coupled: c
          a=2 b=6 c=16   zero: 0"#]],
    );
    check(
        "ReduceMean@13(2x6x16) axes=[1] keepdims=0 -> 2x16",
        expect![[r#"
        reduce [a, b, c] -> [a, c]   free: a c   coupled: b
          a=2 b=6 c=16   zero: 0"#]],
    );
    check(
        "ReduceSum(2x6x16; i64[1, 2]) keepdims=0 -> 2",
        expect![[r#"
        reduce [a, b, c] -> [a]   free: a   summed: b c
          a=2 b=6 c=16   zero: 0"#]],
    );
    check(
        "ReduceMax(2x6x16) keepdims=0 -> scalar",
        expect![[r#"
        reduce [a, b, c] -> []   coupled: a b c
          a=2 b=6 c=16   zero: 0"#]],
    );
    check(
        "ReduceLogSumExp(2x6; i64[1]) -> 2x1",
        expect![[r#"
        reduce [a, b] -> [a, 1]   free: a   coupled: b
          a=2 b=6   zero: lost"#]],
    );
    check(
        "ArgMax(2x6x16) axis=1 keepdims=0 -> 2x16",
        expect![[r#"
        reduce [a, b, c] -> [a, c]   free: a c   fixed: b
          a=2 b=6 c=16   zero: lost"#]],
    );
}

#[test]
fn softmax_runs_along_one_axis_since_opset_13_and_over_the_rest_before() {
    check(
        "Softmax@13(2x6x16) -> 2x6x16",
        expect![[r#"
        softmax [a, b, c] -> [a, b, c]   free: a b   fixed: c
          a=2 b=6 c=16   zero: lost"#]],
    );
    check(
        "Softmax@11(2x6x16) -> 2x6x16",
        expect![[r#"
        softmax [a, b, c] -> [a, b, c]   free: a   fixed: b c
          a=2 b=6 c=16   zero: lost"#]],
    );
    check(
        "LogSoftmax(2x6x16) axis=1 -> 2x6x16",
        expect![[r#"
        softmax [a, b, c] -> [a, b, c]   free: a c   fixed: b
          a=2 b=6 c=16   zero: lost"#]],
    );
}

#[test]
fn operators_along_an_axis_leave_the_others_free() {
    check(
        "TopK(2x16; i64[5]) -> 2x5, 2x5",
        expect![[r#"
        topk [a, b] -> [a, b'], [a, b']   free: a   fixed: b b'
          a=2 b=16 b'=5   zero: lost"#]],
    );
    check(
        "CumSum(2x16; i64(1)) -> 2x16",
        expect![[r#"
            cumsum [a, b] -> [a, b]   free: a   fixed: b
              a=2 b=16   zero: 0"#]],
    );
    check(
        "Trilu(2x6x6) -> 2x6x6",
        expect![[r#"
            trilu [a, b, c] -> [a, b, c]   free: a   fixed: b c
              a=2 b=6 c=6   zero: 0"#]],
    );
    check(
        "LRN(2x8x5x5) size=3 -> 2x8x5x5",
        expect![[r#"
            lrn [a, b, c, d] -> [a, b, c, d]   free: a c d   fixed: b
              a=2 b=8 c=5 d=5   zero: 0"#]],
    );
}

#[test]
fn elementwise_operators_broadcast() {
    check(
        "Relu(2x8) -> 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: 0"#]],
    );
    check(
        "Add(2x8x5x5; 8x1x1) -> 2x8x5x5",
        expect![[r#"
        elementwise [a, b, c, d], [b, 1, 1] -> [a, b, c, d]   free: a b c d
          a=2 b=8 c=5 d=5   zero: 0 + 1"#]],
    );
    check(
        "Mul(2x8x5x5; 2x8x1x1) -> 2x8x5x5",
        expect![[r#"
        elementwise [a, b, c, d], [a, b, 1, 1] -> [a, b, c, d]   free: a b c d
          a=2 b=8 c=5 d=5   zero: 0·1"#]],
    );
    check(
        "Mul(2x1x5x5; 2x8x1x1) -> 2x8x5x5",
        expect![[r#"
        elementwise [a, 1, c, d], [a, b, 1, 1] -> [a, b, c, d]   free: a b c d
          a=2 b=8 c=5 d=5   zero: 0·1"#]],
    );
    check(
        "Sub(2x8; scalar) -> 2x8",
        expect![[r#"
        elementwise [a, b], [] -> [a, b]   free: a b
          a=2 b=8   zero: 0 + 1"#]],
    );
    check(
        "Div(2x6x16; 2x6x1) -> 2x6x16",
        expect![[r#"
        elementwise [a, b, c], [a, b, 1] -> [a, b, c]   free: a b c
          a=2 b=6 c=16   zero: 0 / 1"#]],
    );
    check(
        "Where(6x6; 2x4x6x6; scalar) -> 2x4x6x6",
        expect![[r#"
        elementwise [c, d], [a, b, c, d], [] -> [a, b, c, d]   free: a b c d
          a=2 b=4 c=6 d=6   zero: 1 + 2"#]],
    );
    check(
        "Sum(2x8; 8; 1x8) -> 2x8",
        expect![[r#"
        elementwise [a, b], [b], [1, b] -> [a, b]   free: a b
          a=2 b=8   zero: 0 + 1 + 2"#]],
    );
}

#[test]
fn activations_say_what_becomes_of_zero() {
    check(
        "Sigmoid(2x8) -> 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: lost"#]],
    );
    check(
        "Clip(2x8; f32(0); f32(6)) -> 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: 0"#]],
    );
    check(
        "Clip(2x8; f32(0.5); f32(6)) -> 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: lost"#]],
    );
    check(
        "Clip@7(2x8) min=-1.0 max=1.0 -> 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: 0"#]],
    );
    check(
        "Pow(2x8; f32(2)) -> 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: 0"#]],
    );
    check(
        "Pow(2x8; f32(-0.5)) -> 2x8",
        expect![[r#"
            elementwise [a, b], [] -> [a, b]   free: a b
              a=2 b=8   zero: a pole"#]],
    );
    check(
        "Dropout(2x8; f32(0.1)) -> 2x8, 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b], [a, b]   free: a b
          a=2 b=8   zero: 0"#]],
    );
}

#[test]
fn reshape_flattens_in_common_factors() {
    check(
        "Reshape(2x8x7x7; i64[2, -1]) -> 2x392",
        expect![[r#"
        reshape [d, c, b, a] -> [d, c b a]   free: a b c d
          a=7 b=7 c=8 d=2   zero: moved"#]],
    );
    check(
        "Flatten(2x8x7x7) -> 2x392",
        expect![[r#"
        reshape [d, c, b, a] -> [d, c b a]   free: a b c d
          a=7 b=7 c=8 d=2   zero: moved"#]],
    );
    check(
        "Flatten(2x8x7x7) axis=0 -> 1x784",
        expect![[r#"
        reshape [d, c, b, a] -> [1, d c b a]   free: a b c d
          a=7 b=7 c=8 d=2   zero: moved"#]],
    );
}

#[test]
fn reshape_splits_and_merges_heads() {
    check(
        "Reshape(2x6x16; i64[0, 0, 4, -1]) -> 2x6x4x4",
        expect![[r#"
        reshape [d, c, b a] -> [d, c, b, a]   free: a b c d
          a=4 b=4 c=6 d=2   zero: moved"#]],
    );
    check(
        "Reshape(2x6x4x4; i64[2, 6, 16]) -> 2x6x16",
        expect![[r#"
        reshape [d, c, b, a] -> [d, c, b a]   free: a b c d
          a=4 b=4 c=6 d=2   zero: moved"#]],
    );
    check(
        "Reshape(2x6x48; i64[0, 0, 3, 4, 4]) -> 2x6x3x4x4",
        expect![[r#"
        reshape [e, d, c b a] -> [e, d, c, b, a]   free: a b c d e
          a=4 b=4 c=3 d=6 e=2   zero: moved"#]],
    );
}

#[test]
fn reshape_without_common_factors_is_fixed() {
    check(
        "Reshape(2x3; i64[3, 2]) -> 3x2",
        expect![[r#"
        reshape [a, b] -> [c, d]   fixed: a b c d
          a=2 b=3 c=3 d=2   zero: moved"#]],
    );
    check(
        "Reshape(5x2x3; i64[5, 3, 2]) -> 5x3x2",
        expect![[r#"
        reshape [a, b, c] -> [a, d, e]   free: a   fixed: b c d e
          a=5 b=2 c=3 d=3 e=2   zero: moved"#]],
    );
    check(
        "Reshape(2x3x5; i64[3, 2, 5]) -> 3x2x5",
        expect![[r#"
        reshape [b, c, a] -> [d, e, a]   free: a   fixed: b c d e
          a=5 b=2 c=3 d=3 e=2   zero: moved"#]],
    );
    check(
        "Reshape(4x6; i64[6, 4]) -> 6x4",
        expect![[r#"
        reshape [a, b] -> [c, d]   fixed: a b c d
          a=4 b=6 c=6 d=4   zero: moved"#]],
    );
}

#[test]
fn squeeze_and_unsqueeze_move_axes_of_size_one() {
    check(
        "Squeeze(2x8x1x1; i64[2, 3]) -> 2x8",
        expect![[r#"
        reshape [b, a, 1, 1] -> [b, a]   free: a b
          a=8 b=2   zero: moved"#]],
    );
    check(
        "Squeeze(2x1x8x1) -> 2x8",
        expect![[r#"
        reshape [b, 1, a, 1] -> [b, a]   free: a b
          a=8 b=2   zero: moved"#]],
    );
    check(
        "Unsqueeze(2x8; i64[0, -1]) -> 1x2x8x1",
        expect![[r#"
        reshape [b, a] -> [1, b, a, 1]   free: a b
          a=8 b=2   zero: moved"#]],
    );
    check(
        "Unsqueeze@11(2x8) axes=[1] -> 2x1x8",
        expect![[r#"
        reshape [b, a] -> [b, 1, a]   free: a b
          a=8 b=2   zero: moved"#]],
    );
}

#[test]
fn transpose_permutes() {
    check(
        "Transpose(2x6x4x8) perm=[0,2,1,3] -> 2x4x6x8",
        expect![[r#"
        transpose [a, b, c, d] -> [a, c, b, d]   free: a b c d
          a=2 b=6 c=4 d=8   zero: moved"#]],
    );
    check(
        "Transpose(2x3) -> 3x2",
        expect![[r#"
        transpose [a, b] -> [b, a]   free: a b
          a=2 b=3   zero: moved"#]],
    );
}

#[test]
fn expand_and_tile_repeat() {
    check(
        "Expand(2x1x8; i64[2, 4, 8]) -> 2x4x8",
        expect![[r#"
        expand [a, 1, c] -> [a, b, c]   free: a b c
          a=2 b=4 c=8   zero: moved"#]],
    );
    check(
        "Expand(8; i64[3, 1]) -> 3x8",
        expect![[r#"
        expand [b] -> [a, b]   free: a b
          a=3 b=8   zero: moved"#]],
    );
    check(
        "Tile(2x8; i64[3, 1]) -> 6x8",
        expect![[r#"
        tile [a, b] -> [ra a, rb b]   free: ra a rb b
          ra=3 a=2 rb=1 b=8   zero: moved"#]],
    );
}

#[test]
fn pixel_shuffles_are_reshape_transpose_reshape() {
    check(
        "DepthToSpace(1x32x4x4) blocksize=2 -> 1x8x8x8",
        expect![[r#"
            reshape [1, e d c, b, a] -> [1, e, d, c, b, a]   free: a b c d e
              a=4 b=4 c=8 d=2 e=2   zero: moved
            blocks [a, b, c, d, e, f] -> [a, b, c, d, e, f]   free: a d e f   fixed: b c
              a=1 b=2 c=2 d=8 e=4 f=4   zero: 0
            transpose [a, b, c, d, e, f] -> [a, d, e, b, f, c]   free: a b c d e f
              a=1 b=2 c=2 d=8 e=4 f=4   zero: moved
            reshape [1, e, d, c, b, a] -> [1, e, d c, b a]   free: a b c d e
              a=2 b=4 c=2 d=4 e=8   zero: moved"#]],
    );
    check(
        "DepthToSpace(1x32x4x4) blocksize=2 mode=CRD -> 1x8x8x8",
        expect![[r#"
            reshape [1, e d c, b, a] -> [1, e, d, c, b, a]   free: a b c d e
              a=4 b=4 c=2 d=2 e=8   zero: moved
            blocks [a, b, c, d, e, f] -> [a, b, c, d, e, f]   free: a b e f   fixed: c d
              a=1 b=8 c=2 d=2 e=4 f=4   zero: 0
            transpose [a, b, c, d, e, f] -> [a, b, e, c, f, d]   free: a b c d e f
              a=1 b=8 c=2 d=2 e=4 f=4   zero: moved
            reshape [1, e, d, c, b, a] -> [1, e, d c, b a]   free: a b c d e
              a=2 b=4 c=2 d=4 e=8   zero: moved"#]],
    );
    check(
        "SpaceToDepth(1x8x4x4) blocksize=2 -> 1x32x2x2",
        expect![[r#"
            reshape [1, e, d c, b a] -> [1, e, d, c, b, a]   free: a b c d e
              a=2 b=2 c=2 d=2 e=8   zero: moved
            blocks [a, b, c, d, e, f] -> [a, b, c, d, e, f]   free: a b c e   fixed: d f
              a=1 b=8 c=2 d=2 e=2 f=2   zero: 0
            transpose [a, b, c, d, e, f] -> [a, d, f, b, c, e]   free: a b c d e f
              a=1 b=8 c=2 d=2 e=2 f=2   zero: moved
            reshape [1, e, d, c, b, a] -> [1, e d c, b, a]   free: a b c d e
              a=2 b=2 c=8 d=2 e=2   zero: moved"#]],
    );
}

#[test]
fn concat_lays_segments_end_to_end() {
    check(
        "Concat(2x3x5; 2x4x5) axis=1 -> 2x7x5",
        expect![[r#"
        concat [a, b, c], [a, b1, c] -> [a, b ++ b1, c]   free: a b c b1
          a=2 b=3 c=5 b1=4   zero: moved"#]],
    );
    check(
        "Concat(2x3; 2x3; 2x3) axis=-1 -> 2x9",
        expect![[r#"
        concat [a, b], [a, b1], [a, b2] -> [a, b ++ b1 ++ b2]   free: a b b1 b2
          a=2 b=3 b1=3 b2=3   zero: moved"#]],
    );
}

#[test]
fn split_takes_segments_apart() {
    check(
        "Split(2x20; i64[12, 8]) axis=1 -> 2x12, 2x8",
        expect![[r#"
        split [a, b0 ++ b1] -> [a, b0], [a, b1]   free: a b0 b1
          a=2 b0=12 b1=8   zero: moved"#]],
    );
    check(
        "Split(2x8) axis=-1 num_outputs=2 -> 2x4, 2x4",
        expect![[r#"
        split [a, b0 ++ b1] -> [a, b0], [a, b1]   free: a b0 b1
          a=2 b0=4 b1=4   zero: moved"#]],
    );
    check(
        "Split(7x2) num_outputs=3 -> 3x2, 3x2, 1x2",
        expect![[r#"
        split [a0 ++ a1 ++ a2, b] -> [a0, b], [a1, b], [a2, b]   free: a0 a1 a2 b
          a0=3 a1=3 a2=1 b=2   zero: moved"#]],
    );
    check(
        "Split@11(2x6) axis=1 split=[1,2,3] -> 2x1, 2x2, 2x3",
        expect![[r#"
        split [a, b0 ++ b1 ++ b2] -> [a, b0], [a, b1], [a, b2]   free: a b0 b1 b2
          a=2 b0=1 b1=2 b2=3   zero: moved"#]],
    );
}

#[test]
fn slice_keeps_a_segment_or_a_phase() {
    check(
        "Slice(2x16; i64[4]; i64[12]; i64[1]) -> 2x8",
        expect![[r#"
        slice [a, b< ++ b ++ b>] -> [a, b]   free: a b b< b>
          a=2 b=8 b<=4 b>=4   zero: moved"#]],
    );
    check(
        "Slice(2x16; i64[0]; i64[8]; i64[1]) -> 2x8",
        expect![[r#"
        slice [a, b ++ b>] -> [a, b]   free: a b b>
          a=2 b=8 b>=8   zero: moved"#]],
    );
    check(
        "Slice(2x16; i64[-4]; i64[9223372036854775807]; i64[1]) -> 2x4",
        expect![[r#"
        slice [a, b< ++ b] -> [a, b]   free: a b b<
          a=2 b=4 b<=12   zero: moved"#]],
    );
    check(
        "Slice(2x16; i64[0]; i64[16]; i64[1]) -> 2x16",
        expect![[r#"
        slice [a, b] -> [a, b]   free: a b
          a=2 b=16   zero: moved"#]],
    );
    check(
        "Slice(2x16; i64[1]; i64[16]; i64[1]; i64[2]) -> 2x8",
        expect![[r#"
        slice [a, b b%] -> [a, b]   free: a b   fixed: b%
          a=2 b=8 b%=2   zero: moved"#]],
    );
    check(
        "Slice(2x16; i64[0]; i64[16]; i64[1]; i64[3]) -> 2x6",
        expect![[r#"
        slice [a, b] -> [a, b']   free: a   fixed: b b'
          a=2 b=16 b'=6   zero: moved"#]],
    );
    check(
        "Slice(2x16; i64[3]; i64[9]; i64[1]; i64[2]) -> 2x3",
        expect![[r#"
        slice [a, b] -> [a, b']   free: a   fixed: b b'
          a=2 b=16 b'=3   zero: moved"#]],
    );
    check(
        "Slice(2x16; i64[-1]; i64[-9223372036854775808]; i64[1]; i64[-1]) -> 2x16",
        expect![[r#"
        slice [a, b] -> [a, b']   free: a   fixed: b b'
          a=2 b=16 b'=16   zero: moved"#]],
    );
    check(
        "Slice(2x16; i64[10]; i64[4]; i64[1]; i64[-2]) -> 2x3",
        expect![[r#"
        slice [a, b] -> [a, b']   free: a   fixed: b b'
          a=2 b=16 b'=3   zero: moved"#]],
    );
    check(
        "Slice(4x16; i64[1, 8]; i64[3, 16]; i64[0, 1]) -> 2x8",
        expect![[r#"
        slice [a< ++ a ++ a>, b< ++ b] -> [a, b]   free: a a< a> b b<
          a=2 a<=1 a>=1 b=8 b<=8   zero: moved"#]],
    );
    check(
        "Slice@9(4x16) starts=[1,8] ends=[3,16] -> 2x8",
        expect![[r#"
        slice [a< ++ a ++ a>, b< ++ b] -> [a, b]   free: a a< a> b b<
          a=2 a<=1 a>=1 b=8 b<=8   zero: moved"#]],
    );
}

#[test]
fn gather_picks_rows() {
    check(
        "Gather(32x16; 2x6) -> 2x6x16",
        expect![[r#"
            gather [rows, b], [i0, i1] -> [i0, i1, b]   free: i0 i1 b   fixed: rows
              rows=32 i0=2 i1=6 b=16   zero: 0 moved"#]],
    );
    check(
        "Gather(2x3x4x8; i64(1)) axis=1 -> 2x4x8",
        expect![[r#"
            gather [a, rows, c, d], [] -> [a, c, d]   free: a c d   fixed: rows
              rows=3 a=2 c=4 d=8   zero: 0 moved"#]],
    );
    check(
        "GatherElements(2x6; 2x3) axis=1 -> 2x3",
        expect![[r#"
            pick [a, b], [a, b'] -> [a, b']   free: a b'   fixed: b
              a=2 b=6 b'=3   zero: 0 moved"#]],
    );
    check(
        "GatherND(4x5x16; 7x2) -> 7x16",
        expect![[r#"
            pick [d0, d1, c], [i0, v0] -> [i0, c]   free: i0 c   fixed: v0 d0 d1
              i0=7 v0=2 d0=4 d1=5 c=16   zero: 0 moved"#]],
    );
    check(
        "GatherND(2x5x16; 2x7x1) batch_dims=1 -> 2x7x16",
        expect![[r#"
            pick [a, d0, c], [a, i1, v0] -> [a, i1, c]   free: a i1 c   fixed: v0 d0
              a=2 i1=7 v0=1 d0=5 c=16   zero: 0 moved"#]],
    );
    check(
        "ScatterND(8x16; 3x1; 3x16) -> 8x16",
        expect![[r#"
            put [d0, b], [i0, i1], [i0, b] -> [d0, b]   free: b   fixed: d0 i0 i1
              d0=8 i0=3 i1=1 b=16   zero: 0 + 2"#]],
    );
}

#[test]
fn zero_borders_are_segments_and_others_are_fixed() {
    check(
        "Pad(2x8; i64[0, 1, 0, 2]) -> 2x11",
        expect![[r#"
            pad [a, b] -> [a, b< ++ b ++ b>]   free: a b< b b>
              a=2 b<=1 b=8 b>=2   zero: 0"#]],
    );
    check(
        "Pad(2x8; i64[0, 1, 0, 0]; f32(1)) -> 2x9",
        expect![[r#"
        pad [a, b] -> [a, b']   free: a   fixed: b b'
          a=2 b=8 b'=9   zero: lost"#]],
    );
    check(
        "Pad(2x8; i64[0, -1, 0, 0]) -> 2x7",
        expect![[r#"
            pad [a, b] -> [a, b']   free: a   fixed: b b'
              a=2 b=8 b'=7   zero: 0"#]],
    );
    check(
        "Pad(2x8; i64[0, 0, 0, 0]) -> 2x8",
        expect![[r#"
        pad [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: moved"#]],
    );
    check(
        "Pad(2x8; i64[0, 1, 0, 1]) mode=reflect -> 2x10",
        expect![[r#"
        pad [a, b] -> [a, b']   free: a   fixed: b b'
          a=2 b=8 b'=10   zero: moved"#]],
    );
    check(
        "Pad(2x8x5; i64[2, 3]; f32(0); i64[-1]) -> 2x8x10",
        expect![[r#"
            pad [a, b, c] -> [a, b, c< ++ c ++ c>]   free: a b c< c c>
              a=2 b=8 c<=2 c=5 c>=3   zero: 0"#]],
    );
}

#[test]
fn resize_fixes_only_what_it_interpolates() {
    check(
        "Resize(2x8x4x4; _; f32[1, 1, 2, 2]) -> 2x8x8x8",
        expect![[r#"
        resize [a, b, c, d] -> [a, b, c', d']   free: a b   fixed: c c' d d'
          a=2 b=8 c=4 c'=8 d=4 d'=8   zero: moved"#]],
    );
    check(
        "Resize(2x8x4x4; _; _; i64[2, 8, 6, 4]) -> 2x8x6x4",
        expect![[r#"
        resize [a, b, c, d] -> [a, b, c', d]   free: a b d   fixed: c c'
          a=2 b=8 c=4 c'=6 d=4   zero: moved"#]],
    );
    check(
        "Resize(2x8x4x4; _; _; i64[6, 6]) axes=[2,3] -> 2x8x6x6",
        expect![[r#"
        resize [a, b, c, d] -> [a, b, c', d']   free: a b   fixed: c c' d d'
          a=2 b=8 c=4 c'=6 d=4 d'=6   zero: moved"#]],
    );
    check(
        "Upsample@9(2x8x4x4; f32[1, 1, 2, 2]) -> 2x8x8x8",
        expect![[r#"
        resize [a, b, c, d] -> [a, b, c', d']   free: a b   fixed: c c' d d'
          a=2 b=8 c=4 c'=8 d=4 d'=8   zero: moved"#]],
    );
}

#[test]
fn resize_fixes_what_it_crops_or_moves() {
    check(
        "Resize(2x8x4x4; f32[0, 0, 0, 0, 1, 1, 0.5, 1]; _; i64[2, 8, 4, 4]) coordinate_transformation_mode=tf_crop_and_resize -> 2x8x4x4",
        expect![[r#"
            resize [a, b, c, d] -> [a, b, c', d]   free: a b d   fixed: c c'
              a=2 b=8 c=4 c'=4 d=4   zero: moved"#]],
    );
    check(
        "Resize(2x8x4x6; _; _; i64[8, 8]) axes=[2,3] keep_aspect_ratio_policy=not_larger -> 2x8x5x8",
        expect![[r#"
            resize [a, b, c, d] -> [a, b, c', d']   free: a b   fixed: c c' d d'
              a=2 b=8 c=4 c'=5 d=6 d'=8   zero: moved"#]],
    );
    check(
        "Resize(2x8x4x4; _; f32[1, 1, 1.1, 1]) -> 2x8x4x4",
        expect![[r#"
        resize [a, b, c, d] -> [a, b, c', d]   free: a b d   fixed: c c'
          a=2 b=8 c=4 c'=4 d=4   zero: moved"#]],
    );
    check(
        "CenterCropPad(2x8x10; i64[8, 6]) axes=[1,2] -> 2x8x6",
        expect![[r#"
        resize [a, b, c] -> [a, b, c']   free: a b   fixed: c c'
          a=2 b=8 c=10 c'=6   zero: 0"#]],
    );
}

#[test]
fn what_indices_do_not_point_into_stays_free() {
    check(
        "GatherElements(2x8x5; 2x8x3) axis=2 -> 2x8x3",
        expect![[r#"
        pick [a, b, c], [a, b, c'] -> [a, b, c']   free: a b c'   fixed: c
          a=2 b=8 c=5 c'=3   zero: 0 moved"#]],
    );
    check(
        "GatherElements(4x8; 3x6) -> 3x6",
        expect![[r#"
        pick [a, b], [a', b'] -> [a', b']   free: a'   fixed: a b b'
          a=4 a'=3 b=8 b'=6   zero: 0 moved"#]],
    );
    check(
        "GatherND(2x6x8; 2x3x1) batch_dims=1 -> 2x3x8",
        expect![[r#"
        pick [a, d0, c], [a, i1, v0] -> [a, i1, c]   free: a i1 c   fixed: v0 d0
          a=2 i1=3 v0=1 d0=6 c=8   zero: 0 moved"#]],
    );
    check(
        "ScatterElements(2x8x5; 2x8x3; 2x8x3) axis=2 -> 2x8x5",
        expect![[r#"
        put [a, b, c], [a, b, c'], [a, b, c'] -> [a, b, c]   free: a b   fixed: c c'
          a=2 b=8 c=5 c'=3   zero: 0 + 2"#]],
    );
    check(
        "Scatter@9(4x8; 3x8; 3x8) -> 4x8",
        expect![[r#"
        put [a, b], [a', b], [a', b] -> [a, b]   free: b   fixed: a a'
          a=4 a'=3 b=8   zero: 0 + 2"#]],
    );
    check(
        "ScatterND(4x5x8; 3x2; 3x8) -> 4x5x8",
        expect![[r#"
        put [d0, d1, c], [i0, i1], [i0, c] -> [d0, d1, c]   free: c   fixed: d0 d1 i0 i1
          d0=4 d1=5 i0=3 i1=2 c=8   zero: 0 + 2"#]],
    );
    check(
        "TensorScatter@24(2x4x9x8; 2x4x1x8; 2) -> 2x4x9x8",
        expect![[r#"
        tensor_scatter [a, b, c, d], [a, b, c', d], [a] -> [a, b, c, d]   free: a b d   fixed: c c'
          a=2 b=4 c=9 c'=1 d=8   zero: 0 + 1"#]],
    );
}

#[test]
fn sampling_leaves_channels_free() {
    check(
        "GridSample@20(2x8x6x6; 2x4x5x2) -> 2x8x4x5",
        expect![[r#"
        grid_sample [n, c, s0, s1], [n, t0, t1, k] -> [n, c, t0, t1]   free: n c   fixed: s0 s1 t0 t1 k
          n=2 c=8 s0=6 s1=6 t0=4 t1=5 k=2   zero: 0"#]],
    );
    check(
        "com.microsoft::GridSample(2x8x6x6; 2x4x5x2) -> 2x8x4x5",
        expect![[r#"
        grid_sample [n, c, s0, s1], [n, t0, t1, k] -> [n, c, t0, t1]   free: n c   fixed: s0 s1 t0 t1 k
          n=2 c=8 s0=6 s1=6 t0=4 t1=5 k=2   zero: 0"#]],
    );
    check(
        "AffineGrid@20(2x2x3; i64[2, 8, 4, 5]) -> 2x4x5x2",
        expect![[r#"
        affine_grid [n, k0, k1] -> [n, t0, t1, k0]   fixed: n k0 k1 t0 t1
          n=2 k0=2 k1=3 t0=4 t1=5   zero: lost"#]],
    );
    check(
        "RoiAlign(2x8x6x6; 3x4; 3) output_height=2 output_width=2 -> 3x8x2x2",
        expect![[r#"
        roi_align [n, c, s0, s1], [r, k], [r] -> [r, c, t0, t1]   free: c r   fixed: n s0 s1 k t0 t1
          c=8 n=2 s0=6 s1=6 r=3 k=4 t0=2 t1=2   zero: 0"#]],
    );
    check(
        "MaxRoiPool(2x8x6x6; 3x5) pooled_shape=[2,2] -> 3x8x2x2",
        expect![[r#"
        max_roi_pool [n, c, s0, s1], [r, k] -> [r, c, t0, t1]   free: c r   fixed: n s0 s1 k t0 t1
          c=8 n=2 s0=6 s1=6 r=3 k=5 t0=2 t1=2   zero: 0"#]],
    );
    check(
        "MaxUnpool(2x8x3x3; 2x8x3x3) kernel_shape=[2,2] strides=[2,2] -> 2x8x6x6",
        expect![[r#"
        max_unpool [d0, d1, d2, d3], [d0, d1, d2, d3] -> [d0, d1, t0, t1]   fixed: d0 d1 d2 d3 t0 t1
          d0=2 d1=8 d2=3 d3=3 t0=6 t1=6   zero: lost"#]],
    );
    check(
        "Col2Im(2x32x9; i64[4, 4]; i64[2, 2]) -> 2x8x4x4",
        expect![[r#"
        col2im [n, c k, l] -> [n, c, t0, t1]   free: n c   fixed: k l t0 t1
          n=2 c=8 k=4 l=9 t0=4 t1=4   zero: 0"#]],
    );
}

#[test]
fn what_is_transformed_along_stays_whole() {
    check(
        "ReverseSequence(6x2x8; 2) -> 6x2x8",
        expect![[r#"
        reverse_sequence [a, b, c], [b] -> [a, b, c]   free: b c   fixed: a
          a=6 b=2 c=8   zero: 0 moved"#]],
    );
    check(
        "Det(8x3x3) -> 8",
        expect![[r#"
        det [a, m0, m1] -> [a]   free: a   fixed: m0 m1
          a=8 m0=3 m1=3   zero: 0"#]],
    );
    check(
        "DFT(2x8x10x1) axis=2 onesided=1 -> 2x8x6x2",
        expect![[r#"
        dft [a, b, c, z] -> [a, b, c', z']   free: a b   fixed: c c' z z'
          a=2 b=8 c=10 c'=6 z=1 z'=2   zero: 0"#]],
    );
    check(
        "DFT@20(2x10x8x2; i64(12); i64(1)) inverse=1 -> 2x12x8x2",
        expect![[r#"
        dft [a, b, c, z] -> [a, b', c, z']   free: a c   fixed: b b' z z'
          a=2 b=10 b'=12 c=8 z=2 z'=2   zero: 0"#]],
    );
    check(
        "STFT(2x20x1; i64(4); 8) -> 2x4x5x2",
        expect![[r#"
        stft [b, s0, s1], [w0] -> [b, t0, t1, t2]   free: b   fixed: s0 s1 t0 t1 t2 w0
          b=2 s0=20 s1=1 t0=4 t1=5 t2=2 w0=8   zero: 0"#]],
    );
    check(
        "MelWeightMatrix(i64(6); i64(8); i64(16000); f32(0); f32(8000)) -> 5x6",
        expect![[r#"
        made  -> [m0, m1]   fixed: m0 m1
          m0=5 m1=6   zero: lost"#]],
    );
    check(
        "HannWindow(i64(8)) -> 8",
        expect![[r#"
        made  -> [m0]   fixed: m0
          m0=8   zero: lost"#]],
    );
    check(
        "RandomNormal() shape=[2,3] -> 2x3",
        expect![[r#"
        made  -> [m0, m1]   fixed: m0 m1
          m0=2 m1=3   zero: lost"#]],
    );
    check(
        "RandomNormalLike(2x8) -> 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: lost"#]],
    );
    check(
        "Bernoulli(2x8) -> 2x8",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: 0"#]],
    );
    check(
        "Multinomial(2x8) sample_size=3 -> 2x3",
        expect![[r#"
        multinomial [a, b] -> [a, b']   free: a   fixed: b b'
          a=2 b=8 b'=3   zero: lost"#]],
    );
    check(
        "EyeLike(4x4) -> 4x4",
        expect![[r#"
        eye_like [m0, m1] -> [m0, m1]   fixed: m0 m1
          m0=4 m1=4   zero: lost"#]],
    );
    check(
        "ReduceSum(2x6) noop_with_empty_axes=1 -> 2x6",
        expect![[r#"
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=6   zero: 0"#]],
    );
    check(
        "PRelu(2x8x5; 8x1) -> 2x8x5",
        expect![[r#"
        elementwise [a, b, c], [b, 1] -> [a, b, c]   free: a b c
          a=2 b=8 c=5   zero: 0"#]],
    );
}

#[test]
fn attention_separates_heads_and_widths() {
    check(
        "Attention@23(2x4x6x8; 2x4x5x8; 2x4x5x7) -> 2x4x6x7",
        expect![[r#"
            attention [b, kv rep, t, d], [b, kv, s, d], [b, kv, s, e] -> [b, kv rep, t, e]   free: b kv rep t e   summed: d   fixed: s
              b=2 kv=4 rep=1 t=6 s=5 d=8 e=7   zero: 2   macs: 3600"#]],
    );
    check(
        "Attention@23(2x6x16; 2x5x16; 2x5x12) q_num_heads=4 kv_num_heads=4 scale=0.5 -> 2x6x12",
        expect![[r#"
        attention [b, t, kv rep d], [b, s, kv d], [b, s, kv e] -> [b, t, kv rep e]   free: b kv rep t e   summed: d   fixed: s
          b=2 kv=4 rep=1 t=6 s=5 d=4 e=3   zero: 2   macs: 1680"#]],
    );
    check(
        "Attention@23(2x8x6x4; 2x2x5x4; 2x2x5x4; 6x5) -> 2x8x6x4",
        expect![[r#"
            attention [b, kv rep, t, d], [b, kv, s, d], [b, kv, s, e], [t, s] -> [b, kv rep, t, e]   free: b kv rep t e   summed: d   fixed: s
              b=2 kv=2 rep=4 t=6 s=5 d=4 e=4   zero: 2   macs: 3840"#]],
    );
    check(
        "Attention@23(2x6x32; 2x6x8; 2x6x8) q_num_heads=8 kv_num_heads=2 -> 2x6x32",
        expect![[r#"
            attention [b, t, kv rep d], [b, s, kv d], [b, s, kv e] -> [b, t, kv rep e]   free: b kv rep t e   summed: d   fixed: s
              b=2 kv=2 rep=4 t=6 s=6 d=4 e=4   zero: 2   macs: 4608"#]],
    );
}

#[test]
fn attention_takes_a_cache_and_masks() {
    check(
        "Attention@23(2x4x6x8; 2x2x5x8; 2x2x5x7; _; 2x2x3x8; 2x2x3x7) is_causal=1 -> 2x4x6x7, 2x2x8x8, 2x2x8x7",
        expect![[r#"
            attention [b, kv rep, t, d], [b, kv, s, d], [b, kv, s, e], [], [b, kv, p, d], [b, kv, p, e] -> [b, kv rep, t, e], [b, kv, p ++ s, d], [b, kv, p ++ s, e]   free: b kv rep e   inner: d   fixed: t s p
              b=2 kv=2 rep=2 t=6 s=5 p=3 d=8 e=7   zero: 1 + 2 + 4 + 5   macs: 5760"#]],
    );
    check(
        "Attention@23(2x4x6x8; 2x4x5x8; 2x4x5x7; 4x6x5) -> 2x4x6x7, 2x4x5x8, 2x4x5x7, 2x4x6x5",
        expect![[r#"
            attention [b, kv rep, t, d], [b, kv, s, d], [b, kv, s, e], [kv rep, t, s] -> [b, kv rep, t, e], [b, kv, s, d], [b, kv, s, e], [b, kv rep, t, s]   free: b kv rep t e   inner: d   fixed: s
              b=2 kv=4 rep=1 t=6 s=5 d=8 e=7   zero: lost   macs: 3600"#]],
    );
    check(
        "com.microsoft::MultiHeadAttention(2x6x16; 2x4x5x4; 2x4x5x3; _; 2x5) num_heads=4 scale=0.0 -> 2x6x12",
        expect![[r#"
            attention [b, t, kv rep d], [b, kv, s, d], [b, kv, s, e], [], [], [], [g60, g61] -> [b, t, kv rep e]   free: kv rep t e   summed: d   fixed: b s g60 g61
              b=2 kv=4 rep=1 t=6 s=5 d=4 e=3 g60=2 g61=5   zero: 2   macs: 1680"#]],
    );
    check(
        "com.microsoft::MultiHeadAttention(2x6x16; 2x5x16; 2x5x12; 44) num_heads=4 -> 2x6x12",
        expect![[r#"
            split [a0 ++ a1 ++ a2] -> [a0], [a1], [a2]   free: a0 a1 a2
              a0=16 a1=16 a2=12   zero: moved
            elementwise [a, b, c], [c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0 + 1
            elementwise [a, b, c], [c] -> [a, b, c]   free: a b c
              a=2 b=5 c=16   zero: 0 + 1
            elementwise [a, b, c], [c] -> [a, b, c]   free: a b c
              a=2 b=5 c=12   zero: 0 + 1
            attention [b, t, kv rep d], [b, s, kv d], [b, s, kv e], [], [], [] -> [b, t, kv rep e]   free: b kv rep t e   summed: d   fixed: s
              b=2 kv=4 rep=1 t=6 s=5 d=4 e=3   zero: 2   macs: 1680"#]],
    );
    check(
        "com.microsoft::Attention(2x6x16; 16x48; 48; 2; 2x2x4x3x4) num_heads=4 unidirectional=1 -> 2x6x16, 2x2x4x9x4",
        expect![[r#"
            matmul [a, m, k], [k, n] -> [a, m, n]   free: a m n   summed: k
              a=2 m=6 n=48 k=16   zero: 0·1   macs: 9216
            elementwise [a, b, c], [c] -> [a, b, c]   free: a b c
              a=2 b=6 c=48   zero: 0 + 1
            split [a, b, c0 ++ c1 ++ c2] -> [a, b, c0], [a, b, c1], [a, b, c2]   free: a b c0 c1 c2
              a=2 b=6 c0=16 c1=16 c2=16   zero: moved
            split [a0 ++ a1, b, c, d, e] -> [a0, b, c, d, e], [a1, b, c, d, e]   free: a0 a1 b c d e
              a0=1 a1=1 b=2 c=4 d=3 e=4   zero: moved
            reshape [1, d, c, b, a] -> [d, c, b, a]   free: a b c d
              a=4 b=3 c=4 d=2   zero: moved
            reshape [1, d, c, b, a] -> [d, c, b, a]   free: a b c d
              a=4 b=3 c=4 d=2   zero: moved
            attention [b, t, kv rep d], [b, s, kv d], [b, s, kv e], [], [b, kv, p, d], [b, kv, p, e], [g60] -> [b, t, kv rep e], [b, kv, p ++ s, d], [b, kv, p ++ s, e]   free: kv rep e   inner: d   fixed: b t s p g60
              b=2 kv=4 rep=1 t=6 s=6 p=3 d=4 e=4 g60=2   zero: 1 + 2 + 4 + 5   macs: 3456
            reshape [d, c, b, a] -> [1, d, c, b, a]   free: a b c d
              a=4 b=9 c=4 d=2   zero: moved
            reshape [d, c, b, a] -> [1, d, c, b, a]   free: a b c d
              a=4 b=9 c=4 d=2   zero: moved
            concat [a, b, c, d, e], [a1, b, c, d, e] -> [a ++ a1, b, c, d, e]   free: a b c d e a1
              a=1 b=2 c=4 d=9 e=4 a1=1   zero: moved"#]],
    );
    check(
        "com.microsoft::GroupQueryAttention(2x1x48; 2x1x16; 2x1x16; 2x2x5x8; 2x2x5x8; 2; i64(6)) num_heads=6 kv_num_heads=2 -> 2x1x48, 2x2x6x8, 2x2x6x8",
        expect![[r#"
            attention [b, t, kv rep d], [b, s, kv d], [b, s, kv d], [], [b, kv, p, d], [b, kv, p, d], [g60], [] -> [b, t, kv rep d], [b, kv, p ++ s, d], [b, kv, p ++ s, d]   free: kv rep   inner: d   fixed: b t s p g60
              b=2 kv=2 rep=3 t=1 s=1 p=5 d=8 g60=2   zero: 1 + 2 + 4 + 5   macs: 1152"#]],
    );
    check(
        "com.microsoft::GroupQueryAttention(2x1x80; _; _; 2x2x5x8; 2x2x5x8; 2; i64(6); 32x4; 32x4) num_heads=6 kv_num_heads=2 do_rotary=1 -> 2x1x48",
        expect![[r#"
            split [a, b, c0 ++ c1 ++ c2] -> [a, b, c0], [a, b, c1], [a, b, c2]   free: a b c0 c1 c2
              a=2 b=1 c0=48 c1=16 c2=16   zero: moved
            attention [b, t, kv rep d], [b, s, kv d], [b, s, kv d], [], [b, kv, p, d], [b, kv, p, d], [g60], [], [g80, g81], [g90, g91] -> [b, t, kv rep d]   free: kv rep   fixed: b t s p d g60 g80 g81 g90 g91
              b=2 kv=2 rep=3 t=1 s=1 p=5 d=8 g60=2 g80=32 g81=4 g90=32 g91=4   zero: 2 + 5   macs: 1152"#]],
    );
}

#[test]
fn rotary_embedding_keeps_pairs_together() {
    check(
        "RotaryEmbedding@23(2x4x6x8; 32x4; 32x4; 2x6) -> 2x4x6x8",
        expect![[r#"
            rotary [b, h, t, p ++ p], [cos, p], [sin, p], [b, t] -> [b, h, t, p ++ p]   free: b t h p   fixed: cos sin
              b=2 t=6 h=4 p=4 cos=32 sin=32   zero: 0"#]],
    );
    check(
        "RotaryEmbedding@23(2x6x40; 2x6x4; 2x6x4) num_heads=4 rotary_embedding_dim=8 interleaved=1 -> 2x6x40",
        expect![[r#"
            reshape [d, c, b a] -> [d, c, b, a]   free: a b c d
              a=10 b=4 c=6 d=2   zero: moved
            rotary [b, t, h, p 2 ++ rest], [b, t, p], [b, t, p] -> [b, t, h, p 2 ++ rest]   free: b t h p rest   fixed: 2
              b=2 t=6 h=4 p=4 2=2 rest=2   zero: 0
            reshape [d, c, b, a] -> [d, c, b a]   free: a b c d
              a=10 b=4 c=6 d=2   zero: moved"#]],
    );
    check(
        "com.microsoft::RotaryEmbedding(2x6x32; 1; 32x4; 32x4) -> 2x6x32",
        expect![[r#"
            reshape [d, c, b a] -> [d, c, b, a]   free: a b c d
              a=8 b=4 c=6 d=2   zero: moved
            rotary [b, t, h, p ++ p], [cos, p], [sin, p], [1] -> [b, t, h, p ++ p]   free: b h p   fixed: t cos sin
              b=2 t=6 h=4 p=4 cos=32 sin=32   zero: 0
            reshape [d, c, b, a] -> [d, c, b a]   free: a b c d
              a=8 b=4 c=6 d=2   zero: moved"#]],
    );
}

#[test]
fn fused_operators_are_spelled_with_others() {
    check(
        "com.microsoft::BiasGelu(2x6x16; 16) -> 2x6x16",
        expect![[r#"
            elementwise [a, b, c], [c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0 + 1
            elementwise [a, b, c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0"#]],
    );
    check(
        "com.microsoft::FastGelu(2x6x16) -> 2x6x16",
        expect![[r#"
            elementwise [a, b, c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0"#]],
    );
    check(
        "com.microsoft::BiasDropout(2x6x16; 16; 2x6x16) -> 2x6x16",
        expect![[r#"
            elementwise [a, b, c], [c], [a, b, c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0 + 1 + 2"#]],
    );
    check(
        "com.microsoft::BiasSoftmax(2x4x6x6; 2x1x1x6) axis=3 is_inner_broadcast=1 -> 2x4x6x6",
        expect![[r#"
            elementwise [a, b, c, d], [a, 1, 1, d] -> [a, b, c, d]   free: a b c d
              a=2 b=4 c=6 d=6   zero: 0 + 1
            softmax [a, b, c, d] -> [a, b, c, d]   free: a b c   fixed: d
              a=2 b=4 c=6 d=6   zero: lost"#]],
    );
    check(
        "com.microsoft::BiasSplitGelu(2x6x32; 32) -> 2x6x16",
        expect![[r#"
            elementwise [a, b, c], [c] -> [a, b, c]   free: a b c
              a=2 b=6 c=32   zero: 0 + 1
            split [a, b, c0 ++ c1] -> [a, b, c0], [a, b, c1]   free: a b c0 c1
              a=2 b=6 c0=16 c1=16   zero: moved
            elementwise [a, b, c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0
            elementwise [a, b, c], [a, b, c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0·1"#]],
    );
    check(
        "com.microsoft::SkipLayerNormalization(2x6x16; 2x6x16; 16; 16; 16) -> 2x6x16",
        expect![[r#"
            elementwise [a, b, c], [a, b, c], [c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0 + 1 + 2
            layer_norm [a, b, c], [c], [c] -> [a, b, c]   free: a b   coupled: c
              a=2 b=6 c=16   zero: 1 + 2"#]],
    );
    check(
        "com.microsoft::SkipSimplifiedLayerNormalization(2x6x16; 2x6x16; 16) -> 2x6x16",
        expect![[r#"
            elementwise [a, b, c], [a, b, c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0 + 1
            rms_norm [a, b, c], [c] -> [a, b, c]   free: a b   coupled: c
              a=2 b=6 c=16   zero: 0·1"#]],
    );
    check(
        "com.microsoft::EmbedLayerNormalization(2x6; 2x6; 32x16; 12x16; 2x16; 16; 16; 2x6) -> 2x6x16, 2",
        expect![[r#"
            gather [rows, b], [i0, i1] -> [i0, i1, b]   free: i0 i1 b   fixed: rows
              rows=32 i0=2 i1=6 b=16   zero: 0 moved
            rows [a, b] -> [a', b]   free: b   fixed: a a'
              a=12 a'=6 b=16   zero: 0
            gather [rows, b], [i0, i1] -> [i0, i1, b]   free: i0 i1 b   fixed: rows
              rows=2 i0=2 i1=6 b=16   zero: 0 moved
            elementwise [a, b, c], [b, c], [a, b, c] -> [a, b, c]   free: a b c
              a=2 b=6 c=16   zero: 0 + 1 + 2
            layer_norm [a, b, c], [c], [c] -> [a, b, c]   free: a b   coupled: c
              a=2 b=6 c=16   zero: 1 + 2
            reduce [a, b] -> [a]   free: a   fixed: b
              a=2 b=6   zero: lost"#]],
    );
    check(
        "com.microsoft::GroupNorm(2x5x5x16; 16; 16) groups=4 activation=1 -> 2x5x5x16",
        expect![[r#"
            transpose [a, b, c, d] -> [a, d, b, c]   free: a b c d
              a=2 b=5 c=5 d=16   zero: moved
            group_norm [n, g i, c, d], [g i], [g i] -> [n, g i, c, d]   free: n g   coupled: i c d
              n=2 g=4 i=4 c=5 d=5   zero: 1 + 2
            transpose [a, b, c, d] -> [a, c, d, b]   free: a b c d
              a=2 b=16 c=5 d=5   zero: moved
            elementwise [a, b, c, d] -> [a, b, c, d]   free: a b c d
              a=2 b=5 c=5 d=16   zero: 0"#]],
    );
    check(
        "com.microsoft::SkipGroupNorm(2x16x5x5; 16; 16; 2x16x5x5) groups=4 channels_last=0 -> 2x16x5x5, 2x16x5x5",
        expect![[r#"
            elementwise [a, b, c, d], [a, b, c, d] -> [a, b, c, d]   free: a b c d
              a=2 b=16 c=5 d=5   zero: 0 + 1
            group_norm [n, g i, c, d], [g i], [g i] -> [n, g i, c, d]   free: n g   coupled: i c d
              n=2 g=4 i=4 c=5 d=5   zero: 1 + 2"#]],
    );
    check(
        "com.microsoft::FusedMatMul(2x8x3; 5x8) transA=1 transB=1 -> 2x3x5",
        expect![[r#"
            transpose [a, b, c] -> [a, c, b]   free: a b c
              a=2 b=8 c=3   zero: moved
            transpose [a, b] -> [b, a]   free: a b
              a=5 b=8   zero: moved
            matmul [a, m, k], [k, n] -> [a, m, n]   free: a m n   summed: k
              a=2 m=3 n=5 k=8   zero: 0·1   macs: 240"#]],
    );
    check(
        "com.microsoft::FusedGemm(3x8; 5x8; 5) transB=1 activation=Sigmoid -> 3x5",
        expect![[r#"
            gemm [m, k], [n, k], [n] -> [m, n]   free: m n   summed: k
              m=3 n=5 k=8   zero: 0·1 + 2   macs: 120
            elementwise [a, b] -> [a, b]   free: a b
              a=3 b=5   zero: lost"#]],
    );
    check(
        "com.microsoft::GemmFastGelu(3x8; 8x5) -> 3x5",
        expect![[r#"
            matmul [m, k], [k, n] -> [m, n]   free: m n   summed: k
              m=3 n=5 k=8   zero: 0·1   macs: 120
            elementwise [a, b] -> [a, b]   free: a b
              a=3 b=5   zero: 0"#]],
    );
    check(
        "com.microsoft::FusedConv(2x3x8x8; 16x3x3x3; 16; 2x16x6x6) activation=Relu -> 2x16x6x6",
        expect![[r#"
            conv [n, g i, h, w], [g o, i, kh, kw], [g o] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
              n=2 g=1 o=16 i=3 h=8 w=8 kh=3 kw=3 h'=6 w'=6   zero: 0·1 + 2   macs: 31104
            elementwise [a, b, c, d], [a, b, c, d] -> [a, b, c, d]   free: a b c d
              a=2 b=16 c=6 d=6   zero: 0 + 1
            elementwise [a, b, c, d] -> [a, b, c, d]   free: a b c d
              a=2 b=16 c=6 d=6   zero: 0"#]],
    );
    check(
        "com.microsoft::FusedConv(2x3x8x8; 16x3x3x3) activation=Clip activation_params=[1.0,6.0] -> 2x16x6x6",
        expect![[r#"
            conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
              n=2 g=1 o=16 i=3 h=8 w=8 kh=3 kw=3 h'=6 w'=6   zero: 0·1   macs: 31104
            elementwise [a, b, c, d] -> [a, b, c, d]   free: a b c d
              a=2 b=16 c=6 d=6   zero: lost"#]],
    );
}

#[test]
fn slice_may_be_empty() {
    check(
        "Slice(2x16; i64[16]; i64[99]; i64[1]) -> 2x0",
        expect![[r#"
        slice [a, b] -> [a, b']   free: a b' b
          a=2 b'=0 b=16   zero: moved"#]],
    );
    check(
        "Slice(2x5; i64[-3]; i64[2]; i64[1]) -> 2x0",
        expect![[r#"
        slice [a, b] -> [a, b']   free: a b'   fixed: b
          a=2 b'=0 b=5   zero: moved"#]],
    );
}

#[test]
fn one_hot_tells_indices_apart() {
    check(
        "OneHot(3x4; i64(5); i64[0, 1]) axis=1 -> 3x5x4",
        expect![[r#"
        one_hot [a, b] -> [a, classes, b]   free: a b   fixed: classes
          a=3 b=4 classes=5   zero: lost"#]],
    );
}

#[test]
fn batch_norm_in_training_takes_statistics_of_the_data() {
    check(
        "BatchNormalization(2x8x5x5; 8; 8; 8; 8) training_mode=1 -> 2x8x5x5",
        expect![[r#"
        batch_norm_training [a, b, c, d], [b], [b], [b], [b] -> [a, b, c, d]   free: b   coupled: a c d
          a=2 b=8 c=5 d=5   zero: 0·1 + 2"#]],
    );
    check_refused(
        "BatchNormalization@9(2x8x5x5; 8; 8; 8; 8) -> 2x8x5x5, 8, 8, 8, 8",
        expect!["operator `BatchNormalization` is left as it is: running statistics that are read"],
    );
}

#[test]
fn recurrent_layers_tie_gates_to_states() {
    check(
        "LSTM(5x2x16; 1x40x16; 1x40x10; 1x80) hidden_size=10 -> 5x1x2x10, 1x2x10, 1x2x10",
        expect![[r#"
            lstm [t, n, i], [d, q h, i], [d, q h, h], [d, 2 q h] -> [t, d, n, h], [d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q 2
              t=5 n=2 i=16 d=1 q=4 h=10 2=2   zero: 1 + 2 + 3   macs: 10400"#]],
    );
    check(
        "LSTM(5x2x16; 2x40x16; 2x40x10; 2x80; 2; 2x2x10; 2x2x10; 2x30) hidden_size=10 direction=bidirectional -> 5x2x2x10, 2x2x10, 2x2x10",
        expect![[r#"
            lstm [t, n, i], [d, q h, i], [d, q h, h], [d, 2 q h], [n], [d, n, h], [d, n, h], [d, p h] -> [t, d, n, h], [d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q 2 p
              t=5 n=2 i=16 d=2 q=4 h=10 2=2 p=3   zero: 1 + 2 + 3 + 5 + 6   macs: 20800"#]],
    );
    check(
        "GRU(5x2x16; 1x30x16; 1x30x10; _; _; 1x2x10) hidden_size=10 linear_before_reset=1 -> 5x1x2x10, 1x2x10",
        expect![[r#"
            gru [t, n, i], [d, q h, i], [d, q h, h], [], [], [d, n, h] -> [t, d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q
              t=5 n=2 i=16 d=1 q=3 h=10   zero: 1 + 2 + 5   macs: 7800"#]],
    );
    check(
        "RNN(2x5x16; 1x10x16; 1x10x10) hidden_size=10 layout=1 -> 2x5x1x10, 2x1x10",
        expect![[r#"
            rnn [n, t, i], [d, q h, i], [d, q h, h] -> [n, t, d, h], [n, d, h]   free: n   summed: i   inner: h   fixed: t d q
              t=5 n=2 i=16 d=1 q=1 h=10   zero: 1 + 2   macs: 2600"#]],
    );
}

#[test]
fn activations_of_recurrent_layers_keep_zero_or_not() {
    check(
        "RNN(5x2x16; 1x10x16; 1x10x10) activations=[Relu] -> 5x1x2x10",
        expect![[r#"
            rnn [t, n, i], [d, q h, i], [d, q h, h] -> [t, d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q
              t=5 n=2 i=16 d=1 q=1 h=10   zero: 1 + 2   macs: 2600"#]],
    );
    check(
        "RNN(5x2x16; 1x10x16; 1x10x10) activations=[Affine] -> 5x1x2x10",
        expect![[r#"
            rnn [t, n, i], [d, q h, i], [d, q h, h] -> [t, d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q
              t=5 n=2 i=16 d=1 q=1 h=10   zero: lost   macs: 2600"#]],
    );
    check(
        "GRU(5x2x16; 2x30x16; 2x30x10) direction=bidirectional activations=[Sigmoid,Tanh,Sigmoid,HardSigmoid] -> 5x2x2x10",
        expect![[r#"
            gru [t, n, i], [d, q h, i], [d, q h, h] -> [t, d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q
              t=5 n=2 i=16 d=2 q=3 h=10   zero: lost   macs: 15600"#]],
    );
    check(
        "LSTM(5x2x16; 1x40x16; 1x40x10) activations=[HardSigmoid,Relu,Softsign] -> 5x1x2x10",
        expect![[r#"
            lstm [t, n, i], [d, q h, i], [d, q h, h] -> [t, d, n, h], [d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q
              t=5 n=2 i=16 d=1 q=4 h=10   zero: 1 + 2   macs: 10400"#]],
    );
}

#[test]
fn fill_makes_free_axes() {
    check(
        "Range(i64(3); i64(4099); i64(2)) -> 2048",
        expect![[r#"
        range  -> [n]   fixed: n
          n=2048   zero: lost"#]],
    );
    check(
        "ConstantOfShape(i64[2, 16]) -> 2x16",
        expect![[r#"
            fill  -> [a, b]   free: a b
              a=2 b=16   zero: everywhere"#]],
    );
    check(
        "ConstantOfShape(i64[2, 16]) value=f32[1] -> 2x16",
        expect![[r#"
            fill  -> [a, b]   free: a b
              a=2 b=16   zero: lost"#]],
    );
    check(
        "Expand(f32(0); i64[2, 16]) -> 2x16",
        expect![[r#"
            expand [] -> [a, b]   free: a b
              a=2 b=16   zero: everywhere"#]],
    );
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    check_refused(
        "Conv(2x3x8x8; 16x4x3x3)",
        expect![
            "operator `Conv` is left as it is: channels of data and kernel do not agree: 3 and 4"
        ],
    );
    check_refused(
        "Conv(2x6x8x8; 16x1x3x3) group=4",
        expect!["operator `Conv` is left as it is: 6 channels in 4 groups"],
    );
    check_refused(
        "Conv(2x8x8x8; 6x2x3x3) group=4",
        expect!["operator `Conv` is left as it is: 6 kernels in 4 groups"],
    );
    check_refused(
        "Conv(2x3x8x8; 16x3x3)",
        expect!["operator `Conv` is left as it is: ranks of data and kernel do not agree: 4 and 3"],
    );
    check_refused(
        "Conv(2x3x2x2; 16x3x3x3)",
        expect!["operator `Conv` is left as it is: a window of 3 over 2 with pads 0"],
    );
    check_refused(
        "Conv(2x3x8x8; 16x3x3x3) group=0",
        expect!["operator `Conv` is left as it is: 3 channels in 0 groups"],
    );
    check_refused(
        "Conv(2x3x8x8; 16x3x3x3) strides=[0,1]",
        expect!["operator `Conv` is left as it is: a stride is not positive"],
    );
    check_refused(
        "Conv(2x3x8x8; 16x3x3x3) pads=[1,1]",
        expect!["operator `Conv` is left as it is: pads and spatial ends do not agree: 2 and 4"],
    );
    check_refused(
        "ConvTranspose(2x12x4x4; 10x12x2x2)",
        expect![
            "operator `ConvTranspose` is left as it is: channels of data and kernel do not agree: 12 and 10"
        ],
    );
    check_refused(
        "MatMul(3x8; 7x5)",
        expect![
            "operator `MatMul` is left as it is: inner sizes of the product do not agree: 8 and 7"
        ],
    );
    check_refused(
        "MatMul(2x6x8; 3x8x5)",
        expect!["operator `MatMul` is left as it is: broadcast sizes do not agree: 2 and 3"],
    );
    check_refused(
        "MatMul(scalar; 3)",
        expect!["operator `MatMul` is left as it is: operand 0 has 0 axes, not 1"],
    );
    check_refused(
        "Gemm(3x8; 5x7) transB=1",
        expect![
            "operator `Gemm` is left as it is: inner sizes of the product do not agree: 8 and 7"
        ],
    );
    check_refused(
        "Einsum(2x3; 4x5) equation=ij,jk->ik",
        expect!["operator `Einsum` is left as it is: sizes under one letter do not agree: 3 and 4"],
    );
    check_refused(
        "Einsum(2x3; 3x5) equation=ij,jkl->ik",
        expect!["operator `Einsum` is left as it is: letters and axes do not agree: 3 and 2"],
    );
    check_refused(
        "Einsum(2x3) equation=ij->ijk",
        expect!["operator `Einsum` is left as it is: a letter from nowhere"],
    );
    check_refused(
        "BatchNormalization(2x8x5x5; 7; 7; 7; 7)",
        expect![
            "operator `BatchNormalization` is left as it is: operand 1 is [7], its rule says [8]"
        ],
    );
    check_refused(
        "LayerNormalization(2x6x16; 15)",
        expect![
            "operator `LayerNormalization` is left as it is: operand 1 is [15], its rule says [16]"
        ],
    );
    check_refused(
        "LayerNormalization(2x6x16; 16) axis=3",
        expect!["operator `LayerNormalization` is left as it is: axis 3 of a tensor with 3 axes"],
    );
    check_refused(
        "GroupNormalization@21(2x16x5x5; 16; 16) num_groups=3",
        expect!["operator `GroupNormalization` is left as it is: 16 channels in 3 groups"],
    );
    check_refused(
        "MaxPool(2x8x7x7) kernel_shape=[3]",
        expect![
            "operator `MaxPool` is left as it is: kernel and spatial axes do not agree: 1 and 2"
        ],
    );
    check_refused(
        "ReduceSum(2x6x16; i64[3])",
        expect!["operator `ReduceSum` is left as it is: axis 3 of a tensor with 3 axes"],
    );
    check_refused(
        "Add(2x8; 7)",
        expect!["operator `Add` is left as it is: sizes 8 and 7 do not broadcast"],
    );
    check_refused(
        "Reshape(2x8; i64[3, 5])",
        expect!["operator `Reshape` is left as it is: numbers of elements do not agree: 16 and 15"],
    );
    check_refused(
        "Reshape(2x8; i64[3, -1])",
        expect!["operator `Reshape` is left as it is: 16 elements cannot be laid out in 3s"],
    );
    check_refused(
        "Reshape(2x8; i64[0, 0, 0])",
        expect!["operator `Reshape` is left as it is: entry 2 of the target copies no axis"],
    );
    check_refused(
        "Transpose(2x3) perm=[0,0]",
        expect!["operator `Transpose` is left as it is: [0, 0] is no order of axes"],
    );
    check_refused(
        "Expand(2x3; i64[2, 4])",
        expect!["operator `Expand` is left as it is: size 3 cannot be expanded to 4"],
    );
    check_refused(
        "Tile(2x3; i64[2])",
        expect!["operator `Tile` is left as it is: repeats and axes do not agree: 1 and 2"],
    );
    check_refused(
        "DepthToSpace(1x30x4x4) blocksize=4",
        expect![
            "operator `DepthToSpace` is left as it is: channels and blocks do not agree: 16 and 30"
        ],
    );
    check_refused(
        "Concat(2x3; 3x3) axis=1",
        expect!["operator `Concat` is left as it is: sizes of axis 0 do not agree: 2 and 3"],
    );
    check_refused(
        "Split(2x20; i64[12, 9]) axis=1 -> ?, ?",
        expect!["operator `Split` is left as it is: segments and size do not agree: 21 and 20"],
    );
    check_refused(
        "Slice(2x16; i64[0]; i64[4]; i64[2])",
        expect!["operator `Slice` is left as it is: axis 2 of a tensor with 2 axes"],
    );
    check_refused(
        "Slice(2x16; i64[0, 1]; i64[4, 5]; i64[1, 1])",
        expect!["operator `Slice` is left as it is: axis 1 is sliced twice or by step 0"],
    );
    check_refused(
        "GatherND(4x5; 7x3)",
        expect!["operator `GatherND` is left as it is: an index deeper than the data"],
    );
    check_refused(
        "Pad(2x8; i64[0, 1, 0])",
        expect!["operator `Pad` is left as it is: borders and axes do not agree: 3 and 4"],
    );
    check_refused(
        "Pad(2x8; i64[0, -9, 0, 0])",
        expect!["operator `Pad` is left as it is: a negative size"],
    );
    check_refused(
        "Resize(2x8; _; f32[1, 2, 2])",
        expect!["operator `Resize` is left as it is: scales and axes do not agree: 3 and 2"],
    );
    check_refused(
        "Resize(2x8; _; f32[1, 0])",
        expect!["operator `Resize` is left as it is: a size of 0"],
    );
    check_refused(
        "LSTM(5x2x16; 1x30x16; 1x30x10)",
        expect![
            "operator `LSTM` is left as it is: rows of the kernel and gates do not agree: 30 and 40"
        ],
    );
    check_refused(
        "GRU(5x2x16; 1x30x16; 1x30x10) hidden_size=8",
        expect![
            "operator `GRU` is left as it is: `hidden_size` times gates and rows of the kernel do not agree: 24 and 30"
        ],
    );
    check_refused(
        "RNN(5x2x16; 1x10x16; 2x10x10)",
        expect![
            "operator `RNN` is left as it is: operand 2 is [2, 10, 10], its rule says [1, 10, 10]"
        ],
    );
    check_refused(
        "Attention@23(2x4x6x8; 2x4x5x7; 2x4x5x7)",
        expect![
            "operator `Attention` is left as it is: widths of queries and keys do not agree: 8 and 7"
        ],
    );
    check_refused(
        "Attention@23(2x6x16; 2x6x16; 2x6x16)",
        expect!["operator `Attention` is left as it is: operands are not divided into heads"],
    );
    check_refused(
        "Attention@23(2x8x6x4; 2x3x5x4; 2x3x5x4)",
        expect!["operator `Attention` is left as it is: 8 heads over 3 key heads"],
    );
}

#[test]
fn what_is_not_followed_is_refused() {
    check_refused(
        "ConvTranspose(2x12x4x4; 12x10x2x2) output_shape=[9,9]",
        expect!["operator `ConvTranspose` is left as it is: `output_shape`"],
    );
    check_refused(
        "Reshape(2x8; 2)",
        expect!["operator `Reshape` is left as it is: input 1 is computed from data"],
    );
    check_refused(
        "Split(2x6; i64[0, 6]) axis=1 -> ?, ?",
        expect!["operator `Split` is left as it is: an empty segment"],
    );
    check_refused(
        "com.microsoft::Attention(2x6x16; 16x48) num_heads=4 do_rotary=1",
        expect!["operator `com.microsoft::Attention` is left as it is: `do_rotary`"],
    );
    check_refused(
        "com.microsoft::MultiHeadAttention(2x6x4x3x4) num_heads=4",
        expect![
            "operator `com.microsoft::MultiHeadAttention` is left as it is: packed queries, keys and values"
        ],
    );
    check_refused(
        "com.microsoft::Conv(2x3x8x8; 16x3x3x3)",
        expect!["operator `com.microsoft::Conv` is unknown: what it touches is left as it is"],
    );
    check_refused(
        "StringSplit(2x3)",
        expect!["operator `StringSplit` is unknown: what it touches is left as it is"],
    );
}

#[test]
fn what_is_counted_has_an_axis_of_its_own() {
    check(
        "NonZero(2x3) -> 2x10007",
        expect![[r#"
        non_zero [s0, s1] -> [k, count2]   fixed: s0 s1 count2 k
          s0=2 s1=3 count2=10007 k=2   zero: lost"#]],
    );
    check(
        "NonMaxSuppression(1x30x4; 1x5x30; i64[9]) -> 10007x3",
        expect![[r#"
        non_max_suppression [b0, b1, b2], [s0, s1, s2] -> [count6, k]   fixed: b0 b1 b2 s0 s1 s2 count6 k
          b0=1 b1=30 b2=4 s0=1 s1=5 s2=30 count6=10007 k=3   zero: lost"#]],
    );
    check(
        "Compress(2x8x3; 8) axis=1 -> 2x10007x3",
        expect![[r#"
        compress [a, b, c], [s0] -> [a, count4, c]   free: a c   fixed: b s0 count4
          a=2 b=8 c=3 s0=8 count4=10007   zero: 0 moved"#]],
    );
    check(
        "Compress(2x8x3; 48) -> 10007",
        expect![[r#"
        compress [a, b, c], [s0] -> [count4]   fixed: a b c s0 count4
          a=2 b=8 c=3 s0=48 count4=10007   zero: 0 moved"#]],
    );
    check(
        "Unique(2x8) axis=0 -> 10007x8, 10007, 2, 10007",
        expect![[r#"
        unique [s0, s1] -> [count2, s1], [count2], [s0], [count2]   fixed: s0 s1 count2
          s0=2 s1=8 count2=10007   zero: lost"#]],
    );
    check(
        "Unique(2x8) -> 10007, 10007, 16, 10007",
        expect![[r#"
        unique [s0, s1] -> [count2], [count2], [all], [count2]   fixed: s0 s1 count2 all
          s0=2 s1=8 count2=10007 all=16   zero: lost"#]],
    );
}

#[test]
fn sizes_that_are_computed_from_data_are_counted() {
    check(
        "TopK(2x8; 1) axis=0 -> 10007x8, 10007x8",
        expect![[r#"
        topk [a, b] -> [a', b], [a', b]   free: b   fixed: a a'
          a=2 a'=10007 b=8   zero: lost"#]],
    );
    check(
        "Range(scalar; scalar; scalar) -> 10007",
        expect![[r#"
        range  -> [n]   fixed: n
          n=10007   zero: lost"#]],
    );
    check(
        "ConstantOfShape(2) -> 10007x10009",
        expect![[r#"
        fill [k] -> [n0, n1]   fixed: k n0 n1
          k=2 n0=10007 n1=10009   zero: lost"#]],
    );
    check(
        "Expand(1x8; 3) -> 10007x10009x8",
        expect![[r#"
        expand [a, b], [k] -> [n0, a', b]   free: b   fixed: n0 a a' k
          n0=10007 a=1 a'=10009 b=8 k=3   zero: 0 moved"#]],
    );
    check(
        "Slice(2x8; 1; 1; i64[0]) -> 10007x8",
        expect![[r#"
        slice [a, b], [s0], [e0] -> [count1, b]   free: b   fixed: a count1 s0 e0
          a=2 count1=10007 b=8 s0=1 e0=1   zero: 0 moved"#]],
    );
    check(
        "Slice(2x8; i64[0]; 1; i64[1]; i64[1]) -> 2x10007",
        expect![[r#"
        slice [a, b], [s0], [e0] -> [a, count2]   free: a   fixed: b count2 s0 e0
          a=2 b=8 count2=10007 s0=1 e0=1   zero: 0 moved"#]],
    );
}

#[test]
fn integers_stand_for_numbers_by_a_scale_and_a_zero_point() {
    check(
        "QuantizeLinear(2x3x8; scalar; scalar) -> 2x3x8",
        expect![[r#"
        quantize [a, b, c], [], [] -> [a, b, c]   free: a b c
          a=2 b=3 c=8   zero: 0 / 1"#]],
    );
    check(
        "DequantizeLinear(6x4; 1) -> 6x4",
        expect![[r#"
        dequantize [a, b], [1] -> [a, b]   free: a b
          a=6 b=4   zero: 0"#]],
    );
    check(
        "DequantizeLinear(6x4; 6; 6) axis=0 -> 6x4",
        expect![[r#"
        dequantize [a, b], [a], [a] -> [a, b]   free: a b
          a=6 b=4   zero: 0"#]],
    );
    check(
        "QuantizeLinear(2x3x8; 3) -> 2x3x8",
        expect![[r#"
        quantize [a, b, c], [b] -> [a, b, c]   free: a b c
          a=2 b=3 c=8   zero: 0 / 1"#]],
    );
}

#[test]
fn a_block_that_shares_a_scale_is_not_cut() {
    check(
        "DequantizeLinear@21(8x4; 2x4; 2x4) axis=0 block_size=4 -> 8x4",
        expect![[r#"
        dequantize [a block, b], [a, b], [a, b] -> [a block, b]   free: a b   fixed: block
          a=2 block=4 b=4   zero: 0"#]],
    );
    check(
        "DequantizeLinear@21(7x4; 2x4) axis=0 block_size=4 -> 7x4",
        expect![[r#"
        dequantize [a, b], [blocks, b] -> [a, b]   free: b   fixed: a blocks
          a=7 blocks=2 b=4   zero: 0"#]],
    );
    check_refused(
        "DequantizeLinear@21(9x4; 2x4) axis=0 block_size=4",
        expect!["operator `DequantizeLinear` is left as it is: 9 in 2 blocks of 4"],
    );
    check_refused(
        "DequantizeLinear(6x4; 5) axis=0",
        expect![
            "operator `DequantizeLinear` is left as it is: a scale or zero point of this shape"
        ],
    );
}

#[test]
fn a_dynamic_range_has_no_use_for_zeros() {
    check(
        "DynamicQuantizeLinear(2x8) -> 2x8, scalar, scalar",
        expect![[r#"
        extremes [a, b] -> []   summed: a b
          a=2 b=8   zero: lost
        extremes [a, b] -> []   summed: a b
          a=2 b=8   zero: lost
        quantize [a, b], [], [] -> [a, b]   free: a b
          a=2 b=8   zero: 0 / 1"#]],
    );
}

#[test]
fn integer_products_are_those_of_the_numbers() {
    check(
        "MatMulInteger(2x8; 8x4) -> 2x4",
        expect![[r#"
        matmul [m, k], [k, n] -> [m, n]   free: m n   summed: k
          m=2 n=4 k=8   zero: 0·1   macs: 64"#]],
    );
    check(
        "MatMulInteger(2x8; 8x4; scalar; 4) -> 2x4",
        expect![[r#"
        dequantize [a, b], [] -> [a, b]   free: a b
          a=2 b=8   zero: 0
        dequantize [a, b], [b] -> [a, b]   free: a b
          a=8 b=4   zero: 0
        matmul [m, k], [k, n] -> [m, n]   free: m n   summed: k
          m=2 n=4 k=8   zero: 0·1   macs: 64"#]],
    );
    check(
        "QLinearMatMul(2x8; 1; 1; 8x4; 4; 4; 1; 1) -> 2x4",
        expect![[r#"
        dequantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=8   zero: 0
        dequantize [a, b], [b], [b] -> [a, b]   free: a b
          a=8 b=4   zero: 0
        matmul [m, k], [k, n] -> [m, n]   free: m n   summed: k
          m=2 n=4 k=8   zero: 0·1   macs: 64
        quantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=4   zero: 0 / 1"#]],
    );
    check(
        "ConvInteger(1x4x5; 6x2x3; scalar; scalar) group=2 -> 1x6x3",
        expect![[r#"
        dequantize [a, b, c], [] -> [a, b, c]   free: a b c
          a=1 b=4 c=5   zero: 0
        dequantize [a, b, c], [] -> [a, b, c]   free: a b c
          a=6 b=2 c=3   zero: 0
        conv [n, g i, h], [g o, i, kh] -> [n, g o, h']   free: n g o   summed: i   fixed: h kh h'
          n=1 g=2 o=3 i=2 h=5 kh=3 h'=3   zero: 0·1   macs: 108"#]],
    );
    check(
        "QLinearConv(1x4x5; 1; 1; 6x4x3; 6; 6; 1; 1; 6) -> 1x6x3",
        expect![[r#"
        dequantize [a, b, c], [1], [1] -> [a, b, c]   free: a b c
          a=1 b=4 c=5   zero: 0
        dequantize [a, b, c], [a], [a] -> [a, b, c]   free: a b c
          a=6 b=4 c=3   zero: 0
        conv [n, g i, h], [g o, i, kh], [g o] -> [n, g o, h']   free: n g o   summed: i   fixed: h kh h'
          n=1 g=1 o=6 i=4 h=5 kh=3 h'=3   zero: 0·1 + 2   macs: 216
        quantize [a, b, c], [1], [1] -> [a, b, c]   free: a b c
          a=1 b=6 c=3   zero: 0 / 1"#]],
    );
}

#[test]
fn integer_operators_of_onnx_runtime_are_those_of_the_numbers() {
    check(
        "com.microsoft::QLinearAdd(2x8; 1; 1; 8; 1; 1; 1; 1) -> 2x8",
        expect![[r#"
        dequantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=8   zero: 0
        dequantize [a], [1], [1] -> [a]   free: a
          a=8   zero: 0
        elementwise [a, b], [b] -> [a, b]   free: a b
          a=2 b=8   zero: 0 + 1
        quantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=8   zero: 0 / 1"#]],
    );
    check(
        "com.microsoft::QLinearSigmoid(2x8; 1; 1; 1; 1) -> 2x8",
        expect![[r#"
        dequantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=8   zero: 0
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=8   zero: lost
        quantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=8   zero: 0 / 1"#]],
    );
    check(
        "com.microsoft::QLinearConcat(1; 1; 2x8; 1; 1; 2x3; 1; 1) axis=1 -> 2x11",
        expect![[r#"
        dequantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=8   zero: 0
        dequantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=3   zero: 0
        concat [a, b], [a, b1] -> [a, b ++ b1]   free: a b b1
          a=2 b=8 b1=3   zero: moved
        quantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=11   zero: 0 / 1"#]],
    );
    check(
        "com.microsoft::QLinearGlobalAveragePool(2x8x3x3; 1; 1; 1; 1) -> 2x8x1x1",
        expect![[r#"
        dequantize [a, b, c, d], [1], [1] -> [a, b, c, d]   free: a b c d
          a=2 b=8 c=3 d=3   zero: 0
        reduce [a, b, c, d] -> [a, b, 1, 1]   free: a b   coupled: c d
          a=2 b=8 c=3 d=3   zero: 0
        quantize [a, b, c, d], [1], [1] -> [a, b, c, d]   free: a b c d
          a=2 b=8 c=1 d=1   zero: 0 / 1"#]],
    );
    check(
        "com.microsoft::QGemm(2x8; 1; 1; 4x8; 4; 4; 4) transB=1 -> 2x4",
        expect![[r#"
        dequantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=8   zero: 0
        dequantize [a, b], [a], [a] -> [a, b]   free: a b
          a=4 b=8   zero: 0
        gemm [m, k], [n, k], [n] -> [m, n]   free: m n   summed: k
          m=2 n=4 k=8   zero: 0·1 + 2   macs: 64"#]],
    );
    check(
        "com.microsoft::DynamicQuantizeMatMul(2x8; 8x4; 4; 4; 4) -> 2x4",
        expect![[r#"
        extremes [a, b] -> []   summed: a b
          a=2 b=8   zero: lost
        dequantize [a, b], [b], [b] -> [a, b]   free: a b
          a=8 b=4   zero: 0
        matmul [m, k], [k, n] -> [m, n]   free: m n   summed: k
          m=2 n=4 k=8   zero: 0·1   macs: 64
        elementwise [a, b], [b] -> [a, b]   free: a b
          a=2 b=4   zero: 0 + 1"#]],
    );
    check(
        "com.microsoft::MatMulIntegerToFloat(2x8; 8x4; 1; 4; 1; 4) -> 2x4",
        expect![[r#"
        dequantize [a, b], [1], [1] -> [a, b]   free: a b
          a=2 b=8   zero: 0
        dequantize [a, b], [b], [b] -> [a, b]   free: a b
          a=8 b=4   zero: 0
        matmul [m, k], [k, n] -> [m, n]   free: m n   summed: k
          m=2 n=4 k=8   zero: 0·1   macs: 64"#]],
    );
}

#[test]
fn blocks_of_packed_integers_are_cut_whole() {
    check(
        "com.microsoft::MatMulNBits(2x32; 8x2x8; 16) K=32 N=8 bits=4 block_size=16 -> 2x8",
        expect![[r#"
            packed_matmul [a, blocks block], [n, blocks, bytes], [n blocks] -> [a, n]   free: a n   summed: blocks   fixed: block bytes
              a=2 n=8 blocks=2 block=16 bytes=8   zero: 0·2   macs: 512"#]],
    );
    check(
        "com.microsoft::MatMulNBits(3x2x32; 8x2x8; 8x2; 8x1; _; 8) K=32 N=8 block_size=16 -> 3x2x8",
        expect![[r#"
            packed_matmul [a, b, blocks block], [n, blocks, bytes], [n, blocks], [n, zeros], [], [n] -> [a, b, n]   free: a b n   fixed: blocks block bytes zeros
              a=3 b=2 n=8 blocks=2 block=16 bytes=8 zeros=1   zero: 0·2 + 5   macs: 1536"#]],
    );
    check(
        "com.microsoft::MatMulNBits(2x20; 8x2x8; 8x2) K=20 N=8 block_size=16 -> 2x8",
        expect![[r#"
            packed_matmul [a, k], [n, blocks, bytes], [n, blocks] -> [a, n]   free: a n   fixed: blocks k bytes
              a=2 n=8 blocks=2 k=20 bytes=8   zero: 0·2   macs: 320"#]],
    );
    check_refused(
        "com.microsoft::MatMulNBits(2x32; 8x2x8; 16; _; 32) K=32 N=8 block_size=16",
        expect![
            "operator `com.microsoft::MatMulNBits` is left as it is: blocks of reordered groups"
        ],
    );
}

#[test]
fn an_lstm_of_integers_is_that_of_the_numbers() {
    check(
        "com.microsoft::DynamicQuantizeLSTM(4x2x6; 1x6x20; 1x5x20; 1x40; _; _; _; _; 1; 1; 1; 1) hidden_size=5 -> 4x1x2x5, 1x2x5, 1x2x5",
        expect![[r#"
            dequantize [a, b, c], [1], [1] -> [a, b, c]   free: a b c
              a=1 b=6 c=20   zero: 0
            transpose [a, b, c] -> [a, c, b]   free: a b c
              a=1 b=6 c=20   zero: moved
            dequantize [a, b, c], [1], [1] -> [a, b, c]   free: a b c
              a=1 b=5 c=20   zero: 0
            transpose [a, b, c] -> [a, c, b]   free: a b c
              a=1 b=5 c=20   zero: moved
            lstm [t, n, i], [d, q h, i], [d, q h, h], [d, 2 q h], [], [], [], [] -> [t, d, n, h], [d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q 2
              t=4 n=2 i=6 d=1 q=4 h=5 2=2   zero: 1 + 2 + 3   macs: 1760
            extremes [a, b, c] -> []   summed: a b c
              a=4 b=2 c=6   zero: lost
            extremes [a, b, c, d] -> []   summed: a b c d
              a=4 b=1 c=2 d=5   zero: lost"#]],
    );
}
