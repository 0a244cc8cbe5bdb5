//! The container against fixtures; `tests/fixtures/container/make.py` makes them.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use tempfile::TempDir;

use super::proto::{self, Extent, ModelProto, StringStringEntryProto, TensorProto};
use super::rewrite::rewrite;
use super::save::{Limits, save_within};
use super::{AttributeEdit, Edits, OnnxFile, TensorEdit, TensorRef, save};
use crate::tensor::{Keep, TensorView};
use crate::{DType, ErrorKind, Result};

const INLINE: [&str; 5] = ["mlp", "unknown", "old", "dtypes", "nested"];
const EXTERNAL: [(&str, &str); 2] = [("external", "mlp"), ("nested_external", "nested")];

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/container");
    folder.join(format!("{name}.onnx"))
}

fn open(name: &str) -> OnnxFile {
    OnnxFile::open(&fixture(name)).unwrap()
}

fn saved(file: &OnnxFile, edits: &Edits) -> (TempDir, OnnxFile) {
    saved_within(file, edits, u64::MAX)
}

/// Writes with every tensor of more than 4 bytes in the data file.
fn saved_outside(file: &OnnxFile, edits: &Edits) -> (TempDir, OnnxFile) {
    let dir = tempfile::tempdir().unwrap();
    let (out, data) = (dir.path().join("out.onnx"), dir.path().join("data"));
    let content = rewrite(file, edits, "data", Some(4)).unwrap();
    save::write(file, &content, &out, data, &mut |_| ()).unwrap();
    (dir, OnnxFile::open(&out).unwrap())
}

fn saved_within(file: &OnnxFile, edits: &Edits, message: u64) -> (TempDir, OnnxFile) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.onnx");
    let limits = Limits { message, inline: 60 };
    let mut progress = 0;
    let saved =
        save_within(file, edits, &out, &mut |bytes| progress = progress.max(bytes), &limits);
    let saved = saved.unwrap();
    let written = OnnxFile::open(&out).unwrap();
    assert_eq!((saved.bytes, progress), (written.byte_size(), written.byte_size()));
    assert_eq!(saved.data.is_some(), !written.data_files().is_empty());
    assert_eq!(names(dir.path()).len(), 1 + usize::from(saved.data.is_some()));
    (dir, written)
}

fn ints(dims: Vec<usize>, values: Vec<i64>) -> TensorView {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorView::new(DType::I64, dims, data.into()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All tensors of a model, wherever they are.
fn tensors(file: &OnnxFile) -> Vec<TensorView> {
    let mut found = Vec::new();
    super::file::visit_model(file.proto(), &mut |tensor| found.push(tensor));
    found.into_iter().map(|tensor| file.tensor(tensor).unwrap()).collect()
}

/// A file with one initializer, in memory.
fn with_initializer(tensor: TensorProto, path: &Path) -> OnnxFile {
    let mut proto = open("mlp").proto().clone();
    proto.graph.as_mut().unwrap().initializer = vec![tensor];
    OnnxFile::parse(proto.encode_to_vec().into(), path).unwrap()
}

fn external_tensor(dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    TensorProto {
        name: "w".to_owned(),
        dims: dims.to_vec(),
        data_type: proto::FLOAT,
        external_data: entries.iter().map(entry).collect(),
        data_location: 1,
        ..Default::default()
    }
}

fn floats(view: &TensorView) -> Vec<f32> {
    view.data.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    match error.remedy() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

fn count(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).filter(|window| *window == pattern).count()
}

/// Cuts hidden features of the fixture `mlp`, and its relatives, from 6 to 3.
fn prune_mlp() -> Edits {
    let hidden = Some(vec![0, 2, 5]);
    let initializer = TensorRef::Initializer;
    let attribute = |node| TensorRef::Attribute { node, attribute: 0 };
    Edits {
        tensors: [
            (initializer(0), TensorEdit::Keep(vec![hidden.clone(), None])),
            (initializer(1), TensorEdit::Keep(vec![hidden.clone()])),
            (initializer(2), TensorEdit::Keep(vec![None, hidden.clone()])),
            (attribute(1), TensorEdit::Ints(vec![2], vec![-1, 3])),
            (attribute(5), TensorEdit::Keep(vec![hidden])),
        ]
        .into(),
        value_shapes: [
            ("h".to_owned(), vec![None, Some(3)]),
            ("r".to_owned(), vec![None, Some(3)]),
            ("a".to_owned(), vec![Some(0), Some(3)]),
        ]
        .into(),
        ..Edits::default()
    }
}

#[test]
fn onnx_unedited_save_gives_the_same_bytes() {
    for name in INLINE {
        let file = open(name);
        let (_dir, written) = saved(&file, &Edits::default());
        assert_eq!(file.bytes(), written.bytes(), "{name}");
    }
}

#[test]
fn onnx_unedited_save_of_external_data_only_renames_the_data_file() {
    for (name, inline) in EXTERNAL {
        let file = open(name);
        let (_dir, written) = saved(&file, &Edits::default());
        assert_eq!(written.data_files().into_iter().collect::<Vec<_>>(), ["out.onnx.data"]);
        assert_eq!(tensors(&written), tensors(&open(inline)), "{name}");
        let stripped = |file: &OnnxFile| {
            let mut graph = file.graph().clone();
            graph.initializer.iter_mut().for_each(|tensor| tensor.external_data.clear());
            graph.node.iter_mut().for_each(|node| node.attribute.clear());
            graph
        };
        assert_eq!(stripped(&written), stripped(&file));
    }
}

#[test]
fn onnx_typed_and_raw_data_agree() {
    let file = open("dtypes");
    let tensor = |name: &str| {
        let found = file.graph().initializer.iter().find(|tensor| tensor.name == name);
        file.tensor(found.unwrap()).unwrap()
    };
    let mut seen = 0;
    for typed in file.graph().initializer.iter() {
        let Some(name) = typed.name.strip_prefix("typed_") else { continue };
        assert_eq!(tensor(&typed.name), tensor(&format!("raw_{name}")), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 23);
    assert_eq!(tensor("raw_INT16").to_i64s().unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(tensor("negative").to_i64s().unwrap(), [-1, -(1 << 62)]);
    assert_eq!(tensor("scalar").dims, [0_usize; 0]);
    assert_eq!(floats(&tensor("scalar")), [7.0]);
    assert_eq!((tensor("empty").dims, tensor("empty").data.len()), (vec![0, 3], 0));
    assert_eq!((tensor("string").dtype, tensor("string").dims), (DType::String, vec![2]));
    assert_eq!(&tensor("typed_INT4").data[..], [0x21, 0x43, 0x05]);
}

#[test]
fn onnx_every_dtype_is_cut_alike_from_typed_and_raw_data() {
    let file = open("dtypes");
    let five = |tensor: &TensorProto| tensor.dims == [5];
    let indices = (0..).zip(&file.graph().initializer).filter(|(_, tensor)| five(tensor));
    let keep =
        |(index, _)| (TensorRef::Initializer(index), TensorEdit::Keep(vec![Some(vec![1, 2, 4])]));
    let edits = Edits { tensors: indices.map(keep).collect(), ..Edits::default() };
    for save in [saved, saved_outside] {
        let (_dir, written) = save(&file, &edits);
        for pair in written.graph().initializer.chunks(2).take(23) {
            assert_eq!(pair[0].dims, [3]);
            assert_eq!(written.tensor(&pair[0]).unwrap(), written.tensor(&pair[1]).unwrap());
        }
        let packed = written.graph().initializer.iter().find(|t| t.name == "raw_UINT4").unwrap();
        assert_eq!(&written.tensor(packed).unwrap().data[..], [0x32, 0x05]);
    }
}

#[test]
fn onnx_raw_data_is_borrowed_from_the_file() {
    let file = open("mlp");
    let map = file.bytes().as_ptr_range();
    for tensor in &file.graph().initializer {
        let view = file.tensor(tensor).unwrap();
        assert!(map.contains(&view.data.as_ptr()), "{}", tensor.name);
        file.release(&view.data);
        assert_eq!(view, file.tensor(tensor).unwrap());
    }
}

#[test]
fn onnx_constants_are_tensors() {
    let file = open("mlp");
    let constant = |node| file.resolve(TensorRef::Attribute { node, attribute: 0 }).unwrap();
    assert_eq!(constant(1).to_i64s().unwrap(), [-1, 6]);
    assert_eq!(constant(3).to_i64s().unwrap(), [0, 1]);
    assert_eq!((constant(4).dims.len(), floats(&constant(4))), (0, vec![2.0]));
    assert_eq!(constant(5).dims, [6]);
    assert_eq!(constant(6).to_i64s().unwrap(), [1]);
    let missing = file.resolve(TensorRef::Attribute { node: 0, attribute: 9 });
    assert_eq!(error(missing), "node 0 has no attribute 9");
}

#[test]
fn onnx_edits_reach_weights_constants_and_declared_shapes() {
    for name in ["mlp", "unknown", "external"] {
        let file = open(name);
        let (_dir, written) = saved(&file, &prune_mlp());
        let (old, new) = (file.graph(), written.graph());
        let dims: Vec<_> = new.initializer.iter().map(|tensor| tensor.dims.clone()).collect();
        assert_eq!(dims, [vec![3, 4], vec![3], vec![3, 3]], "{name}");
        let rows = floats(&file.tensor(&old.initializer[0]).unwrap());
        let kept: Vec<_> = [0, 2, 5].iter().flat_map(|&at| rows[at * 4..][..4].to_vec()).collect();
        assert_eq!(floats(&written.tensor(&new.initializer[0]).unwrap()), kept);
        assert_eq!(new.node[1].attribute[0].t.as_ref().unwrap().name, "s");
        let constant = |node| written.resolve(TensorRef::Attribute { node, attribute: 0 }).unwrap();
        assert_eq!(constant(1).to_i64s().unwrap(), [-1, 3]);
        assert_eq!(floats(&constant(5)), [1.0, 3.0, 6.0]);
        assert_eq!(
            new.value_info.iter().map(extents).collect::<Vec<_>>(),
            [
                vec![Some(Extent::Param("batch".to_owned())), Some(Extent::Value(3))],
                vec![None, Some(Extent::Value(3))],
                vec![Some(Extent::Value(0)), Some(Extent::Value(3))],
            ]
        );
        assert_eq!((&new.input, &new.output), (&old.input, &old.output));
    }
}

fn extents(value: &proto::ValueInfoProto) -> Vec<Option<Extent>> {
    let shape = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref();
    shape.unwrap().dim.iter().map(|dim| dim.extent.clone()).collect()
}

#[test]
fn onnx_unknown_fields_survive_edits_at_every_level() {
    const MARK: &[u8] = b"\xa2\x38\x03abc";
    let file = open("unknown");
    let edits = Edits {
        inputs: vec![(7, 1, "other".to_owned()), (0, 5, "late".to_owned())],
        attributes: vec![
            (0, "transB".to_owned(), AttributeEdit::Ints(vec![1, 2])),
            (2, "allowzero".to_owned(), AttributeEdit::Int(1)),
        ],
        ..prune_mlp()
    };
    let (_dir, written) = saved(&file, &edits);
    assert_eq!(count(file.bytes(), MARK), 51);
    assert_eq!(count(written.bytes(), MARK), 51);
    for text in ["second layer", "graph doc", "model doc", "author", "make.py"] {
        assert_eq!(count(written.bytes(), text.as_bytes()), count(file.bytes(), text.as_bytes()));
    }
    let node = &written.graph().node[0];
    assert!(node.input.iter().eq(["x", "w1", "b1", "", "", "late"]));
    assert_eq!(node.attribute[1].ints, [1, 2]);
    assert_eq!((node.attribute[1].r#type, node.attribute[1].i), (7, None));
    assert!(written.graph().node[7].input.iter().eq(["r", "other"]));
}

#[test]
fn onnx_attributes_are_set_added_and_removed() {
    let file = open("mlp");
    let set = |name: &str, edit| (0, name.to_owned(), edit);
    let edits = Edits {
        attributes: vec![
            set("transB", AttributeEdit::Int(0)),
            set("alpha", AttributeEdit::Remove),
            set("absent", AttributeEdit::Remove),
            set("new", AttributeEdit::Ints(vec![-1, 0])),
        ],
        ..Edits::default()
    };
    let (_dir, written) = saved(&file, &edits);
    let node = &written.graph().node[0];
    let found: Vec<_> =
        node.attribute.iter().map(|a| (a.name.as_str(), a.r#type, a.i, a.ints.clone())).collect();
    assert_eq!(found, [("transB", 2, Some(0), vec![]), ("new", 7, None, vec![-1, 0])]);
}

#[test]
fn onnx_zero_edits_keep_the_shape() {
    let file = open("external");
    let keep: Keep = vec![Some(vec![1]), None];
    let tensors = [(TensorRef::Initializer(0), TensorEdit::Zero(keep))].into();
    let (_dir, written) = saved(&file, &Edits { tensors, ..Edits::default() });
    let view = |file: &OnnxFile| floats(&file.resolve(TensorRef::Initializer(0)).unwrap());
    let mut expected = vec![0.0; 24];
    expected[4..8].copy_from_slice(&view(&file)[4..8]);
    assert_eq!(view(&written), expected);
}

#[test]
fn onnx_new_initializers_are_added() {
    let whole = TensorEdit::Keep(vec![None]);
    let half = TensorEdit::Keep(vec![Some(vec![5, 4, 3])]);
    let literals = vec![("split".to_owned(), ints(vec![2], vec![1, 2]))];
    for name in ["mlp", "external"] {
        let file = open(name);
        let edits = Edits {
            copies: vec![
                ("copy".to_owned(), TensorRef::Initializer(1), half.clone()),
                ("list".to_owned(), TensorRef::Attribute { node: 5, attribute: 0 }, half.clone()),
                (
                    "shape2".to_owned(),
                    TensorRef::Attribute { node: 1, attribute: 0 },
                    whole.clone(),
                ),
            ],
            literals: literals.clone(),
            ..prune_mlp()
        };
        let (_dir, written) = saved(&file, &edits);
        let graph = written.graph();
        let new: Vec<_> = graph.initializer[3..].iter().map(|t| t.name.as_str()).collect();
        assert_eq!(new, ["copy", "list", "shape2", "split"]);
        let view = |index| written.resolve(TensorRef::Initializer(index)).unwrap();
        let source = floats(&file.resolve(TensorRef::Initializer(1)).unwrap());
        assert_eq!(floats(&view(3)), [source[5], source[4], source[3]]);
        assert_eq!(floats(&view(4)), [6.0, 5.0, 4.0]);
        assert_eq!(view(5).to_i64s().unwrap(), [-1, 6]);
        assert_eq!(view(6).to_i64s().unwrap(), [1, 2]);
        assert_eq!(graph.input.len(), 1);
    }
}

#[test]
fn onnx_old_models_declare_their_initializers() {
    let file = open("old");
    let edits = Edits {
        tensors: [
            (TensorRef::Initializer(0), TensorEdit::Keep(vec![Some(vec![2]), None])),
            (TensorRef::Initializer(1), TensorEdit::Ints(vec![2], vec![-1, 1])),
        ]
        .into(),
        literals: vec![("n".to_owned(), ints(vec![1], vec![5]))],
        ..Edits::default()
    };
    let (_dir, written) = saved(&file, &edits);
    let graph = written.graph();
    assert_eq!(extents(&graph.input[1]), [Some(Extent::Value(1)), Some(Extent::Value(2))]);
    assert_eq!(extents(&graph.input[2]), [Some(Extent::Value(2))]);
    assert_eq!(graph.input[3].name, "n");
    assert_eq!(extents(&graph.input[3]), [Some(Extent::Value(1))]);
    assert_eq!(floats(&written.tensor(&graph.initializer[0]).unwrap()), [5.0, 6.0]);
}

#[test]
fn onnx_value_info_is_dropped_by_name() {
    let file = open("mlp");
    let drop_value_info = ["h", "x", "absent"].map(str::to_owned).into();
    let (_dir, written) = saved(&file, &Edits { drop_value_info, ..Edits::default() });
    let names: Vec<_> = written.graph().value_info.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["r", "a"]);
    assert_eq!(written.graph().input, file.graph().input);
}

#[test]
fn onnx_edits_that_keep_all_change_nothing() {
    let file = open("old");
    let tensors = [
        (TensorRef::Initializer(0), TensorEdit::Keep(vec![None, None])),
        (TensorRef::Initializer(1), TensorEdit::Zero(vec![None])),
    ];
    let (_dir, written) = saved(&file, &Edits { tensors: tensors.into(), ..Edits::default() });
    assert_eq!(written.bytes(), file.bytes());
}

#[test]
fn onnx_tied_external_weights_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    fs::write(&path, "").unwrap();
    fs::write(dir.path().join("w"), (0..16).collect::<Vec<u8>>()).unwrap();
    let mut proto = open("mlp").proto().clone();
    let tied = ["t0", "t1", "t2"].map(|name| TensorProto {
        name: name.to_owned(),
        ..external_tensor(&[4], &[("location", "w")])
    });
    proto.graph.as_mut().unwrap().initializer = tied.into();
    let file = OnnxFile::parse(proto.encode_to_vec().into(), &path).unwrap();
    let keep = |indices: &[u32]| TensorEdit::Keep(vec![Some(indices.to_vec())]);
    let edits = [(0, keep(&[0, 2])), (1, keep(&[0, 2])), (2, keep(&[0, 3]))];
    let edits = edits.map(|(index, edit)| (TensorRef::Initializer(index), edit));
    let content = rewrite(&file, &Edits::default(), "data", None).unwrap();
    assert_eq!(content.data.payloads.len(), 1);
    let (_dir, written) = saved(&file, &Edits { tensors: edits.into(), ..Edits::default() });
    let views = tensors(&written).into_iter().take(3);
    let data: Vec<_> = views.map(|view| view.data.to_vec()).collect();
    let both = vec![0, 1, 2, 3, 8, 9, 10, 11];
    assert_eq!(data, [both.clone(), both, vec![0, 1, 2, 3, 12, 13, 14, 15]]);
    assert_eq!(written.byte_size() - written.bytes().len() as u64, 64 + 8);
}

#[test]
fn onnx_files_are_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<OnnxFile>();
}

#[test]
fn onnx_large_models_move_their_weights_to_a_data_file() {
    for (name, count) in [("mlp", 2), ("nested", 5), ("unknown", 2)] {
        let file = open(name);
        let (_dir, written) = saved_within(&file, &Edits::default(), file.bytes().len() as u64 - 1);
        let mut moved = 0;
        super::file::visit_model(written.proto(), &mut |tensor| {
            moved += usize::from(tensor.is_external());
        });
        assert_eq!(moved, count, "{name}");
        assert_eq!(tensors(&written), tensors(&file), "{name}");
        let (_dir, written) = saved_within(&file, &Edits::default(), file.bytes().len() as u64);
        assert_eq!(written.bytes(), file.bytes());
    }
    for name in INLINE {
        let (_dir, written) = saved_outside(&open(name), &Edits::default());
        assert_eq!(tensors(&written), tensors(&open(name)), "{name}");
    }
    let (_dir, written) = saved_outside(&open("mlp"), &prune_mlp());
    assert_eq!(written.resolve(TensorRef::Initializer(0)).unwrap().dims, [3, 4]);
    assert_eq!(written.data_files().into_iter().collect::<Vec<_>>(), ["data"]);
    let limits = Limits { message: 100, inline: 20 };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.onnx");
    let refused = save_within(&open("mlp"), &Edits::default(), &out, &mut |_| (), &limits);
    assert!(error(refused).ends_with("bytes without its weights, a protobuf file at most 100"));
    assert!(names(dir.path()).is_empty());
}

#[test]
fn onnx_data_is_aligned() {
    let (_dir, written) = saved(&open("nested_external"), &Edits::default());
    let mut ends = Vec::new();
    super::file::visit_model(written.proto(), &mut |tensor| {
        let entry = |key| tensor.external_data.iter().find(|e| e.key == key);
        ends.extend(entry("offset").map(|e| e.value.parse::<u64>().unwrap() % 64));
    });
    assert_eq!(ends, [0; 7]);
}

#[test]
fn onnx_prunes_in_place_with_external_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("external.onnx");
    for name in ["external.onnx", "external.a.bin", "external.b.bin"] {
        let from = fixture("external").with_file_name(name);
        fs::copy(from, dir.path().join(name)).unwrap();
    }
    let own = ["external.a.bin", "external.b.bin"];
    let zero = |at: u32| Edits {
        tensors: [(TensorRef::Initializer(0), TensorEdit::Zero(vec![Some(vec![at]), None]))].into(),
        ..Edits::default()
    };
    for data in ["external.onnx.data", "external.onnx.1.data", "external.onnx.data"] {
        let file = OnnxFile::open(&path).unwrap();
        let before = tensors(&file);
        save(&file, &zero(1), &path, &mut |_| ()).unwrap();
        let written = OnnxFile::open(&path).unwrap();
        assert_eq!(names(dir.path()), [own[0], own[1], "external.onnx", data]);
        assert_eq!(tensors(&file), before);
        assert_eq!(tensors(&written)[1..], before[1..]);
        assert_eq!(floats(&tensors(&written)[0])[4..8], floats(&before[0])[4..8]);
    }
    let file = OnnxFile::open(&path).unwrap();
    let copy = dir.path().join("copy.onnx");
    fs::copy(&path, &copy).unwrap();
    let shared = OnnxFile::open(&copy).unwrap();
    save(&shared, &Edits::default(), &path, &mut |_| ()).unwrap();
    assert!(dir.path().join("external.onnx.data").exists(), "the copy still reads it");
    assert_eq!(tensors(&OnnxFile::open(&copy).unwrap()), tensors(&file));
}

#[test]
fn onnx_failed_saves_leave_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = open("external");
    let save = |out: &Path, edits: &Edits| save(&file, edits, out, &mut |_| ());
    let missing = dir.path().join("missing/out.onnx");
    assert_eq!(
        error(save(&missing, &Edits::default())),
        format!(
            "`{}`: No such file or directory (os error 2); create the folder first",
            missing.display()
        )
    );
    assert_eq!(
        error(save(dir.path(), &Edits::default())),
        format!("`{}` is a folder; name a file", dir.path().display())
    );
    let out = dir.path().join("out.onnx");
    fs::write(&out, "old").unwrap();
    let edit =
        |edit| Edits { tensors: [(TensorRef::Initializer(0), edit)].into(), ..Edits::default() };
    let wrong = [
        (edit(TensorEdit::Keep(vec![None])), "tensor `w1` has 2 axes, its cut has 1"),
        (
            edit(TensorEdit::Keep(vec![None, Some(vec![4])])),
            "tensor `w1`: index 4 is out of range on axis 1 of shape [6, 4]",
        ),
        (edit(TensorEdit::Ints(vec![1], vec![1])), "tensor `w1`: a f32 tensor takes no integers"),
        (
            Edits { literals: vec![("h".to_owned(), ints(vec![], vec![1]))], ..Edits::default() },
            "the name `h` is taken in this model",
        ),
        (
            Edits { value_shapes: [("h".to_owned(), vec![])].into(), ..Edits::default() },
            "value `h`: it has 2 axes, its new shape 0",
        ),
        (Edits { inputs: vec![(99, 0, String::new())], ..Edits::default() }, "there is no node 99"),
    ];
    for (edits, message) in wrong {
        assert_eq!(error(save(&out, &edits)), message);
    }
    assert_eq!(fs::read_to_string(&out).unwrap(), "old");
    assert_eq!(names(dir.path()), ["out.onnx"]);
}

#[cfg(target_os = "linux")]
#[test]
fn onnx_a_full_disk_is_reported() {
    let file = open("mlp");
    let content = rewrite(&file, &Edits::default(), "data", None).unwrap();
    let mut full = fs::File::options().write(true).open("/dev/full").unwrap();
    let written =
        content.model.pieces().iter().try_for_each(|p| save::write_piece(&file, p, &mut full));
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn onnx_integers_must_fit_the_tensor() {
    let ints = |values: &[i64], data_type| {
        let raw_data = Some(Bytes::from(vec![0; 4]));
        let tensor = TensorProto { dims: vec![4], data_type, raw_data, ..Default::default() };
        let file = with_initializer(tensor, Path::new("m"));
        let edit = TensorEdit::Ints(vec![values.len()], values.to_vec());
        let edits =
            Edits { tensors: [(TensorRef::Initializer(0), edit)].into(), ..Edits::default() };
        rewrite(&file, &edits, "data", None).map(|_| ())
    };
    assert!(ints(&[-128, 127], 3).is_ok());
    assert_eq!(error(ints(&[128], 3)), "tensor ``: 128 does not fit into i8");
    assert_eq!(error(ints(&[-1], 2)), "tensor ``: -1 does not fit into u8");
}

#[test]
fn onnx_external_data_stays_in_the_models_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::write(dir.path().join("secret"), [0; 8]).unwrap();
    fs::write(folder.join("sub/w.bin"), [0; 8]).unwrap();
    let model = folder.join("m.onnx");
    fs::write(&model, "").unwrap();
    let read = |location: &str| {
        let tensor = external_tensor(&[2], &[("location", location)]);
        let file = with_initializer(tensor, &model);
        file.tensor(&file.graph().initializer[0])
    };
    assert_eq!(read("sub/w.bin").unwrap().data.len(), 8);
    assert_eq!(read("./sub/w.bin").unwrap().data.len(), 8);
    let absolute = dir.path().join("secret");
    for location in ["../secret", "sub/../../secret", "", absolute.to_str().unwrap()] {
        assert_eq!(
            error(read(location)),
            format!(
                "tensor `w`: its external data `{location}` is outside of the model's folder; \
                 move the data file next to the model, and name it by a relative path"
            )
        );
    }
    assert_eq!(
        error(read("none.bin")),
        format!(
            "tensor `w`: `{}`: No such file or directory (os error 2); \
             put the model's data files next to it",
            folder.join("none.bin").display()
        )
    );
    assert!(error(read("sub")).ends_with("sub` is not a file; name a file"));
}

#[cfg(unix)]
#[test]
fn onnx_links_may_lead_to_where_the_model_is_linked_from() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshot"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(dir.path().join("secret"), [0; 8]).unwrap();
    fs::write(blobs.join("1"), "").unwrap();
    fs::write(blobs.join("2"), [0; 8]).unwrap();
    symlink("../blobs/1", snapshot.join("m.onnx")).unwrap();
    symlink("../blobs/2", snapshot.join("w.bin")).unwrap();
    symlink("../secret", snapshot.join("s.bin")).unwrap();
    let read = |location: &str| {
        let tensor = external_tensor(&[2], &[("location", location)]);
        let file = with_initializer(tensor, &snapshot.join("m.onnx"));
        file.tensor(&file.graph().initializer[0])
    };
    assert_eq!(read("w.bin").unwrap().data.len(), 8);
    assert!(error(read("s.bin")).contains("outside of the model's folder"));
}

#[test]
fn onnx_external_ranges_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m.onnx");
    fs::write(&model, "").unwrap();
    fs::write(dir.path().join("w"), [0; 8]).unwrap();
    let read = |entries: &[(&str, &str)]| {
        let entries = [&[("location", "w")], entries].concat();
        let file = with_initializer(external_tensor(&[2], &entries), &model);
        error(file.tensor(&file.graph().initializer[0]))
    };
    const HINT: &str = "the data file may be truncated, or of another model: fetch it again";
    assert_eq!(
        read(&[("offset", "4")]),
        format!("tensor `w`: its data is at 4, 8 bytes long, but `w` has 8 bytes; {HINT}")
    );
    assert_eq!(
        read(&[("offset", "18446744073709551615")]),
        format!(
            "tensor `w`: its data is at 18446744073709551615, 8 bytes long, but `w` has 8 bytes; \
             {HINT}"
        )
    );
    assert_eq!(
        read(&[("length", "9")]),
        "tensor `w`: its shape asks for 8 bytes, its external data has 9"
    );
    assert_eq!(
        read(&[("offset", "-1")]),
        "tensor `w`: the `offset` of its external data is `-1`, not a number"
    );
}

#[test]
fn onnx_hostile_shapes_are_refused() {
    let read = |dims: &[i64], data_type| {
        let dims = dims.to_vec();
        let tensor = TensorProto { name: "w".to_owned(), dims, data_type, ..Default::default() };
        let file = with_initializer(tensor, Path::new("m.onnx"));
        error(file.tensor(&file.graph().initializer[0]))
    };
    assert_eq!(read(&[-1], 1), "tensor `w`: its shape is [-1]");
    assert_eq!(
        read(&[i64::MAX, i64::MAX], 1),
        "tensor `w`: the shape [9223372036854775807, 9223372036854775807] is too large"
    );
    assert_eq!(
        read(&[1 << 40], 1),
        "tensor `w`: a f32 tensor of shape [1099511627776] takes 4398046511104 bytes, found 0"
    );
    assert_eq!(read(&[1], 25), "tensor `w`: the element type UINT2 is not supported");
    assert_eq!(read(&[1], 99), "tensor `w`: the element type 99 is not supported");
}

#[test]
fn onnx_other_files_are_recognized() {
    let parse = |bytes: &[u8]| {
        error(OnnxFile::parse(Bytes::copy_from_slice(bytes), Path::new("m.onnx")).map(|_| ()))
    };
    assert_eq!(parse(b""), "`m.onnx` is empty, not an ONNX model; fetch or export it again");
    assert_eq!(
        parse(b"PK\x03\x04rest"),
        "`m.onnx` is a zip archive, not an ONNX model; \
         export the model to ONNX first"
    );
    assert_eq!(
        parse(b"version https://git-lfs.github.com/spec/v1\n"),
        "`m.onnx` is a git-lfs pointer, not an ONNX model; run `git lfs pull`"
    );
    assert_eq!(
        parse(b"<!DOCTYPE html>"),
        "`m.onnx` is a web page, not an ONNX model; \
         download the file itself, not the page that shows it"
    );
    assert_eq!(
        parse(&ModelProto { producer_name: "p".to_owned(), ..Default::default() }.encode_to_vec()),
        "`m.onnx`: not a valid ONNX model: it has no `ir_version`; \
         the file may be truncated: compare its size, or fetch it again"
    );
    let missing = OnnxFile::open(Path::new("missing.onnx")).unwrap_err();
    assert_eq!((missing.kind(), missing.remedy()), (ErrorKind::Io, Some("check the path")));
}

/// Opens, reads and rewrites: whatever the bytes are, without a panic.
fn exercise(bytes: Vec<u8>, path: &Path) -> Result<()> {
    let file = OnnxFile::parse(bytes.into(), path)?;
    super::file::visit_model(file.proto(), &mut |tensor| drop(file.tensor(tensor)));
    for edits in [Edits::default(), prune_mlp()] {
        for limit in [None, Some(20)] {
            let Ok(content) = rewrite(&file, &edits, "data", limit) else { continue };
            let mut out = Vec::new();
            for piece in content.model.pieces() {
                drop(save::write_piece(&file, piece, &mut out));
            }
        }
    }
    Ok(())
}

#[test]
fn onnx_truncated_files_are_refused_or_valid() {
    for name in INLINE.iter().chain(&["external"]) {
        let bytes = fs::read(fixture(name)).unwrap();
        let refused = (0..bytes.len())
            .filter(|&len| exercise(bytes[..len].to_vec(), &fixture(name)).is_err())
            .count();
        assert!(bytes.len() - refused < 50, "{name}: {refused} of {}", bytes.len());
    }
}

#[test]
fn onnx_corrupt_bytes_do_not_panic() {
    let bytes = fs::read(fixture("unknown")).unwrap();
    for at in 0..bytes.len() {
        for value in [0, 0x7f, 0xff, bytes[at] ^ 1, bytes[at] ^ 7] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            drop(exercise(bytes, &fixture("unknown")));
        }
    }
}

#[test]
fn onnx_models_past_two_gigabytes_are_streamed() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, columns) = (3_u32 << 10, 1_u32 << 18);
    let data = fs::File::create(dir.path().join("w.bin")).unwrap();
    data.set_len(u64::from(rows) * u64::from(columns) * 4).unwrap();
    let dims = [rows.into(), columns.into()];
    let tensor = external_tensor(&dims, &[("location", "w.bin")]);
    let path = dir.path().join("m.onnx");
    fs::write(&path, "").unwrap();
    let file = with_initializer(tensor, &path);
    let edit = TensorEdit::Keep(vec![Some(vec![7, 3000]), None]);
    let edits = Edits { tensors: [(TensorRef::Initializer(0), edit)].into(), ..Edits::default() };
    let (_dir, written) = saved(&file, &edits);
    let view = written.resolve(TensorRef::Initializer(0)).unwrap();
    assert_eq!((view.dims, view.data.len()), (vec![2, 1 << 18], 1 << 21));
    assert!(file.byte_size() > 3 << 30);
    let whole = rewrite(&file, &Edits::default(), "data", None).unwrap();
    assert_eq!(whole.data.payloads[0].1.len, 3 << 30);
}
