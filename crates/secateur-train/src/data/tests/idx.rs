use std::io::Write;

use super::*;

fn bytes(code: u8, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
    [&[0, 0, code, (sizes.len() / 4) as u8], &sizes[..], data].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Two images of 2 x 3 pixels.
fn images() -> Vec<u8> {
    bytes(8, &[2, 2, 3], &[0, 51, 102, 153, 204, 255, 1, 2, 3, 4, 5, 6])
}

fn labels(labels: &[u8]) -> Vec<u8> {
    bytes(8, &[labels.len() as u32], labels)
}

#[test]
fn a_folder_gives_the_part_that_is_asked_for() {
    let files = Files::new();
    files.write("train-images-idx3-ubyte.gz", gzip(&images()));
    files.write("train-labels-idx1-ubyte.gz", gzip(&labels(&[3, 1])));
    files.write("t10k-images-idx3-ubyte", bytes(8, &[1, 1, 1], &[255]));
    files.write("t10k-labels-idx1-ubyte", labels(&[2]));
    let train = open(files.0.path(), &DataOptions::default()).unwrap();
    assert_eq!((train.len(), train.classes()), (2, Some(4)));
    let batch = train.batch(&[0], None).unwrap();
    let pixels = vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    assert_eq!(batch.inputs, [Array::Float(pixels, vec![1, 1, 2, 3])]);
    assert_eq!(batch.target, Some(Array::Int(vec![3], vec![1])));
    let options = DataOptions { part: Part::Test, ..DataOptions::default() };
    let test = open(files.0.path(), &options).unwrap();
    assert_eq!(floats(&whole(&test).inputs[0]), [1.0]);
}

#[test]
fn a_file_of_images_finds_its_labels() {
    let files = Files::new();
    let path = files.write("my-images.idx3", images());
    let dataset = open(&path, &DataOptions::default()).unwrap();
    assert_eq!((whole(&dataset).target, dataset.classes()), (None, None));
    files.write("my-labels.idx1.gz", gzip(&labels(&[0, 1])));
    let dataset = open(&path, &DataOptions::default()).unwrap();
    assert_eq!(ints(&whole(&dataset).target.unwrap()), [0, 1]);
    let labels = Some(files.write("other", bytes(0x0c, &[2], &[0, 0, 0, 5, 0, 0, 1, 0])));
    let dataset = open(&path, &DataOptions { labels, ..DataOptions::default() }).unwrap();
    assert_eq!(ints(&whole(&dataset).target.unwrap()), [5, 256]);
}

#[test]
fn images_are_normalized_and_get_channels() {
    let files = Files::new();
    let path = files.write("images-idx3", images());
    let images = ImageOptions {
        channels: Some(Channels::Rgb),
        mean: vec![0.5, 0.0, 1.0],
        std: vec![0.5],
        crop: Some((1, 1)),
        ..ImageOptions::default()
    };
    let dataset = open(&path, &DataOptions { images, ..DataOptions::default() }).unwrap();
    let batch = dataset.batch(&[0], None).unwrap();
    assert_eq!(batch.inputs, [Array::Float(vec![-0.6, 0.4, -1.6], vec![1, 3, 1, 1])]);
}

#[test]
fn augmentation_shifts_and_mirrors_by_seed_and_index() {
    let files = Files::new();
    let path = files.write("images-idx3", bytes(8, &[64, 1, 3], &[10, 20, 30].repeat(64)));
    let images = ImageOptions { padding: 1, flip: Flip::Horizontal, ..ImageOptions::default() };
    let dataset = open(&path, &DataOptions { images, ..DataOptions::default() }).unwrap();
    let indices: Vec<_> = (0..64).collect();
    let rows = |seed| {
        let batch = dataset.batch(&indices, seed).unwrap();
        let rows = floats(&batch.inputs[0]).as_chunks::<3>().0.to_vec();
        rows.into_iter()
            .map(|row| row.map(|value| (value * 255.0).round() as u8))
            .collect::<Vec<_>>()
    };
    assert!(rows(None).iter().all(|row| *row == [10, 20, 30]));
    let found: std::collections::BTreeSet<_> = rows(Some(1)).into_iter().collect();
    let (shifted, mirrored) =
        ([[0, 10, 20], [10, 20, 30], [20, 30, 0]], [[20, 10, 0], [30, 20, 10], [0, 30, 20]]);
    let expected = [shifted, mirrored].concat().into_iter().chain([[0; 3]]).collect();
    assert_eq!(found, expected);
    assert_eq!(rows(Some(1)), rows(Some(1)));
    assert_ne!(rows(Some(1)), rows(Some(2)));
    let alone = dataset.batch(&[40], Some(1)).unwrap();
    let among = dataset.batch(&[3, 40], Some(1)).unwrap();
    assert_eq!(floats(&alone.inputs[0]), &floats(&among.inputs[0])[3..]);
}

#[test]
fn broken_files_are_errors() {
    let files = Files::new();
    let error = |bytes: &[u8]| {
        files.open_error(&files.write("images-idx3", bytes), &DataOptions::default())
    };
    let whole = images();
    check(
        &error(&whole[..20]),
        "Malformed: `images-idx3`: 4 bytes of data, but [2, 2, 3] needs 12\n\
         the file is cut off or damaged: get it again",
    );
    check(
        &error(&[&whole[..], &[0]].concat()),
        "Malformed: `images-idx3`: 13 bytes of data, but [2, 2, 3] needs 12\n\
         the file is cut off or damaged: get it again",
    );
    check(
        &error(&bytes(8, &[u32::MAX, u32::MAX, 1], &[])),
        "Malformed: `images-idx3`: the shape [4294967295, 4294967295, 1] is too large\n-",
    );
    check(
        &error(&bytes(8, &[0, 28, 28], &[])),
        "Malformed: `images-idx3`: no images\nget the file again",
    );
    check(
        &error(&labels(&[1])),
        "Unsupported: `images-idx3`: elements of type U8 in the shape [1]\n\
         name the file of images, which has bytes in three dimensions",
    );
    check(
        &error(&gzip(b"hello")),
        "Malformed: `images-idx3`: it does not start as an IDX file does\n\
         give a file of the MNIST family",
    );
    let zipped = gzip(&whole);
    let text = error(&zipped[..zipped.len() - 9]);
    assert!(text.starts_with("Malformed: `images-idx3`: the data cannot be read: "), "{text}");
}

#[test]
fn contradictions_between_files_are_errors() {
    let files = Files::new();
    let path = files.write("train-images-idx3-ubyte", images());
    let options = DataOptions::default();
    files.write("train-labels-idx1-ubyte", labels(&[1, 2, 3]));
    check(
        &files.open_error(&path, &options),
        "Argument: `train-labels-idx1-ubyte`: 2 samples, but 3 targets\n\
         give samples and targets of the same data set and part",
    );
    files.write("train-labels-idx1-ubyte", labels(&[1, 2]));
    check(
        &files.open_error(&path, &DataOptions { classes: Some(2), ..options.clone() }),
        "Argument: `train-labels-idx1-ubyte`: sample 1 has the label 2, which is not in 0..2\n\
         correct the label, or set `classes` to the number of classes",
    );
    files.write("train-labels-idx1-ubyte", images());
    check(
        &files.open_error(&path, &options),
        "Unsupported: `train-labels-idx1-ubyte`: integers in the shape [2, 2, 3] as labels\n\
         name the file of labels, which has integers in one dimension",
    );
    let test = DataOptions { part: Part::Test, ..options.clone() };
    check(
        &files.open_error(files.0.path(), &test),
        "Argument: `.`: no file of images of the test part\n\
         name the file of images, or choose the other `part`",
    );
    files.write("letters-train-images-idx3-ubyte", images());
    check(
        &files.open_error(files.0.path(), &options),
        "Argument: `.`: both `letters-train-images-idx3-ubyte` and `train-images-idx3-ubyte`\n\
         name the file of images instead of the folder",
    );
}

#[test]
fn wrong_options_are_errors() {
    let files = Files::new();
    let path = files.write("images-idx3", images());
    let error = |images| {
        let options = DataOptions { images, ..DataOptions::default() };
        match open(&path, &options) {
            Ok(_) => files.batch_error(&path, &options),
            Err(error) => files.text(&error),
        }
    };
    let none = ImageOptions::default;
    check(
        &error(ImageOptions { crop: Some((3, 3)), ..none() }),
        "Argument: `images-idx3`, sample 0: 2 x 3 pixels are fewer than the crop of 3 x 3\n\
         set `resize` to at least the size of the crop, or crop less",
    );
    check(
        &error(ImageOptions { resize: Some(0), ..none() }),
        "Argument: `resize` has the size 0\nset `resize` to a size in 1..=16384",
    );
    check(
        &error(ImageOptions { mean: vec![0.5; 3], ..none() }),
        "Argument: `mean` has 3 values for 1 channels\n\
         give `mean` one value, or one for each channel",
    );
    check(
        &error(ImageOptions { std: vec![0.0], ..none() }),
        "Argument: `std` has the value 0\n\
         give the statistics of pixels in 0..1, such as a `std` of 0.5",
    );
}
