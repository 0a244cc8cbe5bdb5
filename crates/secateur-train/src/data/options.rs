//! What can be said about data that its files do not say.

use std::path::PathBuf;

use secateur::{Error, Result};

/// How [`open`](super::open) reads data. Each format takes what concerns it.
#[derive(Clone, Debug, Default)]
pub struct DataOptions {
    /// Which part of a folder that holds several.
    pub part: Part,
    /// Named arrays: those that the model reads, in the order of its inputs. Empty: `x` if there is
    /// one, otherwise all but the target. Bytes of three axes or more are pixels: they become real
    /// numbers in 0..1.
    pub inputs: Vec<String>,
    /// The array or column that holds the targets. None: the array `y`, `labels`, `targets` or
    /// `target`, if there is one, or the last column.
    pub target: Option<String>,
    /// What targets are, where the file leaves it open.
    pub targets: Targets,
    /// The number of classes, if it is known: labels must be below it.
    pub classes: Option<usize>,
    /// IDX: the file of labels, if its name does not follow from that of the images.
    pub labels: Option<PathBuf>,
    /// Tables: whether the first row names the columns.
    pub header: Header,
    /// Preparation of images.
    pub images: ImageOptions,
    /// Cutting of text.
    pub text: TextOptions,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// What models are trained on.
    #[default]
    Train,
    /// What they are tested on.
    Test,
}

/// What targets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Targets {
    /// Classes where all are integers or text, otherwise numbers.
    #[default]
    Detect,
    /// Class indices, or text that stands for classes.
    Classes,
    /// Real numbers.
    Numbers,
}

/// Whether the first row of a table names its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// It does if no cell of it is a number.
    #[default]
    Detect,
    /// It does.
    Present,
    /// It is the first sample.
    Absent,
}

/// How images become arrays of shape `[samples, channels, height, width]`: resized, cropped, scaled
/// to 0..1, then normalized.
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
    /// The length of the shortest side, in pixels. None: as it is.
    pub resize: Option<usize>,
    /// Height and width of the part that is kept: the center, or with augmentation any. None: all.
    pub crop: Option<(usize, usize)>,
    /// The channels. None: RGB for folders of images, as stored for IDX.
    pub channels: Option<Channels>,
    /// What is subtracted, for each channel or for all. Empty: nothing.
    pub mean: Vec<f32>,
    /// What the difference is divided by, for each channel or for all. Empty: nothing.
    pub std: Vec<f32>,
    /// With augmentation: black pixels that are put on each side before a random part is cropped.
    pub padding: usize,
    /// With augmentation: whether images are mirrored.
    pub flip: Flip,
}

impl ImageOptions {
    /// Mean and standard deviation of a channel.
    pub(crate) fn scale(&self, channel: usize) -> (f32, f32) {
        let of = |values: &[f32], default| {
            values.get(channel).or(values.first()).copied().unwrap_or(default)
        };
        (of(&self.mean, 0.0), of(&self.std, 1.0))
    }

    pub(crate) fn check(&self, channels: Channels) -> Result<()> {
        self.check_sizes()?;
        check_scale("mean", &self.mean, channels, |value| value.is_finite())?;
        check_scale("std", &self.std, channels, |value| value.is_finite() && value > 0.0)
    }

    fn check_sizes(&self) -> Result<()> {
        // A sample of more pixels than this would be a mistake, and memory is allocated for it.
        const LARGEST: usize = 1 << 14;
        let (height, width) = self.crop.unwrap_or((1, 1));
        let sizes = [("resize", self.resize.unwrap_or(1)), ("crop", height), ("crop", width)];
        for (name, size) in sizes.into_iter().chain([("padding", self.padding.saturating_add(1))]) {
            if size == 0 || size > LARGEST {
                return Err(Error::argument(format!("`{name}` has the size {size}"))
                    .hint(format!("set `{name}` to a size in 1..={LARGEST}")));
            }
        }
        Ok(())
    }
}

fn check_scale(
    name: &str,
    values: &[f32],
    channels: Channels,
    valid: impl Fn(f32) -> bool,
) -> Result<()> {
    let (found, expected) = (values.len(), channels.count());
    if found > 1 && found != expected {
        return Err(Error::argument(format!(
            "`{name}` has {found} values for {expected} channels"
        ))
        .hint(format!("give `{name}` one value, or one for each channel")));
    }
    match values.iter().find(|value| !valid(**value)) {
        Some(value) => Err(Error::argument(format!("`{name}` has the value {value}"))
            .hint("give the statistics of pixels in 0..1, such as a `std` of 0.5")),
        None => Ok(()),
    }
}

/// The channels of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One: brightness by the weights of ITU-R BT.601.
    Gray,
    /// Three: red, green and blue.
    Rgb,
}

impl Channels {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Channels::Gray => 1,
            Channels::Rgb => 3,
        }
    }
}

/// Random mirroring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flip {
    /// Never.
    #[default]
    Never,
    /// Left and right change places in half of the samples.
    Horizontal,
}

/// How text becomes samples.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// The tokenizer's file. None: `tokenizer.json` beside the text.
    pub tokenizer: Option<PathBuf>,
    /// The tokens of one sample.
    pub length: usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { tokenizer: None, length: 128 }
    }
}
