use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba};

use super::*;

fn solid(color: [u8; 3], (width, height): (u32, u32)) -> DynamicImage {
    RgbImage::from_pixel(width, height, Rgb(color)).into()
}

impl Files {
    fn image(&self, name: &str, image: &DynamicImage) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    }
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let files = Files::new();
    files.image("b/1.png", &solid([255, 0, 51], (2, 1)));
    files.image("a/2.PNG", &solid([0, 255, 0], (2, 1)));
    files.image("a/deep/1.jpg", &solid([255, 255, 255], (2, 1)));
    files.write("a/notes.md", "");
    files.write("a/.hidden.png", "");
    let dataset = open(files.0.path(), &DataOptions::default()).unwrap();
    assert_eq!((dataset.len(), dataset.classes()), (3, Some(2)));
    assert_eq!(dataset.class_names().unwrap(), ["a", "b"]);
    let batch = whole(&dataset);
    assert_eq!(ints(&batch.target.unwrap()), [0, 0, 1]);
    assert_eq!(batch.inputs[0].shape(), [3, 3, 1, 2]);
    assert_eq!(&floats(&batch.inputs[0])[12..], [1.0, 1.0, 0.0, 0.0, 0.2, 0.2]);
}

#[test]
fn folders_of_parts_are_chosen_from() {
    let files = Files::new();
    files.image("train/cat/1.png", &solid([0; 3], (1, 1)));
    files.image("val/cat/1.png", &solid([255; 3], (1, 1)));
    let pixel = |part| {
        let dataset = open(files.0.path(), &DataOptions { part, ..DataOptions::default() });
        floats(&whole(&dataset.unwrap()).inputs[0])[0]
    };
    assert_eq!((pixel(Part::Train), pixel(Part::Test)), (0.0, 1.0));
    fs::remove_dir_all(files.path("val")).unwrap();
    let test = DataOptions { part: Part::Test, ..DataOptions::default() };
    check(
        &files.open_error(files.0.path(), &test),
        "Argument: `.`: no folder `test` or `val` or `valid` or `validation`\n\
         name the folder that holds those of the classes",
    );
}

#[test]
fn images_without_classes_have_no_targets() {
    let files = Files::new();
    files.image("1.png", &solid([0; 3], (1, 1)));
    let dataset = open(files.0.path(), &DataOptions::default()).unwrap();
    assert_eq!((dataset.classes(), whole(&dataset).target), (None, None));
}

#[test]
fn all_kinds_of_pixels_become_gray_or_rgb() {
    let files = Files::new();
    files.image("1.png", &solid([255, 0, 0], (1, 1)));
    files.image("2.png", &GrayImage::from_pixel(1, 1, Luma([77])).into());
    let deep = ImageBuffer::from_pixel(1, 1, Luma([65535_u16]));
    files.image("3.png", &DynamicImage::ImageLuma16(deep));
    let clear = ImageBuffer::from_pixel(1, 1, Rgba([10_u8, 10, 10, 0]));
    files.image("4.png", &DynamicImage::ImageRgba8(clear));
    let pixels = |channels| {
        let images = ImageOptions { channels: Some(channels), ..ImageOptions::default() };
        let dataset = open(files.0.path(), &DataOptions { images, ..DataOptions::default() });
        let batch = whole(&dataset.unwrap());
        floats(&batch.inputs[0])
            .iter()
            .map(|value| (value * 255.0).round() as u8)
            .collect::<Vec<_>>()
    };
    assert_eq!(pixels(Channels::Gray), [76, 77, 255, 10]);
    assert_eq!(pixels(Channels::Rgb), [255, 0, 0, 77, 77, 77, 255, 255, 255, 10, 10, 10]);
}

#[test]
fn the_shortest_side_is_resized_before_the_crop() {
    let files = Files::new();
    files.image("wide.png", &solid([9; 3], (30, 10)));
    files.image("high.png", &solid([9; 3], (10, 17)));
    let images = ImageOptions { resize: Some(5), crop: Some((5, 4)), ..ImageOptions::default() };
    let dataset = open(files.0.path(), &DataOptions { images, ..DataOptions::default() }).unwrap();
    assert_eq!(whole(&dataset).inputs[0].shape(), [2, 3, 5, 4]);
    let images = ImageOptions { resize: Some(5), ..ImageOptions::default() };
    let dataset = open(files.0.path(), &DataOptions { images, ..DataOptions::default() }).unwrap();
    assert_eq!(dataset.batch(&[0], None).unwrap().inputs[0].shape(), [1, 3, 8, 5]);
    assert_eq!(dataset.batch(&[1], None).unwrap().inputs[0].shape(), [1, 3, 5, 15]);
}

#[test]
fn bad_folders_are_errors() {
    let files = Files::new();
    let options = DataOptions::default();
    files.image("a/1.png", &solid([0; 3], (2, 3)));
    files.image("b/1.png", &solid([0; 3], (2, 2)));
    check(
        &files.batch_error(files.0.path(), &options),
        "Argument: `b/1.png` has the shape [3, 2, 2], `a/1.png` has [3, 3, 2]\n\
         set `resize` and `crop`, so that all images become the same size",
    );
    check(
        &files.open_error(files.0.path(), &DataOptions { classes: Some(1), ..options.clone() }),
        "Argument: `.`: sample 1 has the label 1, which is not in 0..1\n\
         correct the label, or set `classes` to the number of classes",
    );
    files.write("b/1.png", "not an image");
    let text = files.batch_error(files.0.path(), &options);
    assert!(text.starts_with("Malformed: `b/1.png`: not a readable image: "), "{text}");
    assert!(text.ends_with("\nremove the file, or save it again as PNG or JPEG"), "{text}");
    files.image("c.png", &solid([0; 3], (2, 2)));
    check(
        &files.open_error(files.0.path(), &options),
        "Argument: `.`: `c.png` is in no folder of a class\n\
         move each image into the folder of its class",
    );
    fs::remove_file(files.path("c.png")).unwrap();
    files.write("b/2.webp", "");
    check(
        &files.open_error(files.0.path(), &options),
        "Unsupported: `b/2.webp`: images of type `webp`\nsave it as PNG or JPEG",
    );
    fs::remove_file(files.path("b/2.webp")).unwrap();
    files.write("c/notes.md", "");
    check(
        &files.open_error(files.0.path(), &options),
        "Malformed: `c`: no PNG or JPEG files in this folder\n\
         put images into the folder, or remove it",
    );
}

#[test]
fn a_thin_image_is_not_made_huge() {
    let files = Files::new();
    files.image("1.png", &solid([0; 3], (60_000, 1)));
    let images = ImageOptions { resize: Some(1024), ..ImageOptions::default() };
    check(
        &files.batch_error(files.0.path(), &DataOptions { images, ..DataOptions::default() }),
        "Unsupported: `1.png`: resizing 1 x 60000 pixels to 1024 x 61440000\n\
         set `resize` to a smaller size, or remove the image",
    );
}
