//! No file makes the reader panic: every one is read, pruned and written, or refused.
//!
//! Mutations are seeded: of bytes, which mostly break the container, and of messages, which mostly
//! break what the graph means.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message;
use secateur::Model;
use secateur::group::Keeps;
use secateur::onnx::OnnxFile;
use secateur::onnx::proto::{AttributeProto, Extent, ModelProto, ValueInfoProto};

const MUTATIONS: u64 = 300;

/// A stream of numbers: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'t, T>(&mut self, from: &'t mut [T]) -> Option<&'t mut T> {
        let index = self.below(from.len());
        from.get_mut(index)
    }

    /// A number at which sizes break.
    fn number(&mut self) -> i64 {
        const NUMBERS: [i64; 14] =
            [0, 1, -1, 2, 3, 5, 7, 64, 65_536, 1 << 31, 1 << 32, 1 << 62, i64::MAX, i64::MIN];
        NUMBERS[self.below(NUMBERS.len())]
    }
}

fn mutate_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..(at + 1 + random.below(9)).min(bytes.len()))),
            2 => bytes.insert(at, random.next() as u8),
            3 => bytes[at..].reverse(),
            _ => bytes[at] = random.next() as u8,
        }
        if bytes.is_empty() {
            return;
        }
    }
}

fn mutate_messages(model: &mut ModelProto, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        mutate_message(model, random);
    }
}

fn mutate_message(model: &mut ModelProto, random: &mut Random) {
    let Some(graph) = &mut model.graph else { return };
    match random.below(12) {
        0 => change_size(random.pick(&mut graph.input), random),
        1 => change_size(random.pick(&mut graph.value_info), random),
        2 => {
            let Some(tensor) = random.pick(&mut graph.initializer) else { return };
            if let Some(dim) = random.pick(&mut tensor.dims) {
                *dim = random.number();
            }
        }
        3 => {
            let mut ints: Vec<_> =
                graph.initializer.iter_mut().filter(|t| t.data_type == 7).collect();
            let Some(tensor) = random.pick(&mut ints) else { return };
            let mut raw = tensor.raw_data.clone().unwrap_or_default().to_vec();
            if let Some(word) = random.pick(raw.as_chunks_mut::<8>().0) {
                *word = random.number().to_le_bytes();
            }
            tensor.raw_data = Some(raw.into());
        }
        4 => {
            // A stored matrix of another shape of as many elements.
            let Some(tensor) = random.pick(&mut graph.initializer) else { return };
            let at = random.below(tensor.dims.len());
            tensor.dims.insert(at, 1);
        }
        5 => drop(graph.output.pop()),
        kind => {
            let names: Vec<String> = graph.node.iter().flat_map(|n| n.output.clone()).collect();
            let kinds: Vec<String> = graph.node.iter().map(|n| n.op_type.clone()).collect();
            let Some(node) = random.pick(&mut graph.node) else { return };
            match kind {
                6 => node.op_type.clone_from(&kinds[random.below(kinds.len())]),
                7 => drop(node.attribute.pop()),
                8 => {
                    let name = names[random.below(names.len())].clone();
                    if let Some(input) = random.pick(&mut node.input) {
                        *input = name;
                    }
                }
                9 => drop(node.input.pop()),
                _ => change_attribute(random.pick(&mut node.attribute), random),
            }
        }
    }
}

fn change_size(info: Option<&mut ValueInfoProto>, random: &mut Random) {
    let kind = info.and_then(|info| info.r#type.as_mut()).and_then(|t| t.tensor_type.as_mut());
    let Some(shape) = kind.and_then(|kind| kind.shape.as_mut()) else { return };
    if let Some(dim) = random.pick(&mut shape.dim) {
        dim.extent = Some(Extent::Value(random.number()));
    }
}

fn change_attribute(attribute: Option<&mut AttributeProto>, random: &mut Random) {
    let Some(attribute) = attribute else { return };
    if let Some(number) = random.pick(&mut attribute.ints) {
        *number = random.number();
    } else if attribute.i.is_some() {
        attribute.i = Some(random.number());
    }
}

/// Reads, analyzes, plans and, where `out` is given, writes; says how far it came.
fn run(path: &Path, out: Option<&Path>, random: &mut Random) -> usize {
    let Ok(model) = Model::open(path, &Default::default()) else { return 0 };
    let mut keeps = Keeps::new();
    for (id, group) in model.groups().iter() {
        let size = group.size.min(1 << 20);
        let start = random.below(size);
        keeps.insert(id, (start as u32..size as u32).collect());
    }
    if model.plan(&keeps).is_err() {
        return 1;
    }
    let written = out.is_none_or(|out| model.write_pruned(&keeps, out, &mut |_| ()).is_ok());
    if written { 3 } else { 2 }
}

fn survive(fixture: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let source = folder.join(format!("{fixture}.onnx"));
    let bytes = fs::read(&source).unwrap();
    let proto = OnnxFile::open(&source).unwrap().proto().clone();
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("in.onnx"), dir.path().join("out.onnx"));
    let mut reached = [0; 4];
    for seed in 0..MUTATIONS {
        let mut random = Random(seed);
        let mutated = if seed % 3 == 0 {
            let mut bytes = bytes.clone();
            mutate_bytes(&mut bytes, &mut random);
            bytes
        } else {
            let mut proto = proto.clone();
            mutate_messages(&mut proto, &mut random);
            proto.encode_to_vec()
        };
        fs::write(&path, mutated).unwrap();
        // Writing waits for the disk.
        let out = (seed % 4 == 0).then_some(out.as_path());
        let end = catch_unwind(AssertUnwindSafe(|| run(&path, out, &mut random)));
        reached[end.unwrap_or_else(|_| panic!("{fixture}, seed {seed}"))] += 1;
    }
    // Were all refused at once, nothing would be tested.
    assert!(reached[0] > 10 && reached[3] > 10, "{fixture}: {reached:?}");
}

macro_rules! fixtures {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            survive(stringify!($name));
        }
    )*};
}

fixtures! {
    c2f
    channel_shuffle
    conv1d
    dynamic_attention_legacy
    fused_qkv_attention_opset23
    grouped_query_attention
    instance_norm_running_stats
    parameter_einsum
    rotary_attention
    space_to_depth
    unet_resize_concat
    window_attention
}
