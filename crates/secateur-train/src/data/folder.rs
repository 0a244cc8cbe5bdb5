//! Folders of PNG and JPEG files, which are decoded when a batch needs them.

use std::fs;
use std::path::{Path, PathBuf};

use image::ImageReader;
use secateur::{Error, Result};

use super::file::{argument, failed, malformed, unsupported};
use super::labels::count_classes;
use super::options::Channels;
use super::pixels::{Pixels, prepare};
use super::{Array, Batch, DataOptions, Dataset, ImageOptions, Part, check_indices};

const READ: [&str; 3] = ["png", "jpg", "jpeg"];
/// Images that would be missed if they were passed over in silence.
const NOT_READ: [&str; 9] = ["avif", "bmp", "gif", "heic", "jp2", "ppm", "tif", "tiff", "webp"];
const TRAIN: [&str; 1] = ["train"];
const TEST: [&str; 4] = ["test", "val", "valid", "validation"];

/// Image files with their classes.
#[derive(Debug)]
pub(crate) struct FolderDataset {
    files: Vec<PathBuf>,
    /// As many as files; none where no folder names a class.
    labels: Option<Vec<i64>>,
    classes: Vec<String>,
    count: usize,
    channels: Channels,
    options: ImageOptions,
}

/// Whether a folder holds images or folders.
pub(crate) fn has_images(folder: &Path) -> Result<bool> {
    let entries = Entries::read(folder)?;
    Ok(!entries.folders.is_empty() || !entries.images.is_empty())
}

/// Opens a folder of images, with a folder for each class or without classes.
pub(crate) fn open(path: &Path, options: &DataOptions) -> Result<FolderDataset> {
    let channels = options.images.channels.unwrap_or(Channels::Rgb);
    options.images.check(channels)?;
    let (root, entries) = part_of(path, options.part)?;
    let mut dataset = FolderDataset {
        files: Vec::new(),
        labels: None,
        classes: Vec::new(),
        count: 0,
        channels,
        options: options.images.clone(),
    };
    if entries.folders.is_empty() {
        dataset.files = entries.images;
    } else {
        check_stray(&root, &entries)?;
        dataset.add_classes(&entries.folders)?;
        let labels = dataset.labels.as_deref().unwrap_or_default();
        dataset.count = count_classes(labels, labels.len(), options.classes)
            .map_err(|error| error.at(format!("`{}`", root.display())))?;
    }
    if dataset.files.is_empty() {
        return Err(no_images(&root));
    }
    Ok(dataset)
}

impl Dataset for FolderDataset {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn batch(&self, indices: &[usize], augment: Option<u64>) -> Result<Batch> {
        check_indices(indices, self.len())?;
        let path = |index: usize| self.files.get(index).map_or(Path::new(""), PathBuf::as_path);
        let name = |index| format!("`{}`", path(index).display());
        let read = |index| decode(path(index), self.channels);
        let images = prepare(indices, &self.options, augment, read, name)?;
        let labels = self.labels.as_ref().map(|labels| {
            let labels = indices.iter().filter_map(|&index| labels.get(index).copied());
            Array::Int(labels.collect(), vec![indices.len()])
        });
        Ok(Batch { inputs: vec![images], target: labels })
    }

    fn classes(&self) -> Option<usize> {
        self.labels.as_ref().map(|_| self.count)
    }

    fn class_names(&self) -> Option<&[String]> {
        self.labels.as_ref().map(|_| self.classes.as_slice())
    }
}

impl FolderDataset {
    fn add_classes(&mut self, folders: &[PathBuf]) -> Result<()> {
        let mut labels = Vec::new();
        for (label, folder) in (0..).zip(folders) {
            let images = images_below(folder)?;
            if images.is_empty() {
                return Err(no_images(folder));
            }
            labels.resize(labels.len() + images.len(), label);
            self.files.extend(images);
            self.classes.push(file_name(folder));
        }
        self.labels = Some(labels);
        Ok(())
    }
}

/// Decodes one file. What is wrong with it is said without its name.
fn decode(path: &Path, channels: Channels) -> Result<Pixels> {
    let unreadable = |what: &dyn std::fmt::Display| {
        Error::malformed(format!("not a readable image: {what}"))
            .hint("remove the file, or save it again as PNG or JPEG")
    };
    let file = fs::File::open(path).map_err(|error| unreadable(&error))?;
    let reader = ImageReader::new(std::io::BufReader::new(file)).with_guessed_format();
    let reader = reader.map_err(|error| unreadable(&error))?;
    let image = reader.decode().map_err(|error| unreadable(&error))?;
    Ok(Pixels::of_image(image, channels))
}

/// The folder of a part, where a folder has one for each part; else the folder itself.
fn part_of(path: &Path, part: Part) -> Result<(PathBuf, Entries)> {
    let entries = Entries::read(path)?;
    let is_part = |folder: &PathBuf| {
        let name = file_name(folder);
        TRAIN.into_iter().chain(TEST).any(|part| part == name)
    };
    if entries.folders.is_empty() || !entries.folders.iter().all(is_part) {
        return Ok((path.to_owned(), entries));
    }
    let names: &[&str] = match part {
        Part::Train => &TRAIN,
        Part::Test => &TEST,
    };
    let found = names.iter().map(|name| path.join(name)).find(|folder| folder.is_dir());
    let folder = found.ok_or_else(|| {
        argument(path, format!("no folder `{}`", names.join("` or `")))
            .hint("name the folder that holds those of the classes")
    })?;
    let entries = Entries::read(&folder)?;
    Ok((folder, entries))
}

/// Fails on images beside the folders of classes, which would belong to none.
fn check_stray(root: &Path, entries: &Entries) -> Result<()> {
    match entries.images.first() {
        Some(image) => {
            Err(argument(root, format!("`{}` is in no folder of a class", file_name(image)))
                .hint("move each image into the folder of its class"))
        }
        None => Ok(()),
    }
}

fn no_images(folder: &Path) -> Error {
    malformed(folder, "no PNG or JPEG files in this folder")
        .hint("put images into the folder, or remove it")
}

fn images_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = Entries::read(folder)?;
    let mut images = entries.images;
    // Links may lead in circles.
    for folder in entries.folders.into_iter().filter(|folder| !folder.is_symlink()) {
        images.extend(images_below(&folder)?);
    }
    Ok(images)
}

/// What a folder holds, sorted by name; hidden files and those of other kinds are left out.
#[derive(Debug, Default)]
struct Entries {
    folders: Vec<PathBuf>,
    images: Vec<PathBuf>,
}

impl Entries {
    fn read(folder: &Path) -> Result<Self> {
        let mut entries = Self::default();
        for entry in folder.read_dir().map_err(|source| failed(folder, source))? {
            let path = entry.map_err(|source| failed(folder, source))?.path();
            if !file_name(&path).starts_with('.') {
                entries.add(path)?;
            }
        }
        entries.folders.sort();
        entries.images.sort();
        Ok(entries)
    }

    fn add(&mut self, path: PathBuf) -> Result<()> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_dir() {
            self.folders.push(path);
        } else if READ.contains(&extension.as_str()) {
            self.images.push(path);
        } else if NOT_READ.contains(&extension.as_str()) {
            return Err(unsupported(&path, format!("images of type `{extension}`"))
                .hint("save it as PNG or JPEG"));
        }
        Ok(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
