use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use super::*;

fn named(arrays: &[(&str, Array)]) -> Vec<(String, Array)> {
    arrays.iter().map(|(name, array)| ((*name).to_owned(), array.clone())).collect()
}

/// A `.npy` file as NumPy writes it.
fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let len = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], text.as_bytes(), data].concat()
}

fn read_one(bytes: Vec<u8>) -> Result<Array> {
    let files = Files::new();
    read_arrays(&files.write("a.npy", bytes)).map(|mut arrays| arrays.remove(0).1)
}

#[test]
fn written_arrays_are_read_back() {
    let files = Files::new();
    let arrays = named(&[
        ("x", Array::Float(vec![1.5, -2.0, 0.0, 3.25], vec![2, 2])),
        ("y", Array::Int(vec![i64::MIN, 7], vec![2])),
        ("mask", Array::Bool(vec![true, false], vec![2, 1])),
        ("scalar", Array::Float(vec![9.0], vec![])),
        ("empty", Array::Int(vec![], vec![0, 3])),
    ]);
    let path = files.path("a.npz");
    write_npz(&path, &arrays).unwrap();
    assert_eq!(read_arrays(&path).unwrap(), arrays);
    let bytes = fs::read(&path).unwrap();
    write_npz(&path, &arrays).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(files.0.path()).unwrap().count(), 1);
}

#[test]
fn arrays_are_not_written_in_part() {
    let files = Files::new();
    let path = files.write("a.npz", "old");
    let uneven = named(&[("x", Array::Bool(vec![true], vec![2]))]);
    check(
        &files.text(&write_npz(&path, &uneven).unwrap_err()),
        "Argument: array `x`: 1 elements do not fill the shape [2]\n-",
    );
    let x = Array::Int(vec![1], vec![1]);
    let twice = named(&[("x", x.clone()), ("x", x)]);
    check(
        &files.text(&write_npz(&path, &twice).unwrap_err()),
        "Argument: two arrays are named `x`\ngive each array its own name",
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    check(
        &files.text(&write_npz(&files.path("no/a.npz"), &[]).unwrap_err()),
        "Io: `no/a.npz`: No such file or directory (os error 2)\ncreate the folder first",
    );
}

#[test]
fn elements_of_all_types_are_read() {
    let int = |descr: &str, data: &[u8]| {
        ints(&read_one(npy(descr, "False", "(1,)", data)).unwrap()).to_vec()
    };
    assert_eq!(int("'|u1'", &[200]), [200]);
    assert_eq!(int("'|i1'", &[200]), [-56]);
    assert_eq!(int("'<u2'", &[1, 255]), [65281]);
    assert_eq!(int("'>u2'", &[1, 255]), [511]);
    assert_eq!(int("'<i2'", &[1, 255]), [-255]);
    assert_eq!(int("'<u4'", &[0, 0, 0, 255]), [4278190080]);
    assert_eq!(int("'>i4'", &[255, 255, 255, 254]), [-2]);
    assert_eq!(int("'<i8'", &(-5_i64).to_le_bytes()), [-5]);
    assert_eq!(int("'<u8'", &5_u64.to_le_bytes()), [5]);
    let float = |descr: &str, data: &[u8]| {
        floats(&read_one(npy(descr, "False", "(1,)", data)).unwrap()).to_vec()
    };
    assert_eq!(float("'<f2'", &[0, 0x3e]), [1.5]);
    assert_eq!(float("'>f4'", &1.5_f32.to_be_bytes()), [1.5]);
    assert_eq!(float("'<f8'", &1.5_f64.to_le_bytes()), [1.5]);
    let bools = read_one(npy("'|b1'", "False", "(2,)", &[0, 1])).unwrap();
    assert_eq!(bools, Array::Bool(vec![false, true], vec![2]));
}

#[test]
fn column_major_arrays_become_row_major() {
    let array = read_one(npy("'|u1'", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6])).unwrap();
    assert_eq!(array, Array::Int(vec![1, 2, 3, 4, 5, 6], vec![2, 3]));
}

#[test]
fn broken_arrays_are_errors() {
    let text = |bytes| Files::new().text(&read_one(bytes).unwrap_err());
    let text = |bytes| {
        let text: String = text(bytes);
        text.split_once("a.npy").unwrap().1.to_owned()
    };
    check(
        &text(npy("'<f4'", "False", "(2, 3)", &[0; 23])),
        "`: 23 bytes of data, but [2, 3] needs 24\nthe file is cut off or damaged: get it again",
    );
    check(
        &text(npy("'<f4'", "False", "(1000000, 1000000)", &[0; 4])),
        "`: 4 bytes of data, but [1000000, 1000000] needs 4000000000000\n\
         the file is cut off or damaged: get it again",
    );
    check(
        &text(npy("'<f4'", "False", "(10000000000, 10000000000)", &[])),
        "`: the shape [10000000000, 10000000000] is too large\n-",
    );
    check(
        &text(npy("'<U5'", "False", "(1,)", &[0; 20])),
        "`: elements of type `<U5`\nconvert the array with `astype` to numbers or truth values",
    );
    check(
        &text(npy("[('a', '<f4')]", "False", "(1,)", &[0; 4])),
        "`: elements of type `[('a', '<f4')]`\n\
         convert the array with `astype` to numbers or truth values",
    );
    check(
        &text(npy("'<f4'", "Maybe", "(1,)", &[0; 4])),
        "`: the header `{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,), }` is not valid\n-",
    );
    check(
        &text(b"\x93NUMPY\x09\x00".to_vec()),
        "`: it does not start as an array of NumPy does\nwrite it with `numpy.save`",
    );
    check(
        &text(npy("'<u8'", "False", "(1,)", &[255; 8])),
        "`, array `a`: the integer 18446744073709551615 does not fit in 64 bits with a sign\n-",
    );
}

#[test]
fn broken_archives_are_errors() {
    let files = Files::new();
    let path = files.write("a.npz", "PK\x03\x04and no more");
    let text = files.text(&read_arrays(&path).unwrap_err());
    assert!(text.starts_with("Malformed: `a.npz`: not a readable archive: "), "{text}");
    assert!(text.ends_with("write it with `numpy.savez` or `numpy.savez_compressed`"), "{text}");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    zip.start_file("notes.txt", zip::write::SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    check(
        &files.text(&read_arrays(&path).unwrap_err()),
        "Malformed: `a.npz`: `notes.txt` in it is not a `.npy` file\nwrite it with `numpy.savez`",
    );
    write_npz(&path, &named(&[("x", Array::Int(vec![1], vec![1]))])).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|word| word == 1_i64.to_le_bytes()).unwrap();
    bytes[at] = 2;
    fs::write(&path, bytes).unwrap();
    check(
        &files.text(&read_arrays(&path).unwrap_err()),
        "Malformed: `a.npz`, array `x`: the data cannot be read: Invalid checksum\n\
         the file is cut off or damaged: get it again",
    );
    let text = files.write("a.csv", "1,2");
    check(
        &files.text(&read_arrays(&text).unwrap_err()),
        "Unsupported: `a.csv`: not a file of named arrays\n\
         give a `.npz`, `.npy` or `.safetensors` file",
    );
}

#[test]
fn safetensors_are_read_in_the_order_of_their_names() {
    let files = Files::new();
    let path = files.path("a.safetensors");
    let data = [1.0_f32, 2.0].map(f32::to_le_bytes).concat();
    let view = |dtype, shape: &[usize], len| {
        TensorView::new(dtype, shape.to_vec(), data.get(..len).unwrap()).unwrap()
    };
    let tensors = [("z", view(Dtype::BF16, &[1], 2)), ("b", view(Dtype::F32, &[2], 8))];
    serialize_to_file(tensors, None, &path).unwrap();
    let expected = named(&[
        ("b", Array::Float(vec![1.0, 2.0], vec![2])),
        ("z", Array::Float(vec![0.0], vec![1])),
    ]);
    assert_eq!(read_arrays(&path).unwrap(), expected);
    serialize_to_file([("f", view(Dtype::F8_E4M3, &[2], 2))], None, &path).unwrap();
    check(
        &files.text(&read_arrays(&path).unwrap_err()),
        "Unsupported: `a.safetensors`: `f` has elements of type F8_E4M3\n\
         save it with elements of type F32",
    );
    files.write("a.safetensors", "\x08\0\0\0\0\0\0\0{}");
    check(
        &files.text(&read_arrays(&path).unwrap_err()),
        "Malformed: `a.safetensors`: not a valid safetensors file: invalid header length\n\
         the file is cut off or damaged: get it again",
    );
}

fn write(files: &Files, arrays: &[(&str, Array)]) -> PathBuf {
    let path = files.path("a.npz");
    write_npz(&path, &named(arrays)).unwrap();
    path
}

#[test]
fn arrays_are_inputs_and_targets_by_name() {
    let files = Files::new();
    let (ids, mask) = (Array::Int(vec![1, 2], vec![2, 1]), Array::Bool(vec![true; 2], vec![2]));
    let y = Array::Int(vec![0, 2], vec![2]);
    let path = write(&files, &[("mask", mask.clone()), ("y", y.clone()), ("ids", ids.clone())]);
    let dataset = open(&path, &DataOptions::default()).unwrap();
    assert_eq!(dataset.classes(), Some(3));
    let batch = Batch { inputs: vec![mask.clone(), ids.clone()], target: Some(y.clone()) };
    assert_eq!(whole(&dataset), batch);

    let inputs = vec!["ids".into(), "mask".into()];
    let dataset = open(&path, &DataOptions { inputs, ..DataOptions::default() }).unwrap();
    assert_eq!(whole(&dataset).inputs, [ids, mask]);

    let targets = Targets::Numbers;
    let dataset = open(&path, &DataOptions { targets, ..DataOptions::default() }).unwrap();
    assert_eq!(dataset.classes(), None);
    assert_eq!(whole(&dataset).target, Some(Array::Float(vec![0.0, 2.0], vec![2])));
    let batch = dataset.batch(&[1, 1, 0], None).unwrap();
    assert_eq!(floats(&batch.target.unwrap()), [2.0, 2.0, 0.0]);
    check(
        &files.text(&dataset.batch(&[0, 2], None).unwrap_err()),
        "Argument: no sample 2: there are 2\ngive indices below the number of samples",
    );
}

#[test]
fn a_single_array_is_the_input_under_any_name() {
    let files = Files::new();
    let path = files.write("photos.npy", npy("'|u1'", "False", "(2, 1)", &[3, 4]));
    for inputs in [vec![], vec!["pixels".to_owned()]] {
        let dataset = open(&path, &DataOptions { inputs, ..DataOptions::default() }).unwrap();
        let inputs = vec![Array::Int(vec![3, 4], vec![2, 1])];
        assert_eq!(whole(&dataset), Batch { inputs, target: None });
    }
}

#[test]
fn contradictions_between_arrays_are_errors() {
    let files = Files::new();
    let x = |count: usize| ("x", Array::Float(vec![0.0; count], vec![count]));
    let y = |labels: &[i64]| ("y", Array::Int(labels.to_vec(), vec![labels.len()]));
    let options = DataOptions::default();
    let error = |arrays: &[(&str, Array)], options: &DataOptions| {
        files.open_error(&write(&files, arrays), options)
    };
    check(
        &error(&[x(2), y(&[0])], &options),
        "Argument: `a.npz`: `x` has 2 samples, `y` has the shape [1]\n\
         give arrays of as many samples each",
    );
    check(
        &error(&[("x", Array::Float(vec![], vec![1 << 60, 0]))], &options),
        "Argument: `a.npz`: no samples in `x` of shape [1152921504606846976, 0]\n\
         give arrays whose first axis is that of the samples",
    );
    check(
        &error(&[y(&[0])], &options),
        "Argument: `a.npz`: no arrays that a model could read\n\
         save what the model reads as the array `x`",
    );
    check(
        &error(&[x(3), y(&[0, 1, -1])], &options),
        "Argument: `a.npz`, array `y`: sample 2 has the label -1, which is not in 0..16777216\n\
         number the classes from 0, or set `targets` to numbers",
    );
    let declared = DataOptions { classes: Some(2), ..DataOptions::default() };
    check(
        &error(&[x(2), y(&[2, 1])], &declared),
        "Argument: `a.npz`, array `y`: sample 0 has the label 2, which is not in 0..2\n\
         correct the label, or set `classes` to the number of classes",
    );
    let inputs = DataOptions { inputs: vec!["image".into()], ..DataOptions::default() };
    check(
        &error(&[x(1)], &inputs),
        "Argument: `a.npz`: no array `image`, but `x`\n\
         name the arrays after the model's inputs, and the targets `y`",
    );
    let classes = DataOptions { targets: Targets::Classes, ..DataOptions::default() };
    check(
        &error(&[x(1), ("y", Array::Float(vec![0.0], vec![1]))], &classes),
        "Argument: `a.npz`, array `y`: real numbers are no class indices\n\
         save the targets as integers",
    );
}

#[test]
fn numbers_that_are_not_finite_are_found_in_their_batch() {
    let files = Files::new();
    let x = Array::Float(vec![0.0, 1.0, 2.0, f32::NAN], vec![2, 2]);
    let path = write(&files, &[("x", x)]);
    check(
        &files.batch_error(&path, &DataOptions::default()),
        "Malformed: `a.npz`, array `x`: sample 1 has the value NaN in 32 bits\n\
         remove the sample, or give it finite values",
    );
    assert!(open(&path, &DataOptions::default()).unwrap().batch(&[0], None).is_ok());
    let path = files.write("b.npy", npy("'<f8'", "False", "(1,)", &1e300_f64.to_le_bytes()));
    check(
        &files.batch_error(&path, &DataOptions::default()),
        "Malformed: `b.npy`, array `x`: sample 0 has the value inf in 32 bits\n\
         remove the sample, or give it finite values",
    );
}
