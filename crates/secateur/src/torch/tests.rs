//! Programs from text: their rules, groups, and what becomes of their text.

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::apply::multiplied;
use super::file::dense_order;
use super::{TorchFile, known_operators};
use crate::Model;
use crate::group::Keeps;
use crate::ops;
use crate::program::{self, Entry};
use crate::tensor::Cut;

fn file(text: &str) -> TorchFile {
    TorchFile::parse(program::encode(text).into(), Path::new("text.pt2")).unwrap()
}

/// The rules of a program, and what it warns of.
#[allow(clippy::needless_pass_by_value)]
fn check_rules(text: &str, expected: Expect) {
    let graph = file(text).import().unwrap().graph;
    let mut lines: Vec<String> = Vec::new();
    for node in &graph.nodes {
        lines.push(match node.rule {
            Some(_) => {
                ops::tests::check_rule(&graph, node);
                ops::tests::describe(node)
            }
            None => format!("{}: opaque", node.kind),
        });
    }
    lines.extend(graph.warnings.iter().map(|warning| format!("warning: {warning}")));
    expected.assert_eq(&lines.join("\n"));
}

/// A model in a file, beside a place to write to.
struct Case {
    dir: tempfile::TempDir,
    model: Model,
}

impl Case {
    fn of_entries(entries: &[Entry]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.pt2");
        std::fs::write(&path, program::pack(entries)).unwrap();
        let model = Model::open(&path, &Default::default()).unwrap();
        Case { dir, model }
    }

    fn new(text: &str) -> Self {
        Self::of_entries(&program::entries(text))
    }

    /// The first indices of the named groups.
    fn keeps(&self, sizes: &[(&str, u32)]) -> Keeps {
        let mut keeps = Keeps::new();
        for &(name, size) in sizes {
            let found = self.model.groups().iter().find(|(_, group)| group.name == name);
            let found = found.unwrap_or_else(|| panic!("`{name}`: {}", self.groups()));
            keeps.insert(found.0, (0..size).collect());
        }
        keeps
    }

    /// The model without the rest of the named groups; its weights must be cut as planned.
    fn prune(&self, sizes: &[(&str, u32)]) -> Model {
        let keeps = self.keeps(sizes);
        let out = self.dir.path().join("out.pt2");
        self.model.write_pruned(&keeps, &out, &mut |_| ()).unwrap();
        let after = Model::open(&out, &Default::default()).unwrap();
        let changes = self.model.changes(&keeps).unwrap();
        let (graph, new) = (self.model.graph(), after.graph());
        for (&id, keep) in &changes.params {
            let param = graph.param(id);
            let same = new.param_ids().find(|&id| new.param(id).name == param.name).unwrap();
            let view = self.model.weights().view(id).unwrap();
            let mut wanted = Vec::new();
            let cut = Cut::keep(param.dtype, &param.shape, keep).unwrap();
            cut.write(&view.data, &mut wanted).unwrap();
            let found = after.weights().view(same).unwrap();
            assert_eq!(
                (&found.dims[..], &found.data[..]),
                (cut.dims(), &wanted[..]),
                "{}",
                param.name
            );
        }
        after
    }

    fn groups(&self) -> String {
        let graph = self.model.graph();
        let mut lines = Vec::new();
        for (_, group) in self.model.groups().iter() {
            let slices = group.slices.iter().map(|slice| {
                let name = &graph.param(slice.param).name;
                format!("{name}:{} {}", slice.axis, slice.role.name())
            });
            let slices: Vec<String> = slices.collect();
            let exact = if group.is_exact() { "exact" } else { "approximate" };
            let (name, kind, size) = (&group.name, group.kind.name(), group.size);
            lines.push(format!("{name} {kind} {size} {exact}: {}", slices.join(", ")));
        }
        lines.extend(graph.warnings.iter().map(|warning| format!("warning: {warning}")));
        lines.join("\n")
    }
}

#[allow(clippy::needless_pass_by_value)]
fn check_groups(text: &str, expected: Expect) {
    expected.assert_eq(&Case::new(text).groups());
}

/// What changes in the program's text, and in the descriptions of weights, where groups are cut.
#[allow(clippy::needless_pass_by_value)]
fn check_edits(text: &str, sizes: &[(&str, u32)], expected: Expect) {
    let case = Case::new(text);
    assert_eq!(case.model.graph().warnings, [""; 0]);
    let after = case.prune(sizes);
    for (old, new) in case.model.graph().outputs.iter().zip(&after.graph().outputs) {
        assert_eq!(case.model.graph().shape(*old), after.graph().shape(*new));
    }
    expected.assert_eq(&difference(case.model.path(), after.path()));
}

fn torch(model: &Path) -> TorchFile {
    TorchFile::open(model).unwrap()
}

fn difference(before: &Path, after: &Path) -> String {
    let (before, after) = (torch(before), torch(after));
    let mut lines = Vec::new();
    compare("", &json(&before.program.text), &json(&after.program.text), &mut lines);
    for ((_, old), (_, new)) in before.payloads.iter().zip(&after.payloads) {
        compare("", &json(&old.text), &json(&new.text), &mut lines);
    }
    lines.join("\n")
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

/// The places at which two values differ.
fn compare(path: &str, old: &Json, new: &Json, lines: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
        (Json::Object(before), Json::Object(after)) if before.keys().eq(after.keys()) => {
            for (key, old) in before {
                let dull = ["graph_module", "graph", "config", "tensor_values", "tensor_meta"];
                let inner = match (dull.contains(&key.as_str()), path) {
                    (true, path) => path.to_string(),
                    (false, "") => key.clone(),
                    (false, path) => format!("{path}.{key}"),
                };
                compare(&inner, old, &after[key], lines);
            }
        }
        (Json::Array(before), Json::Array(after))
            if before.len() == after.len() && old[0].get("target").is_some() =>
        {
            for (old, new) in before.iter().zip(after) {
                compare(old["name"].as_str().unwrap(), old, new, lines);
            }
        }
        (Json::Array(before), Json::Array(after)) if old[0].get("kind").is_some() => {
            for (at, new) in after.iter().enumerate() {
                let old = before.get(at).unwrap_or(&Json::Null);
                if let Some(inner) = old["arg"].get("as_graph") {
                    compare("inside ", &inner["graph"], &new["arg"]["as_graph"]["graph"], lines);
                } else if old != new {
                    lines.push(format!("{path} {} -> {}", argument(old), argument(new)));
                }
            }
        }
        _ => lines.push(format!("{path} {} -> {}", short(old), short(new))),
    }
}

fn argument(argument: &Json) -> String {
    match argument.get("name") {
        Some(name) => format!("{}={}", name.as_str().unwrap(), short(&argument["arg"])),
        None => "nothing".to_string(),
    }
}

/// A value without what its type adds.
fn short(value: &Json) -> String {
    match value {
        Json::Array(parts) => {
            format!("[{}]", parts.iter().map(short).collect::<Vec<_>>().join(", "))
        }
        Json::Object(fields) if fields.len() == 1 => {
            fields.values().map(short).collect::<Vec<_>>().join("")
        }
        Json::Object(fields) if fields.contains_key("expr_str") => {
            let spelled = fields["expr_str"].as_str().unwrap();
            format!(
                "{} = {}",
                spelled.replace(", positive=True, integer=True", ""),
                short(&fields["hint"])
            )
        }
        value => value.to_string(),
    }
}

#[test]
fn operators_are_known_once_and_sorted() {
    let known = known_operators();
    assert!(known.is_sorted_by(|a, b| a < b));
    assert!(known.contains(&"aten.conv2d") && known.len() > 250);
}

#[test]
fn linear_layers() {
    let text = "x: 2x8\nw = 6x8\nb = 6\nv = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w, bias=b)\n\
        r: 2x6 = aten.relu.default(self=y)\n\
        z: 2x3 = aten.linear.default(input=r, weight=v)\n-> z";
    check_rules(
        text,
        expect![[r#"
        linear [a, k], [n, k], [n] -> [a, n]   free: a n   summed: k
          a=2 n=6 k=8   zero: 0·1 + 2   macs: 96
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=6   zero: 0
        linear [a, k], [n, k] -> [a, n]   free: a n   summed: k
          a=2 n=3 k=6   zero: 0·1   macs: 36"#]],
    );
    check_groups(text, expect!["w:0 features 6 exact: w:0 producer, b:0 affine, v:1 consumer"]);
    check_edits(
        text,
        &[("w:0", 2)],
        expect![[r#"
        b.sizes [6] -> [2]
        r.sizes [2, 6] -> [2, 2]
        r.strides [6, 1] -> [2, 1]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]
        y.sizes [2, 6] -> [2, 2]
        y.strides [6, 1] -> [2, 1]
        b.sizes [6] -> [2]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]"#]],
    );
}

#[test]
fn products_with_transposed_operands() {
    let text = "x: 2x8\nw = 8x6\nb = 6\nv = 3x6\n\
        y: 2x6 = aten.addmm.default(self=b, mat1=x, mat2=w)\n\
        t: 6x3 = aten.t.default(self=v)\n\
        z: 2x3 = aten.mm.default(self=y, mat2=t)\n-> z";
    check_rules(
        text,
        expect![[r#"
        gemm [m, k], [k, n], [n] -> [m, n]   free: m n   summed: k
          m=2 n=6 k=8   zero: 0·1 + 2   macs: 96
        transpose [a, b] -> [b, a]   free: a b
          a=3 b=6   zero: moved
        matmul [m, k], [k, n] -> [m, n]   free: m n   summed: k
          m=2 n=3 k=6   zero: 0·1   macs: 36"#]],
    );
    check_groups(text, expect!["w:1 features 6 exact: w:1 producer, b:0 affine, v:1 consumer"]);
    check_edits(
        text,
        &[("w:1", 2)],
        expect![[r#"
        b.sizes [6] -> [2]
        t.sizes [6, 3] -> [2, 3]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [8, 6] -> [8, 2]
        w.strides [6, 1] -> [2, 1]
        y.sizes [2, 6] -> [2, 2]
        y.strides [6, 1] -> [2, 1]
        b.sizes [6] -> [2]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [8, 6] -> [8, 2]
        w.strides [6, 1] -> [2, 1]"#]],
    );
}

#[test]
fn einsum() {
    check_rules(
        "x: 2x5x8\nw = 4x3x8\ny: 2x4x5x3 = aten.einsum.default(equation='bnc,hdc->bhnd', tensors=[x, w])\n-> y",
        expect![[r#"
            einsum [b, n, c], [h, d, c] -> [b, h, n, d]   free: b n h d   summed: c
              b=2 n=5 c=8 h=4 d=3   zero: 0·1   macs: 960"#]],
    );
}

#[test]
fn convolutions() {
    let text = "x: 2x3x8x8\nw = 8x3x3x3\nb = 8\nm = 8\ns = 8\ng = 8x4x3x3\nd = 8x1x3x3\nv = 4x8x1x1\n\
        a: 2x8x8x8 = aten.conv2d.default(input=x, weight=w, bias=b, stride=[1,1], padding=[1,1])\n\
        n: 2x8x8x8 = aten.batch_norm.default(input=a, weight=b, bias=b, running_mean=m, running_var=s, training=false, momentum=0.1, eps=0.001, cudnn_enabled=true)\n\
        r: 2x8x8x8 = aten.relu_.default(self=n)\n\
        c: 2x8x8x8 = aten.conv2d.default(input=r, weight=d, bias=None, stride=[1,1], padding='same', dilation=[1,1], groups=8)\n\
        z: 2x4x8x8 = aten.conv2d.default(input=c, weight=v)\n-> z";
    check_rules(
        text,
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw], [g o] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=1 o=8 i=3 h=8 w=8 kh=3 kw=3 h'=8 w'=8   zero: 0·1 + 2   macs: 27648
        batch_norm [a, b, c, d], [b], [b], [b], [b] -> [a, b, c, d]   free: a b c d
          a=2 b=8 c=8 d=8   zero: 1 + 2
        elementwise [a, b, c, d] -> [a, b, c, d]   free: a b c d
          a=2 b=8 c=8 d=8   zero: 0
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=8 o=1 i=1 h=8 w=8 kh=3 kw=3 h'=8 w'=8   zero: 0·1   macs: 9216
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h, w]   free: n g o h w   summed: i   fixed: kh kw
          n=2 g=1 o=4 i=8 h=8 w=8 kh=1 kw=1   zero: 0·1   macs: 4096"#]],
    );
    check_groups(
        text,
        expect![
            "w:0 channels 8 exact: w:0 producer, b:0 affine, m:0 affine, s:0 affine, d:0 producer, v:1 consumer"
        ],
    );
    check_edits(
        text,
        &[("w:0", 6)],
        expect![[r#"
        c.inputs groups=8 -> groups=6
        a.sizes [2, 8, 8, 8] -> [2, 6, 8, 8]
        a.strides [512, 64, 8, 1] -> [384, 64, 8, 1]
        b.sizes [8] -> [6]
        c.sizes [2, 8, 8, 8] -> [2, 6, 8, 8]
        c.strides [512, 64, 8, 1] -> [384, 64, 8, 1]
        d.sizes [8, 1, 3, 3] -> [6, 1, 3, 3]
        m.sizes [8] -> [6]
        n.sizes [2, 8, 8, 8] -> [2, 6, 8, 8]
        n.strides [512, 64, 8, 1] -> [384, 64, 8, 1]
        r.sizes [2, 8, 8, 8] -> [2, 6, 8, 8]
        r.strides [512, 64, 8, 1] -> [384, 64, 8, 1]
        s.sizes [8] -> [6]
        v.sizes [4, 8, 1, 1] -> [4, 6, 1, 1]
        v.strides [8, 1, 1, 1] -> [6, 1, 1, 1]
        w.sizes [8, 3, 3, 3] -> [6, 3, 3, 3]
        b.sizes [8] -> [6]
        d.sizes [8, 1, 3, 3] -> [6, 1, 3, 3]
        m.sizes [8] -> [6]
        s.sizes [8] -> [6]
        v.sizes [4, 8, 1, 1] -> [4, 6, 1, 1]
        v.strides [8, 1, 1, 1] -> [6, 1, 1, 1]
        w.sizes [8, 3, 3, 3] -> [6, 3, 3, 3]"#]],
    );
}

#[test]
fn grouped_and_transposed_convolutions() {
    let text = "x: 2x3x8x8\nw = 8x3x1x1\ng = 12x4x3x3\nt = 12x4x2x2\nv = 2x4x1x1\n\
        a: 2x8x8x8 = aten.conv2d.default(input=x, weight=w)\n\
        b: 2x12x6x6 = aten.conv2d.default(input=a, weight=g, bias=None, stride=[1,1], padding=[0,0], dilation=[1,1], groups=2)\n\
        c: 2x4x12x12 = aten.conv_transpose2d.input(input=b, weight=t, bias=None, stride=[2,2])\n\
        z: 2x2x12x12 = aten.conv2d.default(input=c, weight=v)\n-> z";
    check_rules(
        text,
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h, w]   free: n g o h w   summed: i   fixed: kh kw
          n=2 g=1 o=8 i=3 h=8 w=8 kh=1 kw=1   zero: 0·1   macs: 3072
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=2 o=6 i=4 h=8 w=8 kh=3 kw=3 h'=6 w'=6   zero: 0·1   macs: 31104
        conv_transpose [n, g i, h, w], [g i, o, kh, kw] -> [n, g o, h', w']   free: n g o   summed: i   fixed: h w kh kw h' w'
          n=2 g=1 o=4 i=12 h=6 w=6 kh=2 kw=2 h'=12 w'=12   zero: 0·1   macs: 13824
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h, w]   free: n g o h w   summed: i   fixed: kh kw
          n=2 g=1 o=2 i=4 h=12 w=12 kh=1 kw=1   zero: 0·1   macs: 2304"#]],
    );
    check_groups(
        text,
        expect![[r#"
        w:0#0 conv-groups 2 exact: w:0 producer, g:0 producer, t:0 consumer
        w:0#1 group-channels 4 exact: w:0 producer, g:1 consumer
        g:0#1 group-channels 6 exact: g:0 producer, t:0 consumer
        t:1 channels 4 exact: t:1 producer, v:1 consumer"#]],
    );
    check_edits(
        text,
        &[("w:0#1", 2), ("t:1", 3)],
        expect![[r#"
        a.sizes [2, 8, 8, 8] -> [2, 4, 8, 8]
        a.strides [512, 64, 8, 1] -> [256, 64, 8, 1]
        c.sizes [2, 4, 12, 12] -> [2, 3, 12, 12]
        c.strides [576, 144, 12, 1] -> [432, 144, 12, 1]
        g.sizes [12, 4, 3, 3] -> [12, 2, 3, 3]
        g.strides [36, 9, 3, 1] -> [18, 9, 3, 1]
        t.sizes [12, 4, 2, 2] -> [12, 3, 2, 2]
        t.strides [16, 4, 2, 1] -> [12, 4, 2, 1]
        v.sizes [2, 4, 1, 1] -> [2, 3, 1, 1]
        v.strides [4, 1, 1, 1] -> [3, 1, 1, 1]
        w.sizes [8, 3, 1, 1] -> [4, 3, 1, 1]
        g.sizes [12, 4, 3, 3] -> [12, 2, 3, 3]
        g.strides [36, 9, 3, 1] -> [18, 9, 3, 1]
        t.sizes [12, 4, 2, 2] -> [12, 3, 2, 2]
        t.strides [16, 4, 2, 1] -> [12, 4, 2, 1]
        v.sizes [2, 4, 1, 1] -> [2, 3, 1, 1]
        v.strides [4, 1, 1, 1] -> [3, 1, 1, 1]
        w.sizes [8, 3, 1, 1] -> [4, 3, 1, 1]"#]],
    );
}

#[test]
fn normalized_shape_follows() {
    check_edits(
        "x: 2x5x8\nw = 6x8\ng = 6\nb = 6\nv = 3x6\n\
        y: 2x5x6 = aten.linear.default(input=x, weight=w)\n\
        n: 2x5x6 = aten.layer_norm.default(input=y, normalized_shape=[6], weight=g, bias=b)\n\
        z: 2x5x3 = aten.linear.default(input=n, weight=v)\n-> z",
        &[("w:0", 4)],
        expect![[r#"
            n.inputs normalized_shape=[6] -> normalized_shape=[4]
            b.sizes [6] -> [4]
            g.sizes [6] -> [4]
            n.sizes [2, 5, 6] -> [2, 5, 4]
            n.strides [30, 6, 1] -> [20, 4, 1]
            v.sizes [3, 6] -> [3, 4]
            v.strides [6, 1] -> [4, 1]
            w.sizes [6, 8] -> [4, 8]
            y.sizes [2, 5, 6] -> [2, 5, 4]
            y.strides [30, 6, 1] -> [20, 4, 1]
            b.sizes [6] -> [4]
            g.sizes [6] -> [4]
            v.sizes [3, 6] -> [3, 4]
            v.strides [6, 1] -> [4, 1]
            w.sizes [6, 8] -> [4, 8]"#]],
    );
}

#[test]
fn norms_couple_what_they_average_over() {
    check_groups(
        "x: 2x8\nw = 6x8\ng = 6\nv = 3x6\nu = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w)\n\
        n: 2x6 = aten.rms_norm.default(input=y, normalized_shape=[6], weight=g)\n\
        z: 2x3 = aten.linear.default(input=n, weight=v)\n-> z",
        expect!["w:0 features 6 approximate: w:0 producer, g:0 affine, v:1 consumer"],
    );
    let text = "x: 2x3x4x4\nw = 8x3x1x1\ng = 8\nv = 2x8x1x1\n\
        a: 2x8x4x4 = aten.conv2d.default(input=x, weight=w)\n\
        n: 2x8x4x4 = aten.group_norm.default(input=a, num_groups=4, weight=g, bias=g)\n\
        z: 2x2x4x4 = aten.conv2d.default(input=n, weight=v)\n-> z";
    check_rules(
        text,
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h, w]   free: n g o h w   summed: i   fixed: kh kw
          n=2 g=1 o=8 i=3 h=4 w=4 kh=1 kw=1   zero: 0·1   macs: 768
        group_norm [n, g i, c, d], [g i], [g i] -> [n, g i, c, d]   free: n g   coupled: i c d
          n=2 g=4 i=2 c=4 d=4   zero: 1 + 2
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h, w]   free: n g o h w   summed: i   fixed: kh kw
          n=2 g=1 o=2 i=8 h=4 w=4 kh=1 kw=1   zero: 0·1   macs: 512"#]],
    );
    check_groups(
        text,
        expect![[r#"
        w:0#0 channels 4 exact: w:0 producer, g:0 affine, v:1 consumer
        w:0#1 group-channels 2 approximate: w:0 producer, g:0 affine, v:1 consumer"#]],
    );
}

const PARTS: &str = "x: 2x8\nw = 6x8\nv = 3x3\n\
    y: 2x6 = aten.linear.default(input=x, weight=w)\n\
    CALL\n\
    z: 2x3 = aten.linear.default(input=b, weight=v)\n\
    u: 2x3 = aten.linear.default(input=a, weight=q)\n\
    s: 2x3 = aten.add.Tensor(self=z, other=u)\n-> s";

fn parts(call: &str) -> String {
    PARTS.replace("CALL", call).replace("v = 3x3\n", "v = 3x3\nq = 3x3\n")
}

#[test]
fn parts_that_become_unequal_are_spelled_one_by_one() {
    let chunk = parts("[a: 2x3, b: 2x3] = aten.chunk.default(self=y, chunks=2, dim=1)");
    check_groups(
        &chunk,
        expect![[r#"
        w:0#0 features 3 exact: w:0 producer, q:1 consumer
        w:0#1 features 3 exact: w:0 producer, v:1 consumer"#]],
    );
    check_edits(
        &chunk,
        &[("w:0#0", 2), ("w:0#1", 2)],
        expect![[r#"
        a.sizes [2, 3] -> [2, 2]
        a.strides [3, 1] -> [2, 1]
        b.sizes [2, 3] -> [2, 2]
        b.strides [3, 1] -> [2, 1]
        q.sizes [3, 3] -> [3, 2]
        q.strides [3, 1] -> [2, 1]
        v.sizes [3, 3] -> [3, 2]
        v.strides [3, 1] -> [2, 1]
        w.sizes [6, 8] -> [4, 8]
        y.sizes [2, 6] -> [2, 4]
        y.strides [6, 1] -> [4, 1]
        q.sizes [3, 3] -> [3, 2]
        q.strides [3, 1] -> [2, 1]
        v.sizes [3, 3] -> [3, 2]
        v.strides [3, 1] -> [2, 1]
        w.sizes [6, 8] -> [4, 8]"#]],
    );
    check_edits(
        &chunk,
        &[("w:0#0", 1)],
        expect![[r#"
        a.inputs chunks=2 -> split_sizes=[1, 3]
        a.target "torch.ops.aten.chunk.default" -> "torch.ops.aten.split_with_sizes.default"
        a.sizes [2, 3] -> [2, 1]
        a.strides [3, 1] -> [1, 1]
        q.sizes [3, 3] -> [3, 1]
        q.strides [3, 1] -> [1, 1]
        w.sizes [6, 8] -> [4, 8]
        y.sizes [2, 6] -> [2, 4]
        y.strides [6, 1] -> [4, 1]
        q.sizes [3, 3] -> [3, 1]
        q.strides [3, 1] -> [1, 1]
        w.sizes [6, 8] -> [4, 8]"#]],
    );
    let split = parts("[a: 2x3, b: 2x3] = aten.split.Tensor(self=y, split_size=3, dim=-1)");
    check_edits(
        &split,
        &[("w:0#0", 2), ("w:0#1", 2)],
        expect![[r#"
        a.inputs split_size=3 -> split_size=2
        a.sizes [2, 3] -> [2, 2]
        a.strides [3, 1] -> [2, 1]
        b.sizes [2, 3] -> [2, 2]
        b.strides [3, 1] -> [2, 1]
        q.sizes [3, 3] -> [3, 2]
        q.strides [3, 1] -> [2, 1]
        v.sizes [3, 3] -> [3, 2]
        v.strides [3, 1] -> [2, 1]
        w.sizes [6, 8] -> [4, 8]
        y.sizes [2, 6] -> [2, 4]
        y.strides [6, 1] -> [4, 1]
        q.sizes [3, 3] -> [3, 2]
        q.strides [3, 1] -> [2, 1]
        v.sizes [3, 3] -> [3, 2]
        v.strides [3, 1] -> [2, 1]
        w.sizes [6, 8] -> [4, 8]"#]],
    );
    check_edits(
        &split,
        &[("w:0#0", 1)],
        expect![[r#"
        a.inputs split_size=3 -> split_sizes=[1, 3]
        a.target "torch.ops.aten.split.Tensor" -> "torch.ops.aten.split_with_sizes.default"
        a.sizes [2, 3] -> [2, 1]
        a.strides [3, 1] -> [1, 1]
        q.sizes [3, 3] -> [3, 1]
        q.strides [3, 1] -> [1, 1]
        w.sizes [6, 8] -> [4, 8]
        y.sizes [2, 6] -> [2, 4]
        y.strides [6, 1] -> [4, 1]
        q.sizes [3, 3] -> [3, 1]
        q.strides [3, 1] -> [1, 1]
        w.sizes [6, 8] -> [4, 8]"#]],
    );
    let sizes =
        parts("[a: 2x3, b: 2x3] = aten.split_with_sizes.default(self=y, split_sizes=[3,3], dim=1)");
    check_edits(
        &sizes,
        &[("w:0#1", 1)],
        expect![[r#"
        a.inputs split_sizes=[3, 3] -> split_sizes=[3, 1]
        b.sizes [2, 3] -> [2, 1]
        b.strides [3, 1] -> [1, 1]
        v.sizes [3, 3] -> [3, 1]
        v.strides [3, 1] -> [1, 1]
        w.sizes [6, 8] -> [4, 8]
        y.sizes [2, 6] -> [2, 4]
        y.strides [6, 1] -> [4, 1]
        v.sizes [3, 3] -> [3, 1]
        v.strides [3, 1] -> [1, 1]
        w.sizes [6, 8] -> [4, 8]"#]],
    );
    let slices = parts(
        "a: 2x3 = aten.slice.Tensor(self=y, dim=1, start=0, end=3)\n\
        b: 2x3 = aten.slice.Tensor(self=y, dim=1, start=3, end=9223372036854775807)",
    );
    check_edits(
        &slices,
        &[("w:0#0", 2)],
        expect![[r#"
        a.inputs end=3 -> end=2
        b.inputs start=3 -> start=2
        a.sizes [2, 3] -> [2, 2]
        a.strides [3, 1] -> [2, 1]
        q.sizes [3, 3] -> [3, 2]
        q.strides [3, 1] -> [2, 1]
        w.sizes [6, 8] -> [5, 8]
        y.sizes [2, 6] -> [2, 5]
        y.strides [6, 1] -> [5, 1]
        q.sizes [3, 3] -> [3, 2]
        q.strides [3, 1] -> [2, 1]
        w.sizes [6, 8] -> [5, 8]"#]],
    );
    let narrow = parts(
        "a: 2x3 = aten.narrow.default(self=y, dim=1, start=0, length=3)\n\
        b: 2x3 = aten.slice.Tensor(self=y, dim=1, start=3, end=6)",
    );
    check_edits(
        &narrow,
        &[("w:0#0", 2)],
        expect![[r#"
        a.inputs length=3 -> length=2
        b.inputs start=3 -> start=2
        b.inputs end=6 -> end=5
        a.sizes [2, 3] -> [2, 2]
        a.strides [3, 1] -> [2, 1]
        q.sizes [3, 3] -> [3, 2]
        q.strides [3, 1] -> [2, 1]
        w.sizes [6, 8] -> [5, 8]
        y.sizes [2, 6] -> [2, 5]
        y.strides [6, 1] -> [5, 1]
        q.sizes [3, 3] -> [3, 2]
        q.strides [3, 1] -> [2, 1]
        w.sizes [6, 8] -> [5, 8]"#]],
    );
}

#[test]
fn parts_without_a_view_are_parts() {
    check_edits(
        &parts("[a: 2x3, b: 2x3] = aten.unsafe_split.Tensor(self=y, split_size=3, dim=-1)"),
        &[("w:0#0", 1)],
        expect![[r#"
        a.inputs split_size=3 -> split_sizes=[1, 3]
        a.target "torch.ops.aten.unsafe_split.Tensor" -> "torch.ops.aten.split_with_sizes.default"
        a.sizes [2, 3] -> [2, 1]
        a.strides [3, 1] -> [1, 1]
        q.sizes [3, 3] -> [3, 1]
        q.strides [3, 1] -> [1, 1]
        w.sizes [6, 8] -> [4, 8]
        y.sizes [2, 6] -> [2, 4]
        y.strides [6, 1] -> [4, 1]
        q.sizes [3, 3] -> [3, 1]
        q.strides [3, 1] -> [1, 1]
        w.sizes [6, 8] -> [4, 8]"#]],
    );
}

#[test]
fn a_live_trace_keeps_parts_equal() {
    let text = parts("[a: 2x3, b: 2x3] = aten.chunk.default(self=y, chunks=2, dim=1)");
    let model = Model::from_program(&program::json(&text)).unwrap();
    let names: Vec<&str> = model.groups().iter().map(|(_, group)| group.name.as_str()).collect();
    assert_eq!(names, ["w:0"]);
}

#[test]
fn what_is_picked_by_index_stays_whole() {
    check_rules(
        "x: 3x2x4\n[a: 2x4, b: 2x4, c: 2x4] = aten.unbind.int(self=x)\n\
        d: 3x4 = aten.select.int(self=x, dim=1, index=0)\n-> a, b, c, d",
        expect![[r#"
            select [a, b, c] -> [b, c], [b, c], [b, c]   free: b c   fixed: a
              a=3 b=2 c=4   zero: 0 moved
            select [a, b, c] -> [a, c]   free: a c   fixed: b
              a=3 b=2 c=4   zero: 0 moved"#]],
    );
    check_rules(
        "t = 9x4\ni: i64 2x5\nx: 2x6x4\n\
        e: 2x5x4 = aten.embedding.default(weight=t, indices=i)\n\
        g: 2x2x5x4 = aten.index.Tensor(self=x, indices=[None, i])\n-> e, g",
        expect![[r#"
            gather [rows, b], [i0, i1] -> [i0, i1, b]   free: i0 i1 b   fixed: rows
              rows=9 i0=2 i1=5 b=4   zero: 0 moved
            index [a, b, c], [i0, i1] -> [a, i0, i1, c]   free: i0 i1 a c   fixed: b
              i0=2 i1=5 a=2 b=6 c=4   zero: 0 moved"#]],
    );
}

#[test]
fn concatenation_keeps_segments_apart() {
    let text = "x: 2x8\nw = 6x8\nv = 4x8\nu = 3x10\n\
        a: 2x6 = aten.linear.default(input=x, weight=w)\n\
        b: 2x4 = aten.linear.default(input=x, weight=v)\n\
        c: 2x10 = aten.cat.default(tensors=[a, b], dim=-1)\n\
        z: 2x3 = aten.linear.default(input=c, weight=u)\n-> z";
    check_groups(
        text,
        expect![[r#"
        w:0 features 6 exact: w:0 producer, u:1 consumer
        v:0 features 4 exact: v:0 producer, u:1 consumer"#]],
    );
    check_edits(
        text,
        &[("w:0", 3), ("v:0", 1)],
        expect![[r#"
        a.sizes [2, 6] -> [2, 3]
        a.strides [6, 1] -> [3, 1]
        b.sizes [2, 4] -> [2, 1]
        b.strides [4, 1] -> [1, 1]
        c.sizes [2, 10] -> [2, 4]
        c.strides [10, 1] -> [4, 1]
        u.sizes [3, 10] -> [3, 4]
        u.strides [10, 1] -> [4, 1]
        v.sizes [4, 8] -> [1, 8]
        w.sizes [6, 8] -> [3, 8]
        u.sizes [3, 10] -> [3, 4]
        u.strides [10, 1] -> [4, 1]
        v.sizes [4, 8] -> [1, 8]
        w.sizes [6, 8] -> [3, 8]"#]],
    );
}

#[test]
fn views_of_open_sizes_follow() {
    let text = "x: n2x3x4x4\nw = 8x3x1x1\nv = 5x128\n\
        a: n2x8x4x4 = aten.conv2d.default(input=x, weight=w)\n\
        k: sym n2 = aten.sym_size.int(self=x, dim=0)\n\
        f: n2x128 = aten.view.default(self=a, size=[k, 128])\n\
        z: n2x5 = aten.linear.default(input=f, weight=v)\n-> z";
    check_groups(text, expect!["w:0 channels 8 exact: w:0 producer, v:1 consumer"]);
    check_edits(
        text,
        &[("w:0", 4)],
        expect![[r#"
        f.inputs size=["k", 128] -> size=["k", 64]
        a.sizes [Symbol('n') = 2, 8, 4, 4] -> [Symbol('n') = 2, 4, 4, 4]
        a.strides [128, 16, 4, 1] -> [64, 16, 4, 1]
        f.sizes [Symbol('n') = 2, 128] -> [Symbol('n') = 2, 64]
        f.strides [128, 1] -> [64, 1]
        v.sizes [5, 128] -> [5, 64]
        v.strides [128, 1] -> [64, 1]
        w.sizes [8, 3, 1, 1] -> [4, 3, 1, 1]
        v.sizes [5, 128] -> [5, 64]
        v.strides [128, 1] -> [64, 1]
        w.sizes [8, 3, 1, 1] -> [4, 3, 1, 1]"#]],
    );
    check_edits(
        &text.replace("[k, 128]", "[-1, 128]"),
        &[("w:0", 4)],
        expect![[r#"
            f.inputs size=[-1, 128] -> size=[-1, 64]
            a.sizes [Symbol('n') = 2, 8, 4, 4] -> [Symbol('n') = 2, 4, 4, 4]
            a.strides [128, 16, 4, 1] -> [64, 16, 4, 1]
            f.sizes [Symbol('n') = 2, 128] -> [Symbol('n') = 2, 64]
            f.strides [128, 1] -> [64, 1]
            v.sizes [5, 128] -> [5, 64]
            v.strides [128, 1] -> [64, 1]
            w.sizes [8, 3, 1, 1] -> [4, 3, 1, 1]
            v.sizes [5, 128] -> [5, 64]
            v.strides [128, 1] -> [64, 1]
            w.sizes [8, 3, 1, 1] -> [4, 3, 1, 1]"#]],
    );
    check_edits(
        &text.replace("[k, 128]", "[k, -1]"),
        &[("w:0", 4)],
        expect![[r#"
        a.sizes [Symbol('n') = 2, 8, 4, 4] -> [Symbol('n') = 2, 4, 4, 4]
        a.strides [128, 16, 4, 1] -> [64, 16, 4, 1]
        f.sizes [Symbol('n') = 2, 128] -> [Symbol('n') = 2, 64]
        f.strides [128, 1] -> [64, 1]
        v.sizes [5, 128] -> [5, 64]
        v.strides [128, 1] -> [64, 1]
        w.sizes [8, 3, 1, 1] -> [4, 3, 1, 1]
        v.sizes [5, 128] -> [5, 64]
        v.strides [128, 1] -> [64, 1]
        w.sizes [8, 3, 1, 1] -> [4, 3, 1, 1]"#]],
    );
}

#[test]
fn computed_sizes_follow() {
    check_edits(
        "x: n2x8\nw = 6x8\nv = 3x6\n\
        k: sym n2 = aten.sym_size.int(self=x, dim=0)\n\
        m: sym 6*n2 = _operator.mul(a=k, b=6)\n\
        y: n2x6 = aten.linear.default(input=x, weight=w)\n\
        f: 6*n2 = aten.view.default(self=y, size=[m])\n\
        r: 6*n2 = aten.relu.default(self=f)\n\
        b: n2x6 = aten.view.default(self=r, size=[k, -1])\n\
        z: n2x3 = aten.linear.default(input=b, weight=v)\n-> z",
        &[("w:0", 4)],
        expect![[r#"
            m.inputs b=6 -> b=4
            sym_int_values.m.as_expr.expr_str "Mul(Integer(6), Symbol('n', positive=True, integer=True))" -> "Mul(Integer(4), Symbol('n', positive=True, integer=True))"
            sym_int_values.m.as_expr.hint.as_int 12 -> 8
            b.sizes [Symbol('n') = 2, 6] -> [Symbol('n') = 2, 4]
            b.strides [6, 1] -> [4, 1]
            f.sizes [Mul(Integer(6), Symbol('n')) = 12] -> [Mul(Integer(4), Symbol('n')) = 8]
            r.sizes [Mul(Integer(6), Symbol('n')) = 12] -> [Mul(Integer(4), Symbol('n')) = 8]
            v.sizes [3, 6] -> [3, 4]
            v.strides [6, 1] -> [4, 1]
            w.sizes [6, 8] -> [4, 8]
            y.sizes [Symbol('n') = 2, 6] -> [Symbol('n') = 2, 4]
            y.strides [6, 1] -> [4, 1]
            v.sizes [3, 6] -> [3, 4]
            v.strides [6, 1] -> [4, 1]
            w.sizes [6, 8] -> [4, 8]"#]],
    );
}

const ATTENTION: &str = "x: 2x5x8\nw = 36x8\nv = 8x12\n\
    y: 2x5x36 = aten.linear.default(input=x, weight=w)\n\
    u: 2x5x3x3x4 = aten.unflatten.int(self=y, dim=2, sizes=[3, 3, 4])\n\
    p: 3x2x3x5x4 = aten.permute.default(self=u, dims=[2, 0, 3, 1, 4])\n\
    [q: 2x3x5x4, k: 2x3x5x4, n: 2x3x5x4] = aten.unbind.int(self=p)\n\
    a: 2x3x5x4 = aten.scaled_dot_product_attention.default(query=q, key=k, value=n)\n\
    t: 2x5x3x4 = aten.transpose.int(self=a, dim0=1, dim1=2)\n\
    r: 2x5x12 = aten.reshape.default(self=t, shape=[2, 5, 12])\n\
    z: 2x5x8 = aten.linear.default(input=r, weight=v)\n-> z";

#[test]
fn heads_follow_in_views() {
    check_groups(
        ATTENTION,
        expect![[r#"
        w:0#0 heads 3 exact: w:0 producer, v:1 consumer
        w:0#1 head-width 4 exact: w:0 producer, v:1 consumer"#]],
    );
    check_edits(
        ATTENTION,
        &[("w:0#0", 2)],
        expect![[r#"
        u.inputs sizes=[3, 3, 4] -> sizes=[3, 2, 4]
        r.inputs shape=[2, 5, 12] -> shape=[2, 5, 8]
        a.sizes [2, 3, 5, 4] -> [2, 2, 5, 4]
        a.strides [60, 20, 4, 1] -> [40, 20, 4, 1]
        k.sizes [2, 3, 5, 4] -> [2, 2, 5, 4]
        k.strides [60, 20, 4, 1] -> [40, 20, 4, 1]
        n.sizes [2, 3, 5, 4] -> [2, 2, 5, 4]
        n.strides [60, 20, 4, 1] -> [40, 20, 4, 1]
        p.sizes [3, 2, 3, 5, 4] -> [3, 2, 2, 5, 4]
        p.strides [120, 60, 20, 4, 1] -> [80, 40, 20, 4, 1]
        q.sizes [2, 3, 5, 4] -> [2, 2, 5, 4]
        q.strides [60, 20, 4, 1] -> [40, 20, 4, 1]
        r.sizes [2, 5, 12] -> [2, 5, 8]
        r.strides [60, 12, 1] -> [40, 8, 1]
        t.sizes [2, 5, 3, 4] -> [2, 5, 2, 4]
        t.strides [60, 12, 4, 1] -> [40, 8, 4, 1]
        u.sizes [2, 5, 3, 3, 4] -> [2, 5, 3, 2, 4]
        u.strides [180, 36, 12, 4, 1] -> [120, 24, 8, 4, 1]
        v.sizes [8, 12] -> [8, 8]
        v.strides [12, 1] -> [8, 1]
        w.sizes [36, 8] -> [24, 8]
        y.sizes [2, 5, 36] -> [2, 5, 24]
        y.strides [180, 36, 1] -> [120, 24, 1]
        v.sizes [8, 12] -> [8, 8]
        v.strides [12, 1] -> [8, 1]
        w.sizes [36, 8] -> [24, 8]"#]],
    );
}

#[test]
fn attention_is_written_with_its_scale_where_the_width_is_cut() {
    check_edits(
        ATTENTION,
        &[("w:0#1", 2)],
        expect![[r#"
        u.inputs sizes=[3, 3, 4] -> sizes=[3, 3, 2]
        a.inputs nothing -> scale=0.5
        r.inputs shape=[2, 5, 12] -> shape=[2, 5, 6]
        a.sizes [2, 3, 5, 4] -> [2, 3, 5, 2]
        a.strides [60, 20, 4, 1] -> [30, 10, 2, 1]
        k.sizes [2, 3, 5, 4] -> [2, 3, 5, 2]
        k.strides [60, 20, 4, 1] -> [30, 10, 2, 1]
        n.sizes [2, 3, 5, 4] -> [2, 3, 5, 2]
        n.strides [60, 20, 4, 1] -> [30, 10, 2, 1]
        p.sizes [3, 2, 3, 5, 4] -> [3, 2, 3, 5, 2]
        p.strides [120, 60, 20, 4, 1] -> [60, 30, 10, 2, 1]
        q.sizes [2, 3, 5, 4] -> [2, 3, 5, 2]
        q.strides [60, 20, 4, 1] -> [30, 10, 2, 1]
        r.sizes [2, 5, 12] -> [2, 5, 6]
        r.strides [60, 12, 1] -> [30, 6, 1]
        t.sizes [2, 5, 3, 4] -> [2, 5, 3, 2]
        t.strides [60, 12, 4, 1] -> [30, 6, 2, 1]
        u.sizes [2, 5, 3, 3, 4] -> [2, 5, 3, 3, 2]
        u.strides [180, 36, 12, 4, 1] -> [90, 18, 6, 2, 1]
        v.sizes [8, 12] -> [8, 6]
        v.strides [12, 1] -> [6, 1]
        w.sizes [36, 8] -> [18, 8]
        y.sizes [2, 5, 36] -> [2, 5, 18]
        y.strides [180, 36, 1] -> [90, 18, 1]
        v.sizes [8, 12] -> [8, 6]
        v.strides [12, 1] -> [6, 1]
        w.sizes [36, 8] -> [18, 8]"#]],
    );
    let scaled = ATTENTION.replace("value=n)", "value=n, is_causal=false, scale=0.25)");
    check_edits(
        &scaled,
        &[("w:0#1", 2)],
        expect![[r#"
        u.inputs sizes=[3, 3, 4] -> sizes=[3, 3, 2]
        r.inputs shape=[2, 5, 12] -> shape=[2, 5, 6]
        a.sizes [2, 3, 5, 4] -> [2, 3, 5, 2]
        a.strides [60, 20, 4, 1] -> [30, 10, 2, 1]
        k.sizes [2, 3, 5, 4] -> [2, 3, 5, 2]
        k.strides [60, 20, 4, 1] -> [30, 10, 2, 1]
        n.sizes [2, 3, 5, 4] -> [2, 3, 5, 2]
        n.strides [60, 20, 4, 1] -> [30, 10, 2, 1]
        p.sizes [3, 2, 3, 5, 4] -> [3, 2, 3, 5, 2]
        p.strides [120, 60, 20, 4, 1] -> [60, 30, 10, 2, 1]
        q.sizes [2, 3, 5, 4] -> [2, 3, 5, 2]
        q.strides [60, 20, 4, 1] -> [30, 10, 2, 1]
        r.sizes [2, 5, 12] -> [2, 5, 6]
        r.strides [60, 12, 1] -> [30, 6, 1]
        t.sizes [2, 5, 3, 4] -> [2, 5, 3, 2]
        t.strides [60, 12, 4, 1] -> [30, 6, 2, 1]
        u.sizes [2, 5, 3, 3, 4] -> [2, 5, 3, 3, 2]
        u.strides [180, 36, 12, 4, 1] -> [90, 18, 6, 2, 1]
        v.sizes [8, 12] -> [8, 6]
        v.strides [12, 1] -> [6, 1]
        w.sizes [36, 8] -> [18, 8]
        y.sizes [2, 5, 36] -> [2, 5, 18]
        y.strides [180, 36, 1] -> [90, 18, 1]
        v.sizes [8, 12] -> [8, 6]
        v.strides [12, 1] -> [6, 1]
        w.sizes [36, 8] -> [18, 8]"#]],
    );
}

#[test]
fn grouped_queries_share_keys() {
    let text = "x: 2x5x8\nw = 16x8\nu = 8x8\nt = 8x8\nv = 8x16\n\
        y: 2x5x16 = aten.linear.default(input=x, weight=w)\n\
        a: 2x5x8 = aten.linear.default(input=x, weight=u)\n\
        b: 2x5x8 = aten.linear.default(input=x, weight=t)\n\
        q: 2x5x4x4 = aten.view.default(self=y, size=[2, 5, 4, 4])\n\
        k: 2x5x2x4 = aten.view.default(self=a, size=[2, 5, 2, 4])\n\
        n: 2x5x2x4 = aten.view.default(self=b, size=[2, 5, 2, 4])\n\
        q2: 2x4x5x4 = aten.transpose.int(self=q, dim0=1, dim1=2)\n\
        k2: 2x2x5x4 = aten.transpose.int(self=k, dim0=1, dim1=2)\n\
        n2: 2x2x5x4 = aten.transpose.int(self=n, dim0=1, dim1=2)\n\
        m: 2x4x5x4 = aten.scaled_dot_product_attention.default(query=q2, key=k2, value=n2, attn_mask=None, dropout_p=0.0, is_causal=true, scale=None, enable_gqa=true)\n\
        m2: 2x5x4x4 = aten.transpose.int(self=m, dim0=1, dim1=2)\n\
        r: 2x5x16 = aten.reshape.default(self=m2, shape=[2, 5, -1])\n\
        z: 2x5x8 = aten.linear.default(input=r, weight=v)\n-> z";
    check_groups(
        text,
        expect![[r#"
        w:0#0 heads 2 exact: w:0 producer, u:0 producer, t:0 producer, v:1 consumer
        w:0#1 queries-per-head 2 exact: w:0 producer, v:1 consumer
        w:0#2 head-width 4 exact: w:0 producer, u:0 producer
        t:0#1 head-width 4 exact: t:0 producer, v:1 consumer"#]],
    );
}

#[test]
fn shapes_and_orders() {
    check_rules(
        "x: 2x8x1x3\n\
        a: 2x8x3 = aten.squeeze.dim(self=x, dim=2)\n\
        b: 8x2x3 = aten.movedim.int(self=a, source=[1], destination=[0])\n\
        c: 8x2x1x3 = aten.unsqueeze.default(self=b, dim=2)\n\
        d: 8x2x4x3 = aten.expand.default(self=c, size=[-1, 2, 4, 3])\n\
        e: 8x24 = aten.flatten.using_ints(self=d, start_dim=1)\n\
        f: 8x48 = aten.repeat.default(self=e, repeats=[1, 2])\n\
        g: 16x48 = aten.repeat_interleave.self_int(self=f, repeats=2, dim=0)\n-> g",
        expect![[r#"
            reshape [c, b, 1, a] -> [c, b, a]   free: a b c
              a=3 b=8 c=2   zero: moved
            transpose [a, b, c] -> [b, a, c]   free: a b c
              a=2 b=8 c=3   zero: moved
            reshape [c, b, a] -> [c, b, 1, a]   free: a b c
              a=3 b=2 c=8   zero: moved
            expand [a, b, 1, d] -> [a, b, c, d]   free: a b c d
              a=8 b=2 c=4 d=3   zero: moved
            reshape [d, c, b, a] -> [d, c b a]   free: a b c d
              a=3 b=4 c=2 d=8   zero: moved
            tile [a, b] -> [ra a, rb b]   free: ra a rb b
              ra=1 a=8 rb=2 b=24   zero: moved
            reshape [b, a] -> [b, 1, a]   free: a b
              a=48 b=8   zero: moved
            expand [a, 1, c] -> [a, b, c]   free: a b c
              a=8 b=2 c=48   zero: moved
            reshape [c, b, a] -> [c b, a]   free: a b c
              a=48 b=2 c=8   zero: moved"#]],
    );
    check_rules(
        "x: 2x8x3x3\na: 2x2x6x6 = aten.pixel_shuffle.default(self=x, upscale_factor=2)\n\
        b: 2x8x3x3 = aten.pixel_unshuffle.default(self=a, downscale_factor=2)\n\
        c: 2x8x3x3 = aten.channel_shuffle.default(self=b, groups=2)\n-> c",
        expect![[r#"
            reshape [f, e d c, b, a] -> [f, e, d, c, b, a]   free: a b c d e f
              a=3 b=3 c=2 d=2 e=2 f=2   zero: moved
            blocks [a, b, c, d, e, f] -> [a, b, c, d, e, f]   free: a b e f   fixed: c d
              a=2 b=2 c=2 d=2 e=3 f=3   zero: 0
            transpose [a, b, c, d, e, f] -> [a, b, e, c, f, d]   free: a b c d e f
              a=2 b=2 c=2 d=2 e=3 f=3   zero: moved
            reshape [f, e, d, c, b, a] -> [f, e, d c, b a]   free: a b c d e f
              a=2 b=3 c=2 d=3 e=2 f=2   zero: moved
            reshape [f, e, d c, b a] -> [f, e, d, c, b, a]   free: a b c d e f
              a=2 b=3 c=2 d=3 e=2 f=2   zero: moved
            blocks [a, b, c, d, e, f] -> [a, b, c, d, e, f]   free: a b c e   fixed: d f
              a=2 b=2 c=3 d=2 e=3 f=2   zero: 0
            transpose [a, b, c, d, e, f] -> [a, b, d, f, c, e]   free: a b c d e f
              a=2 b=2 c=3 d=2 e=3 f=2   zero: moved
            reshape [f, e, d, c, b, a] -> [f, e d c, b, a]   free: a b c d e f
              a=3 b=3 c=2 d=2 e=2 f=2   zero: moved
            reshape [e, d c, b, a] -> [e, d, c, b, a]   free: a b c d e
              a=3 b=3 c=4 d=2 e=2   zero: moved
            transpose [a, b, c, d, e] -> [a, c, b, d, e]   free: a b c d e
              a=2 b=2 c=4 d=3 e=3   zero: moved
            reshape [e, d, c, b, a] -> [e, d c, b, a]   free: a b c d e
              a=3 b=3 c=2 d=4 e=2   zero: moved"#]],
    );
}

#[test]
fn borders_are_spelled_from_the_last_axis_on() {
    let text = "x: 2x3x4x4\nw = 6x3x1x1\nv = 2x9x1x1\n\
        a: 2x6x4x4 = aten.conv2d.default(input=x, weight=w)\n\
        p: 2x9x4x4 = aten.pad.default(self=a, pad=[0, 0, 0, 0, 1, 2], mode='constant', value=0.0)\n\
        z: 2x2x4x4 = aten.conv2d.default(input=p, weight=v)\n-> z";
    check_rules(
        text,
        expect![[r#"
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h, w]   free: n g o h w   summed: i   fixed: kh kw
          n=2 g=1 o=6 i=3 h=4 w=4 kh=1 kw=1   zero: 0·1   macs: 576
        pad [a, b, c, d] -> [a, b< ++ b ++ b>, c, d]   free: a b< b b> c d
          a=2 b<=1 b=6 b>=2 c=4 d=4   zero: 0
        conv [n, g i, h, w], [g o, i, kh, kw] -> [n, g o, h, w]   free: n g o h w   summed: i   fixed: kh kw
          n=2 g=1 o=2 i=9 h=4 w=4 kh=1 kw=1   zero: 0·1   macs: 576"#]],
    );
    check_groups(
        text,
        expect![[r#"
        w:0 channels 6 exact: w:0 producer, v:1 consumer
        v:1#1 channels 2 exact: v:1 consumer"#]],
    );
    check_edits(
        text,
        &[("w:0", 3)],
        expect![[r#"
        a.sizes [2, 6, 4, 4] -> [2, 3, 4, 4]
        a.strides [96, 16, 4, 1] -> [48, 16, 4, 1]
        p.sizes [2, 9, 4, 4] -> [2, 6, 4, 4]
        p.strides [144, 16, 4, 1] -> [96, 16, 4, 1]
        v.sizes [2, 9, 1, 1] -> [2, 6, 1, 1]
        v.strides [9, 1, 1, 1] -> [6, 1, 1, 1]
        w.sizes [6, 3, 1, 1] -> [3, 3, 1, 1]
        v.sizes [2, 9, 1, 1] -> [2, 6, 1, 1]
        v.strides [9, 1, 1, 1] -> [6, 1, 1, 1]
        w.sizes [6, 3, 1, 1] -> [3, 3, 1, 1]"#]],
    );
}

#[test]
fn gates() {
    let text = "x: 2x8\nw = 12x8\ns = 6\nv = 3x6\n\
        y: 2x12 = aten.linear.default(input=x, weight=w)\n\
        g: 2x6 = aten.glu.default(self=y)\n\
        p: 2x6 = aten.prelu.default(self=g, weight=s)\n\
        z: 2x3 = aten.linear.default(input=p, weight=v)\n-> z";
    check_rules(
        text,
        expect![[r#"
        linear [a, k], [n, k] -> [a, n]   free: a n   summed: k
          a=2 n=12 k=8   zero: 0·1   macs: 192
        split [a, b0 ++ b1] -> [a, b0], [a, b1]   free: a b0 b1
          a=2 b0=6 b1=6   zero: moved
        elementwise [a, b] -> [a, b]   free: a b
          a=2 b=6   zero: lost
        elementwise [a, b], [a, b] -> [a, b]   free: a b
          a=2 b=6   zero: 0·1
        elementwise [a, b], [b] -> [a, b]   free: a b
          a=2 b=6   zero: 0
        linear [a, k], [n, k] -> [a, n]   free: a n   summed: k
          a=2 n=3 k=6   zero: 0·1   macs: 36"#]],
    );
    check_groups(text, expect!["w:0 features 6 exact: w:0 producer, s:0 affine, v:1 consumer"]);
    check_edits(
        text,
        &[("w:0", 4)],
        expect![[r#"
        g.sizes [2, 6] -> [2, 4]
        g.strides [6, 1] -> [4, 1]
        p.sizes [2, 6] -> [2, 4]
        p.strides [6, 1] -> [4, 1]
        s.sizes [6] -> [4]
        v.sizes [3, 6] -> [3, 4]
        v.strides [6, 1] -> [4, 1]
        w.sizes [12, 8] -> [8, 8]
        y.sizes [2, 12] -> [2, 8]
        y.strides [12, 1] -> [8, 1]
        s.sizes [6] -> [4]
        v.sizes [3, 6] -> [3, 4]
        v.strides [6, 1] -> [4, 1]
        w.sizes [12, 8] -> [8, 8]"#]],
    );
}

#[test]
fn rows_are_grouped_by_expert_and_put_back() {
    let text = "x: 10x6\nw = 8x6\nu = 4x12x8\nt = 4x8x6\nv = 3x8\n\
        y: 10x8 = aten.linear.default(input=x, weight=w)\n\
        i: 10 = aten.argmax.default(self=x, dim=1)\n\
        h: 4 = aten.histc.default(self=i, bins=4, min=0, max=3)\n\
        e: 4 = aten.cumsum.default(self=h, dim=0)\n\
        u2: 4x8x12 = aten.transpose.int(self=u, dim0=1, dim1=2)\n\
        a: 10x12 = aten._grouped_mm.default(self=y, mat2=u2, offs=e)\n\
        [g: 10x6, p: 10x6] = aten.chunk.default(self=a, chunks=2, dim=1)\n\
        m: 10x6 = aten.mul.Tensor(self=g, other=p)\n\
        t2: 4x6x8 = aten.transpose.int(self=t, dim0=1, dim1=2)\n\
        b: 10x8 = aten._grouped_mm.default(self=m, mat2=t2, offs=e)\n\
        c: 10x8 = aten.index_add.default(self=y, dim=0, index=i, source=b)\n\
        d: 10x8 = aten.index_fill.int_Scalar(self=c, dim=0, index=i, value=0)\n\
        f: 10x8 = aten.scatter.value(self=d, dim=0, index=d, value=1.0)\n\
        q: 10x8 = aten.index_put.default(self=f, indices=[i], values=b)\n\
        z: 10x3 = aten.linear.default(input=q, weight=v)\n-> z";
    check_rules(
        text,
        expect![[r#"
        linear [a, k], [n, k] -> [a, n]   free: a n   summed: k
          a=10 n=8 k=6   zero: 0·1   macs: 480
        reduce [a, b] -> [a]   free: a   fixed: b
          a=10 b=6   zero: lost
        histogram [s0] -> [b0]   fixed: s0 b0
          s0=10 b0=4   zero: lost
        cumsum [a] -> [a]   fixed: a
          a=4   zero: 0
        transpose [a, b, c] -> [a, c, b]   free: a b c
          a=4 b=12 c=8   zero: moved
        grouped_product [m, k], [e, k, n], [e] -> [m, n]   free: n   summed: k   fixed: m e
          m=10 e=4 k=8 n=12   zero: 0·1   macs: 960
        split [a, b0 ++ b1] -> [a, b0], [a, b1]   free: a b0 b1
          a=10 b0=6 b1=6   zero: moved
        elementwise [a, b], [a, b] -> [a, b]   free: a b
          a=10 b=6   zero: 0·1
        transpose [a, b, c] -> [a, c, b]   free: a b c
          a=4 b=8 c=6   zero: moved
        grouped_product [m, k], [e, k, n], [e] -> [m, n]   free: n   summed: k   fixed: m e
          m=10 e=4 k=6 n=8   zero: 0·1   macs: 480
        put_slices [a, b], [i0], [i0, b] -> [a, b]   free: b   fixed: i0 a
          i0=10 a=10 b=8   zero: 0 + 2
        put_slices [a, b], [i0] -> [a, b]   free: b   fixed: i0 a
          i0=10 a=10 b=8   zero: 0
        put [a, b], [a', b] -> [a, b]   free: b   fixed: a a'
          a=10 a'=10 b=8   zero: lost
        put_slices [a, b], [i0], [i0, b] -> [a, b]   free: b   fixed: i0 a
          i0=10 a=10 b=8   zero: 0 + 2
        linear [a, k], [n, k] -> [a, n]   free: a n   summed: k
          a=10 n=3 k=8   zero: 0·1   macs: 240"#]],
    );
    check_groups(
        text,
        expect![[r#"
        w:0 features 8 exact: w:0 producer, u:2 consumer, t:1 producer, v:1 consumer
        u:1 features 6 exact: u:1 producer, t:2 consumer"#]],
    );
}

#[test]
fn elementwise_operators_keep_or_lose_zeros() {
    check_rules(
        "x: 2x8\ny: 2x8\n\
        a: 2x8 = aten.gelu.default(self=x, approximate='tanh')\n\
        b: 2x8 = aten.sigmoid.default(self=a)\n\
        c: 2x8 = aten.mul.Tensor(self=b, other=y)\n\
        d: 2x8 = aten.mul.Tensor(self=c, other=0.5)\n\
        e: 2x8 = aten.add.Tensor(self=d, other=1.0)\n\
        f: 2x8 = aten.rsub.Scalar(self=e, other=0)\n\
        g: 2x8 = aten.div.Tensor(self=x, other=f)\n\
        h: 2x8 = aten.clamp.default(self=g, min=-1.0, max=6.0)\n\
        i: 2x8 = aten.clamp_min.default(self=h, min=0.5)\n\
        j: 2x8 = aten.pow.Tensor_Scalar(self=i, exponent=2)\n\
        k: bool 2x8 = aten.gt.Tensor(self=j, other=x)\n\
        l: 2x8 = aten.masked_fill.Scalar(self=x, mask=k, value=-1.0)\n\
        m: 2x8 = aten.where.self(condition=k, self=l, other=x)\n\
        n: 2x8 = aten.addcmul.default(self=x, tensor1=m, tensor2=y)\n\
        o: 2x8 = aten.max.other(self=n, other=y)\n-> o",
        expect![[r#"
            elementwise [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0
            elementwise [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: lost
            elementwise [a, b], [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0·1
            elementwise [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0
            elementwise [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: lost
            elementwise [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0
            elementwise [a, b], [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0 / 1
            elementwise [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0
            elementwise [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: lost
            elementwise [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0
            elementwise [a, b], [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: lost
            elementwise [a, b], [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: lost
            elementwise [a, b], [a, b], [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 1 + 2
            elementwise [a, b], [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0·1
            elementwise [a, b], [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0 + 1
            elementwise [a, b], [a, b] -> [a, b]   free: a b
              a=2 b=8   zero: 0 + 1"#]],
    );
}

#[test]
fn pools_and_reductions() {
    check_rules(
        "x: 2x8x6x6\n\
        a: 2x8x3x3, i: i64 2x8x3x3 = aten.max_pool2d_with_indices.default(self=x, kernel_size=[2,2], stride=[2,2])\n\
        b: 2x8x2x2 = aten.avg_pool2d.default(self=a, kernel_size=[2,2], stride=[1,1])\n\
        c: 2x8x1x1 = aten.adaptive_avg_pool2d.default(self=b, output_size=[1,1])\n\
        d: 2x8 = aten.mean.dim(self=c, dim=[2,3])\n\
        e: 2x8 = aten.softmax.int(self=d, dim=-1)\n\
        f: 2x3, j: i64 2x3 = aten.topk.default(self=e, k=3)\n\
        g: 2 = aten.linalg_vector_norm.default(self=f, ord=2, dim=[1])\n-> g",
        expect![[r#"
            pool [n, c, h, w] -> [n, c, h', w']   free: n c   fixed: h w h' w'
              n=2 c=8 h=6 w=6 h'=3 w'=3   zero: moved
            pool [n, c, h, w] -> [n, c, h', w']   free: n c   fixed: h w h' w'
              n=2 c=8 h=3 w=3 h'=2 w'=2   zero: moved
            reduce [a, b, c, d] -> [a, b, 1, 1]   free: a b   coupled: c d
              a=2 b=8 c=2 d=2   zero: 0
            reduce [a, b, c, d] -> [a, b]   free: a b   coupled: c d
              a=2 b=8 c=1 d=1   zero: 0
            softmax [a, b] -> [a, b]   free: a   fixed: b
              a=2 b=8   zero: lost
            topk [a, b] -> [a, b'], [a, b']   free: a   fixed: b b'
              a=2 b=8 b'=3   zero: lost
            reduce [a, b] -> [a]   free: a   summed: b
              a=2 b=3   zero: 0"#]],
    );
}

#[test]
fn recurrent_layers_take_their_weights_in_a_list() {
    let lstm = "x: 2x5x3\nw = 8x3\nr = 8x2\nb = 8\nc = 8\nh: 1x2x2\nk: 1x2x2\nv = 4x2\n\
        y: 2x5x2, hn: 1x2x2, cn: 1x2x2 = aten.lstm.input(input=x, hx=[h, k], params=[w, r, b, c], has_biases=true, num_layers=1, dropout=0.0, train=false, bidirectional=false, batch_first=true)\n\
        z: 2x5x4 = aten.linear.default(input=y, weight=v)\n-> z";
    check_rules(
        lstm,
        expect![[r#"
        transpose [a, b, c] -> [b, a, c]   free: a b c
          a=2 b=5 c=3   zero: moved
        reshape [b, a] -> [1, b, a]   free: a b
          a=3 b=8   zero: moved
        reshape [b, a] -> [1, b, a]   free: a b
          a=2 b=8   zero: moved
        concat [a], [a1] -> [a ++ a1]   free: a a1
          a=8 a1=8   zero: moved
        reshape [a] -> [1, a]   free: a
          a=16   zero: moved
        lstm [t, n, i], [d, q h, i], [d, q h, h], [d, 2 q h], [], [d, n, h], [d, n, h] -> [t, d, n, h], [d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q 2
          t=5 n=2 i=3 d=1 q=4 h=2 2=2   zero: 1 + 2 + 3 + 5 + 6   macs: 400
        reshape [c, 1, b, a] -> [c, b, a]   free: a b c
          a=2 b=2 c=5   zero: moved
        transpose [a, b, c] -> [b, a, c]   free: a b c
          a=5 b=2 c=2   zero: moved
        linear [a, b, k], [n, k] -> [a, b, n]   free: a b n   summed: k
          a=2 b=5 n=4 k=2   zero: 0·1   macs: 80"#]],
    );
    let zeros = lstm
        .replace("h: 1x2x2\nk: 1x2x2\n", "")
        .replace("y: 2x5x2", "h: 1x2x2 = aten.zeros.default(size=[1, 2, 2])\ny: 2x5x2")
        .replace("[h, k]", "[h, h]");
    check_groups(
        &zeros,
        expect![
            "w:0 features 2 exact: w:0 producer, r:0 producer, r:1 consumer, b:0 affine, c:0 affine, v:1 consumer"
        ],
    );
    check_edits(
        &zeros,
        &[("w:0", 1)],
        expect![[r#"
        h.inputs size=[1, 2, 2] -> size=[1, 2, 1]
        b.sizes [8] -> [4]
        c.sizes [8] -> [4]
        cn.sizes [1, 2, 2] -> [1, 2, 1]
        cn.strides [4, 2, 1] -> [2, 1, 1]
        h.sizes [1, 2, 2] -> [1, 2, 1]
        h.strides [4, 2, 1] -> [2, 1, 1]
        hn.sizes [1, 2, 2] -> [1, 2, 1]
        hn.strides [4, 2, 1] -> [2, 1, 1]
        r.sizes [8, 2] -> [4, 1]
        r.strides [2, 1] -> [1, 1]
        v.sizes [4, 2] -> [4, 1]
        v.strides [2, 1] -> [1, 1]
        w.sizes [8, 3] -> [4, 3]
        y.sizes [2, 5, 2] -> [2, 5, 1]
        y.strides [10, 2, 1] -> [5, 1, 1]
        b.sizes [8] -> [4]
        c.sizes [8] -> [4]
        r.sizes [8, 2] -> [4, 1]
        r.strides [2, 1] -> [1, 1]
        v.sizes [4, 2] -> [4, 1]
        v.strides [2, 1] -> [1, 1]
        w.sizes [8, 3] -> [4, 3]"#]],
    );
    let gru = "x: 5x2x3\nw = 6x3\nr = 6x2\nh: 1x2x2\n\
        y: 5x2x2, hn: 1x2x2 = aten.gru.input(input=x, hx=h, params=[w, r], has_biases=false, num_layers=1, dropout=0.0, train=false, bidirectional=false, batch_first=false)\n-> y";
    check_rules(
        gru,
        expect![[r#"
        reshape [b, a] -> [1, b, a]   free: a b
          a=3 b=6   zero: moved
        reshape [b, a] -> [1, b, a]   free: a b
          a=2 b=6   zero: moved
        gru [t, n, i], [d, q h, i], [d, q h, h], [], [], [d, n, h] -> [t, d, n, h], [d, n, h]   free: n   summed: i   inner: h   fixed: t d q
          t=5 n=2 i=3 d=1 q=3 h=2   zero: 1 + 2 + 5   macs: 300
        reshape [c, 1, b, a] -> [c, b, a]   free: a b c
          a=2 b=2 c=5   zero: moved"#]],
    );
}

#[test]
fn heads_before_the_blocks_that_they_run_in_are_heads() {
    let text = "x: 2x4x5x12\nw = 36x12\nv = 6x12\n\
        y: 2x4x5x36 = aten.linear.default(input=x, weight=w)\n\
        s: 2x4x5x3x3x4 = aten.view.default(self=y, size=[2, 4, 5, 3, 3, 4])\n\
        p: 3x2x3x4x5x4 = aten.permute.default(self=s, dims=[3, 0, 4, 1, 2, 5])\n\
        [q: 2x3x4x5x4, k: 2x3x4x5x4, n: 2x3x4x5x4] = aten.unbind.int(self=p, dim=0)\n\
        a: 2x3x4x5x4 = aten.scaled_dot_product_attention.default(query=q, key=k, value=n)\n\
        t: 2x4x5x3x4 = aten.permute.default(self=a, dims=[0, 2, 3, 1, 4])\n\
        m: 2x4x5x12 = aten.view.default(self=t, size=[2, 4, 5, 12])\n\
        z: 2x4x5x6 = aten.linear.default(input=m, weight=v)\n-> z";
    check_groups(
        text,
        expect![[r#"
        w:0#0 heads 3 exact: w:0 producer, v:1 consumer
        w:0#1 head-width 4 exact: w:0 producer, v:1 consumer"#]],
    );
}

#[test]
fn memory_that_is_written_and_read_again_has_the_axes_that_it_had() {
    let text = "x: 2x8\nw = 6x8\nv = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w)\n\
        a: 2x6 = aten.view.default(self=y, size=[2, 6])\n\
        r: 2x6 = aten.relu_.default(self=a)\n\
        z: 2x3 = aten.linear.default(input=READ, weight=v)\n-> z";
    check_groups(
        &text.replace("READ", "r"),
        expect!["w:0 features 6 exact: w:0 producer, v:1 consumer"],
    );
    check_groups(
        &text.replace("READ", "y"),
        expect!["w:0 features 6 exact: w:0 producer, v:1 consumer"],
    );
    check_groups(
        &text.replace("READ", "a"),
        expect!["w:0 features 6 exact: w:0 producer, v:1 consumer"],
    );
}

#[test]
fn memory_that_an_unknown_call_writes_is_left_whole() {
    let text = "x: 2x8\nw = 6x8\nv = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w)\n\
        r: 2x6 = aten.unheard_.default(self=y)\n\
        z: 2x3 = aten.linear.default(input=y, weight=v)\n-> z";
    check_groups(
        text,
        expect![[r#"
        warning: operator `aten.unheard_.default` is unknown: what it touches is left as it is (first at node `r`, File "model.py", line 7, in forward: `aten.unheard_.default(self=y)`)
        warning: `aten.unheard_.default` writes memory that is read again (first at node `r`, File "model.py", line 7, in forward: `aten.unheard_.default(self=y)`)"#]],
    );
}

#[test]
fn a_part_that_is_written_is_cut_with_its_source() {
    // `y[:, :4] = sigmoid(linear(y[:, :4]))`
    let text = "x: 2x8\nw = 6x8\nu = 4x4\nv = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w)\n\
        a: 2x4 = aten.slice.Tensor(self=y, dim=1, start=0, end=4)\n\
        b: 2x4 = aten.linear.default(input=a, weight=u)\n\
        c: 2x4 = aten.sigmoid.default(self=b)\n\
        d: 2x4 = aten.slice.Tensor(self=y, dim=1, start=0, end=4)\n\
        e: 2x4 = aten.copy_.default(self=d, src=c)\n\
        READ-> z";
    let columns = "z: 2x3 = aten.linear.default(input=y, weight=v)\n";
    check_groups(
        &text.replace("READ", columns),
        expect![[r#"
        w:0#0 features 4 exact: w:0 producer, u:0 producer, u:1 consumer, v:1 consumer
        w:0#1 features 2 exact: w:0 producer, v:1 consumer"#]],
    );
    let sum = "s: 2 = aten.sum.dim_IntList(self=y, dim=[1])\nz: 2 = aten.relu.default(self=s)\n";
    check_groups(
        &text.replace("READ", sum),
        expect![[r#"
        w:0#0 features 4 approximate: w:0 producer, u:0 producer, u:1 consumer
        w:0#1 features 2 approximate: w:0 producer"#]],
    );
}

const INSIDE: &str = "x: 2x8\nw = 6x8\nv = 3x6\n\
    y: 2x6 = aten.linear.default(input=x, weight=w)\n\
    a: 2x6 = wrap_with_set_grad_enabled(false, $inner, y)\n\
    z: 2x3 = aten.linear.default(input=READ, weight=v)\n-> z\n\
    graph inner(i: 2x6)\n\
    o: 2x6 = aten.CALL.default(self=i)\n-> o";

fn inside(call: &str, read: &str) -> String {
    INSIDE.replace("CALL", call).replace("READ", read)
}

#[test]
fn graphs_without_gradients_are_read_in_place() {
    check_groups(&inside("relu", "a"), expect!["w:0 features 6 exact: w:0 producer, v:1 consumer"]);
    check_edits(
        &inside("relu", "a"),
        &[("w:0", 2)],
        expect![[r#"
        inside .i.sizes [2, 6] -> [2, 2]
        inside .i.strides [6, 1] -> [2, 1]
        inside .o.sizes [2, 6] -> [2, 2]
        inside .o.strides [6, 1] -> [2, 1]
        a.sizes [2, 6] -> [2, 2]
        a.strides [6, 1] -> [2, 1]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]
        y.sizes [2, 6] -> [2, 2]
        y.strides [6, 1] -> [2, 1]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]"#]],
    );
}

#[test]
fn memory_that_is_written_inside_and_read_outside_has_the_axes_that_it_had() {
    check_groups(
        &inside("relu_", "a"),
        expect!["w:0 features 6 exact: w:0 producer, v:1 consumer"],
    );
    check_groups(
        &inside("relu_", "y"),
        expect!["w:0 features 6 exact: w:0 producer, v:1 consumer"],
    );
    let view =
        inside("detach", "y").replace("z: 2x3", "q: 2x6 = aten.relu_.default(self=a)\nz: 2x3");
    check_groups(&view, expect!["w:0 features 6 exact: w:0 producer, v:1 consumer"]);
}

#[test]
fn what_is_not_known_is_left_as_it_is() {
    let text = "x: 2x8\nw = 6x8\nv = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w)\n\
        a: 2x6 = CALL\n\
        z: 2x3 = aten.linear.default(input=a, weight=v)\n-> z";
    let call = |call: &str| text.replace("CALL", call);
    check_groups(
        &call("my.swizzle.default(x=y)"),
        expect![[
            r#"warning: operator `my.swizzle.default` is unknown: what it touches is left as it is (first at node `a`, File "model.py", line 7, in forward: `my.swizzle.default(x=y)`)"#
        ]],
    );
    check_groups(
        &call("aten.relu.default(self=3)"),
        expect![[r#"
        w:0 features 6 exact: w:0 producer
        warning: operator `aten.relu.default` is left as it is: its argument `input` is missing or of another type (first at node `a`, File "model.py", line 7, in forward: `aten.relu.default(self=3)`)"#]],
    );
    check_groups(
        &call("aten.add.out(self=y, other=y)"),
        expect![[
            r#"warning: operator `aten.add.out` is unknown: what it touches is left as it is (first at node `a`, File "model.py", line 7, in forward: `aten.add.out(self=y, other=y)`)"#
        ]],
    );
    check_groups(
        &call("aten.flatten.using_ints(self=y, start_dim=0)").replace("a: 2x6", "a: 2x7"),
        expect![[r#"
        warning: operator `aten.flatten.using_ints` is left as it is: numbers of elements do not agree: 12 and 14 (first at node `a`, File "model.py", line 7, in forward: `aten.flatten.using_ints(self=y, start_dim=0)`)
        warning: operator `aten.linear.default` is left as it is: features of data and weight do not agree: 7 and 6 (first at node `z`, File "model.py", line 7, in forward: `aten.linear.default(input=a, weight=v)`)"#]],
    );
}

#[test]
fn what_is_written_into_memory_that_is_given_has_its_axes() {
    check_groups(
        "x: 2x8\nw = 6x8\nb = 2x6\nv = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w)\n\
        a: 2x6 = aten.mul.out(self=y, other=y, out=b)\n\
        s: 2x6 = aten.relu.default(self=b)\n\
        z: 2x3 = aten.linear.default(input=s, weight=v)\n-> z",
        expect!["w:0 features 6 exact: w:0 producer, b:1 affine, v:1 consumer"],
    );
}

#[test]
fn a_tied_weight_is_cut_once_and_described_twice() {
    check_edits(
        "x: 2x8\nw = 6x8\nu = w\nv = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w)\n\
        a: 2x6 = aten.linear.default(input=x, weight=u)\n\
        s: 2x6 = aten.mul.Tensor(self=y, other=a)\n\
        z: 2x3 = aten.linear.default(input=s, weight=v)\n-> z",
        &[("u:0", 4)],
        expect![[r#"
            a.sizes [2, 6] -> [2, 4]
            a.strides [6, 1] -> [4, 1]
            s.sizes [2, 6] -> [2, 4]
            s.strides [6, 1] -> [4, 1]
            u.sizes [6, 8] -> [4, 8]
            v.sizes [3, 6] -> [3, 4]
            v.strides [6, 1] -> [4, 1]
            w.sizes [6, 8] -> [4, 8]
            y.sizes [2, 6] -> [2, 4]
            y.strides [6, 1] -> [4, 1]
            u.sizes [6, 8] -> [4, 8]
            v.sizes [3, 6] -> [3, 4]
            v.strides [6, 1] -> [4, 1]
            w.sizes [6, 8] -> [4, 8]"#]],
    );
}

const ONE: &str = "x: 2x8\nSTORED\nv = 3x6\n\
    y: 2x6 = aten.linear.default(input=x, weight=w)\n\
    z: 2x3 = aten.linear.default(input=y, weight=v)\n-> z";

/// Entries of which the description of weights is changed.
fn with_config(entries: Vec<Entry>, change: impl Fn(&mut Json)) -> Vec<Entry> {
    let one = |(name, content): Entry| {
        if !name.ends_with("weights_config.json") {
            return (name, content);
        }
        let mut config = json(&String::from_utf8(content).unwrap());
        change(&mut config);
        (name, config.to_string().into())
    };
    entries.into_iter().map(one).collect()
}

#[test]
fn weights_that_overlap_stay_whole() {
    let stored = "b = 60\nw = 6x8 in b at 2\nc = 12 in b at 48";
    check_groups(
        &ONE.replace("STORED", stored),
        expect!["warning: `w` shares memory with another weight: left whole"],
    );
    let strided = "b = 7x8\nw = 6x8 in b at 0";
    let entries = program::entries(&ONE.replace("STORED", strided));
    let entries = with_config(entries, |config| config["config"]["b"]["use_pickle"] = true.into());
    expect!["warning: `w` shares memory with another weight: left whole"]
        .assert_eq(&Case::of_entries(&entries).groups());
}

#[test]
fn weights_are_cut_in_the_order_of_their_memory() {
    check_edits(
        &ONE.replace("STORED", "w = 6x8 order 1 0"),
        &[("w:0", 2)],
        expect![[r#"
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]
        w.strides [1, 6] -> [1, 2]
        y.sizes [2, 6] -> [2, 2]
        y.strides [6, 1] -> [2, 1]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]
        w.strides [1, 6] -> [1, 2]"#]],
    );
    check_edits(
        "x: 2x4x5x5\nw = 6x4x3x3 order 0 2 3 1\nv = 3x6x1x1 order 0 2 3 1\n\
        y: 2x6x3x3 = aten.conv2d.default(input=x, weight=w)\n\
        z: 2x3x3x3 = aten.conv2d.default(input=y, weight=v)\n-> z",
        &[("w:0", 2)],
        expect![[r#"
            v.sizes [3, 6, 1, 1] -> [3, 2, 1, 1]
            v.strides [6, 1, 6, 6] -> [2, 1, 2, 2]
            w.sizes [6, 4, 3, 3] -> [2, 4, 3, 3]
            y.sizes [2, 6, 3, 3] -> [2, 2, 3, 3]
            y.strides [54, 9, 3, 1] -> [18, 9, 3, 1]
            v.sizes [3, 6, 1, 1] -> [3, 2, 1, 1]
            v.strides [6, 1, 6, 6] -> [2, 1, 2, 2]
            w.sizes [6, 4, 3, 3] -> [2, 4, 3, 3]"#]],
    );
    check_edits(
        &ONE.replace("STORED", "w = f16 6x8"),
        &[("w:0", 2)],
        expect![[r#"
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]
        y.sizes [2, 6] -> [2, 2]
        y.strides [6, 1] -> [2, 1]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]"#]],
    );
}

#[test]
fn a_tensor_within_its_memory_is_cut_out() {
    let entries = program::entries(&ONE.replace("STORED", "b = 60\nw = 6x8 in b at 7"));
    let entries =
        with_config(entries, |config| drop(config["config"].as_object_mut().unwrap().remove("b")));
    let case = Case::of_entries(&entries);
    let after = case.prune(&[("w:0", 2)]);
    expect![[r#"
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]
        y.sizes [2, 6] -> [2, 2]
        y.strides [6, 1] -> [2, 1]
        v.sizes [3, 6] -> [3, 2]
        v.strides [6, 1] -> [2, 1]
        w.sizes [6, 8] -> [2, 8]
        w.storage_offset.as_int 7 -> 0"#]]
    .assert_eq(&difference(case.model.path(), after.path()));
}

#[test]
fn an_absent_argument_is_added() {
    check_edits(
        "x: 2x5x3x8\nw = 6x8\nu = 6x8\nt = 6x8\nv = 3x6\n\
        q: 2x5x3x6 = aten.linear.default(input=x, weight=w)\n\
        k: 2x5x3x6 = aten.linear.default(input=x, weight=u)\n\
        n: 2x5x3x6 = aten.linear.default(input=x, weight=t)\n\
        a: 2x5x3x6 = aten.scaled_dot_product_attention.default(query=q, key=k, value=n)\n\
        z: 2x5x3x3 = aten.linear.default(input=a, weight=v)\n-> z",
        &[("w:0", 4), ("t:0", 3)],
        expect![[r#"
            a.inputs nothing -> scale=0.4082482904638631
            a.sizes [2, 5, 3, 6] -> [2, 5, 3, 3]
            a.strides [90, 18, 6, 1] -> [45, 9, 3, 1]
            k.sizes [2, 5, 3, 6] -> [2, 5, 3, 4]
            k.strides [90, 18, 6, 1] -> [60, 12, 4, 1]
            n.sizes [2, 5, 3, 6] -> [2, 5, 3, 3]
            n.strides [90, 18, 6, 1] -> [45, 9, 3, 1]
            q.sizes [2, 5, 3, 6] -> [2, 5, 3, 4]
            q.strides [90, 18, 6, 1] -> [60, 12, 4, 1]
            t.sizes [6, 8] -> [3, 8]
            u.sizes [6, 8] -> [4, 8]
            v.sizes [3, 6] -> [3, 3]
            v.strides [6, 1] -> [3, 1]
            w.sizes [6, 8] -> [4, 8]
            t.sizes [6, 8] -> [3, 8]
            u.sizes [6, 8] -> [4, 8]
            v.sizes [3, 6] -> [3, 3]
            v.strides [6, 1] -> [3, 1]
            w.sizes [6, 8] -> [4, 8]"#]],
    );
}

#[test]
fn a_buffer_that_is_written_has_the_axes_of_what_is_written() {
    check_groups(
        "x: 2x8\nw = 6x8\nb = 6\nv = 3x6\n\
        y: 2x6 = aten.linear.default(input=x, weight=w)\n\
        m: 6 = aten.mean.dim(self=y, dim=[0])\n\
        z: 2x3 = aten.linear.default(input=y, weight=v)\n-> z, m > b",
        expect!["w:0 features 6 exact: w:0 producer, v:1 consumer, b:0 affine"],
    );
}

#[test]
fn a_write_without_cuts_gives_the_same_bytes() {
    let case = Case::new(ATTENTION);
    let out = case.dir.path().join("out.pt2");
    case.model.write_pruned(&Keeps::new(), &out, &mut |_| ()).unwrap();
    assert!(std::fs::read(case.model.path()).unwrap() == std::fs::read(out).unwrap());
}

#[test]
fn a_mask_zeroes_what_pruning_removes_and_nothing_else() {
    let case = Case::new(&ONE.replace("STORED", "w = 6x8 order 1 0"));
    let (keeps, out) = (case.keeps(&[("w:0", 2)]), case.dir.path().join("out.pt2"));
    case.model.write_masked(&keeps, &out, &mut |_| ()).unwrap();
    let masked = Model::open(&out, &Default::default()).unwrap();
    for id in case.model.graph().param_ids() {
        let (old, new) =
            (case.model.weights().view(id).unwrap(), masked.weights().view(id).unwrap());
        let dims = old.dims.clone();
        let rows = usize::from(case.model.graph().param(id).name == "v");
        for (at, (old, new)) in old.data.chunks(4).zip(new.data.chunks(4)).enumerate() {
            let place = [at / dims[1], at % dims[1]];
            let wanted = if place[rows] < 2 { old } else { &[0; 4] };
            assert_eq!(new, wanted, "{place:?}");
        }
    }
}

#[test]
fn fields_that_are_not_known_survive() {
    let strange = r#""strange": {"a": [1.50, null, "é\u00e9"],  "b": 1e400}, "#;
    let entries: Vec<Entry> = program::entries(&ONE.replace("STORED", "w = 6x8"))
        .into_iter()
        .map(|(name, content)| {
            let mut text = String::from_utf8_lossy(&content).into_owned();
            for field in ["\"target\"", "\"layout\"", "\"torch_version\"", "\"path_name\""] {
                text = text.replace(field, &format!("{strange}{field}"));
            }
            let text = if name.ends_with(".json") { text.into() } else { content };
            (name, text)
        })
        .collect();
    let case = Case::of_entries(&entries);
    let after = case.prune(&[("w:0", 2)]);
    let (before, after) = (torch(case.model.path()), torch(after.path()));
    let texts = |file: &TorchFile| {
        [&file.program.text, &file.payloads[0].1.text].map(|text| text.matches(strange).count())
    };
    assert_eq!(texts(&before), texts(&after));
    assert_eq!(texts(&before), [8, 4]);
}

#[test]
fn other_entries_are_copied() {
    let mut entries = program::entries(&ONE.replace("STORED", "w = 6x8"));
    entries.push(("m/data/sample_inputs/model.pt".to_string(), b"a pickle".to_vec()));
    let case = Case::of_entries(&entries);
    let after = case.prune(&[("w:0", 2)]);
    let contents = |path: &Path| -> BTreeMap<String, Vec<u8>> {
        let mut zip = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
        (0..zip.len())
            .map(|index| {
                let mut entry = zip.by_index(index).unwrap();
                let mut content = Vec::new();
                std::io::copy(&mut entry, &mut content).unwrap();
                assert_eq!(entry.data_start().unwrap() % 64, 0);
                (entry.name().unwrap().into_owned(), content)
            })
            .collect()
    };
    let (before, after) = (contents(case.model.path()), contents(after.path()));
    let changed = before.iter().filter(|(name, content)| after[*name] != **content);
    let changed: Vec<&str> = changed.map(|(name, _)| name.as_str()).collect();
    assert_eq!(before.len(), after.len());
    expect![[r#"
        m/data/weights/model_weights_config.json
        m/data/weights/weight_0
        m/data/weights/weight_1
        m/models/model.json"#]]
    .assert_eq(&changed.join("\n"));
}

#[test]
fn expressions_are_multiplied() {
    let check = |text: &str, old, new| multiplied(text, old, new).unwrap_or("-".to_string());
    assert_eq!(check("Symbol('s0')", 2, 2), "Symbol('s0')");
    assert_eq!(check("Symbol('s0')", 2, 6), "Mul(Integer(3), Symbol('s0'))");
    assert_eq!(check("Symbol('s0')", 4, 6), "-");
    assert_eq!(check("Integer(8)", 8, 6), "Integer(6)");
    assert_eq!(check("Mul(Integer(8), Symbol('s0'))", 16, 2), "Symbol('s0')");
    assert_eq!(
        check("Mul(Symbol('s0'), Symbol('s1'))", 6, 12),
        "Mul(Integer(2), Symbol('s0'), Symbol('s1'))"
    );
    assert_eq!(
        check("Max(Integer(4), Mul(Integer(8), Symbol('s0')))", 16, 8),
        "Max(Integer(2), Mul(Integer(4), Symbol('s0')))"
    );
    assert_eq!(
        check("Add(Integer(-8), Mul(Integer(8), Symbol('s0')))", 8, 2),
        "Add(Integer(-2), Mul(Integer(2), Symbol('s0')))"
    );
    assert_eq!(check("Add(Integer(-1), Symbol('s0'))", 4, 2), "-");
    assert_eq!(check("Integer(8", 8, 4), "-");
    assert_eq!(check("Mul()", 8, 4), "-");
    let deep = format!("{}Integer(8){}", "Max(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(check(&deep, 8, 4), "-");
    assert_eq!(check("Integer(8)", 0, 4), "-");
    assert_eq!(check(&format!("Integer({})", i64::MAX), 2, 4), "-");
}

/// An expression in one symbol, as SymPy prints it, and its value.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (1_i64..40).prop_map(|number| format!("Integer({number})")),
        Just("Symbol('s0', positive=True, integer=True)".to_string()),
        (2_i64..40).prop_map(|number| {
            format!("Mul(Integer({number}), Symbol('s0', positive=True, integer=True))")
        }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        (prop::sample::select(vec!["Add", "Max", "Min", "Mul"]), prop::collection::vec(inner, 2..4))
            .prop_map(|(head, parts)| format!("{head}({})", parts.join(", ")))
    })
}

fn value(text: &str, symbol: i128) -> Option<i128> {
    let (head, inner) = text.split_once('(').unwrap();
    let inner = inner.strip_suffix(')').unwrap();
    let parts = || super::apply::arguments(inner).into_iter().map(|part| value(part, symbol));
    match head {
        "Symbol" => Some(symbol),
        "Integer" => inner.parse().ok(),
        "Add" => parts().sum(),
        "Mul" => parts().product(),
        "Max" => parts().collect::<Option<Vec<i128>>>()?.into_iter().max(),
        _ => parts().collect::<Option<Vec<i128>>>()?.into_iter().min(),
    }
}

proptest! {
    #[test]
    fn a_multiplied_expression_is_multiplied_for_every_symbol(
        text in expression(), symbol in 2_i128..9, factor in 1_i64..6, divisor in 1_i64..6,
    ) {
        let old = i64::try_from(value(&text, symbol).unwrap()).unwrap();
        let product = old * factor;
        prop_assume!(product % divisor == 0);
        if let Some(spelled) = multiplied(&text, old, product / divisor) {
            for symbol in [symbol, 11, 60] {
                let (before, after) = (value(&text, symbol).unwrap(), value(&spelled, symbol).unwrap());
                prop_assert_eq!(before * i128::from(factor), after * i128::from(divisor), "{}", spelled);
            }
        }
    }

    #[test]
    fn the_order_of_dense_memory_is_found(
        dims in prop::collection::vec(1_usize..5, 0..5), seed in any::<u64>(),
    ) {
        let mut order: Vec<usize> = (0..dims.len()).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut order);
        let mut strides = vec![0; dims.len()];
        let mut step = 1;
        for &axis in order.iter().rev() {
            strides[axis] = step;
            step *= dims[axis];
        }
        let found = dense_order(&dims, &strides).unwrap();
        let mut step = 1;
        for &axis in found.iter().rev() {
            prop_assert!(dims[axis] == 1 || strides[axis] == step);
            step *= dims[axis];
        }
        let mut sorted = found;
        sorted.sort_unstable();
        prop_assert!(sorted.into_iter().eq(0..dims.len()));
        if let Some(axis) = (0..dims.len()).find(|&axis| dims[axis] > 1) {
            strides[axis] += 1;
            prop_assert_eq!(dense_order(&dims, &strides), None);
        }
    }
}
