//! The IDX format of the MNIST family (<http://yann.lecun.com/exdb/mnist>), plain or compressed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use secateur::Result;

use super::file::{argument, failed, malformed, start, unsupported, up_to};
use super::labels::{check_counts, count_classes};
use super::options::Channels;
use super::pixels::{Pixels, prepare};
use super::raw::{ByteOrder, Element, RawArray, byte_len};
use super::{Array, Batch, DataOptions, Dataset, ImageOptions, Part, check_indices};

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Images of 8 bits in memory, with a label each.
#[derive(Debug)]
pub(crate) struct IdxDataset {
    path: PathBuf,
    images: RawArray,
    /// As many as images.
    labels: Option<Vec<i64>>,
    classes: Option<usize>,
    channels: Channels,
    options: ImageOptions,
}

/// Opens a file of images, or the files of one part in a folder.
pub(crate) fn open(path: &Path, options: &DataOptions) -> Result<IdxDataset> {
    let path = if path.is_dir() { images_in(path, options.part)? } else { path.to_owned() };
    let images = read_images(&path)?;
    let channels = options.images.channels.unwrap_or(Channels::Gray);
    options.images.check(channels)?;
    let labels = match options.labels.clone().or_else(|| labels_beside(&path)) {
        Some(labels) => Some((read_labels(&labels)?, labels)),
        None => None,
    };
    let mut dataset = IdxDataset {
        path,
        images,
        labels: None,
        classes: None,
        channels,
        options: options.images.clone(),
    };
    if let Some((labels, path)) = labels {
        let place = format!("`{}`", path.display());
        let checked = check_counts(dataset.len(), labels.len())
            .and_then(|()| count_classes(&labels, labels.len(), options.classes));
        dataset.classes = Some(checked.map_err(|error| error.at(place))?);
        dataset.labels = Some(labels);
    }
    Ok(dataset)
}

impl Dataset for IdxDataset {
    fn len(&self) -> usize {
        self.images.samples()
    }

    fn batch(&self, indices: &[usize], augment: Option<u64>) -> Result<Batch> {
        check_indices(indices, self.len())?;
        let name = |index| format!("`{}`, sample {index}", self.path.display());
        let read = |index| Ok(self.pixels(index));
        let images = prepare(indices, &self.options, augment, read, name)?;
        let labels = self.labels.as_ref().map(|labels| {
            let labels = indices.iter().filter_map(|&index| labels.get(index).copied());
            Array::Int(labels.collect(), vec![indices.len()])
        });
        Ok(Batch { inputs: vec![images], target: labels })
    }

    fn classes(&self) -> Option<usize> {
        self.classes
    }
}

impl IdxDataset {
    fn pixels(&self, index: usize) -> Pixels {
        let [height, width] = match *self.images.shape() {
            [_, height, width] => [height, width],
            _ => [0, 0],
        };
        let values = self.images.row(index).to_vec();
        Pixels { height, width, channels: Channels::Gray, values }.into_channels(self.channels)
    }
}

/// Whether a folder holds files of the MNIST family.
pub(crate) fn is_in(folder: &Path) -> Result<bool> {
    Ok(file_names(folder)?.iter().any(|name| is_images(name)))
}

fn is_images(name: &str) -> bool {
    name.contains("images") && name.contains("idx3")
}

fn images_in(folder: &Path, part: Part) -> Result<PathBuf> {
    let (word, marks): (_, &[&str]) = match part {
        Part::Train => ("train", &["train"]),
        Part::Test => ("test", &["t10k", "test"]),
    };
    let mut names = file_names(folder)?;
    names.retain(|name| is_images(name) && marks.iter().any(|mark| name.contains(mark)));
    names.sort();
    // A plain file comes before its compressed form, which is left out.
    names.dedup_by(|later, earlier| later.strip_suffix(".gz") == Some(earlier));
    match names.as_slice() {
        [name] => Ok(folder.join(name)),
        [] => Err(argument(folder, format!("no file of images of the {word} part"))
            .hint("name the file of images, or choose the other `part`")),
        [first, second, ..] => Err(argument(folder, format!("both `{first}` and `{second}`"))
            .hint("name the file of images instead of the folder")),
    }
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let entries = folder.read_dir().map_err(|source| failed(folder, source))?;
    let names = entries.map(|entry| {
        let entry = entry.map_err(|source| failed(folder, source))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    });
    names.collect()
}

/// The file of labels that belongs to a file of images by its name.
fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    let plain = labels.strip_suffix(".gz").unwrap_or(&labels);
    let candidates =
        [plain.to_owned(), format!("{plain}.gz")].map(|name| images.with_file_name(name));
    candidates.into_iter().find(|path| path != images && path.is_file())
}

fn read_images(path: &Path) -> Result<RawArray> {
    let images = read(path)?;
    match (images.element(), images.shape()) {
        (Element::U8, [count, height, width]) if *count > 0 && *height > 0 && *width > 0 => {
            Ok(images)
        }
        (Element::U8, [_, _, _]) => Err(malformed(path, "no images").hint("get the file again")),
        (element, shape) => {
            Err(unsupported(path, format!("elements of type {element:?} in the shape {shape:?}"))
                .hint("name the file of images, which has bytes in three dimensions"))
        }
    }
}

fn read_labels(path: &Path) -> Result<Vec<i64>> {
    let labels = read(path)?;
    match (labels.shape(), labels.all()?) {
        ([_], Array::Int(values, _)) => Ok(values),
        (shape, array) => {
            Err(unsupported(path, format!("{} in the shape {shape:?} as labels", array.sort()))
                .hint("name the file of labels, which has integers in one dimension"))
        }
    }
}

/// Reads an IDX file.
pub(crate) fn read(path: &Path) -> Result<RawArray> {
    let mark = start(path)?;
    let file = File::open(path).map_err(|source| failed(path, source))?;
    let file = BufReader::new(file);
    if mark.starts_with(&GZIP) { parse(path, MultiGzDecoder::new(file)) } else { parse(path, file) }
}

/// Whether a file starts as an IDX file does.
pub(crate) fn is_idx(mark: &[u8]) -> bool {
    mark.starts_with(&GZIP) || matches!(mark, [0, 0, code, 1..=8] if element(*code).is_some())
}

fn parse(path: &Path, mut source: impl Read) -> Result<RawArray> {
    let mut take = |count: u64| {
        up_to(&mut source, count).map_err(|error| {
            malformed(path, format!("the data cannot be read: {error}"))
                .hint("the file is cut off or damaged: get it again")
        })
    };
    let mark = take(4)?;
    let (element, rank) = match mark.as_slice() {
        [0, 0, code, rank] => (element(*code), u64::from(*rank)),
        _ => (None, 0),
    };
    let element = element.ok_or_else(|| {
        malformed(path, "it does not start as an IDX file does")
            .hint("give a file of the MNIST family")
    })?;
    let sizes = take(4 * rank)?;
    let sizes = sizes.as_chunks::<4>().0.iter().map(|size| u32::from_be_bytes(*size) as usize);
    let shape: Vec<usize> = sizes.collect();
    let place = |error: secateur::Error| error.at(format!("`{}`", path.display()));
    let expected = byte_len(element, &shape).map_err(place)?;
    let data = take(expected.saturating_add(1))?;
    RawArray::new(element, ByteOrder::Big, shape, data.into()).map_err(place)
}

fn element(code: u8) -> Option<Element> {
    Some(match code {
        0x08 => Element::U8,
        0x09 => Element::I8,
        0x0b => Element::I16,
        0x0c => Element::I32,
        0x0d => Element::F32,
        0x0e => Element::F64,
        _ => return None,
    })
}
