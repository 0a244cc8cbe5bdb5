//! Images in memory and their preparation: resized, cropped, mirrored, normalized.

use std::fmt::Display;

use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageBuffer, Luma, Pixel, Rgb};
use rayon::prelude::*;
use secateur::{Error, Result};

use super::Array;
use super::options::{Channels, Flip, ImageOptions};
use super::random::{Random, derive};

/// A narrow image that grows beyond this is a mistake.
const MOST_PIXELS: usize = 1 << 27;

/// Pixels of 8 bits: rows of columns of channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: Channels,
    /// As many as height, width and channels say.
    pub(crate) values: Vec<u8>,
}

impl Pixels {
    /// The pixels of a decoded image. Transparency is dropped.
    pub(crate) fn of_image(image: DynamicImage, channels: Channels) -> Self {
        let image = image.into_rgb8();
        let (height, width) = (image.height() as usize, image.width() as usize);
        let rgb = Self { height, width, channels: Channels::Rgb, values: image.into_raw() };
        rgb.into_channels(channels)
    }

    /// The same image in color or without.
    pub(crate) fn into_channels(self, channels: Channels) -> Self {
        let values = match (self.channels, channels) {
            (Channels::Gray, Channels::Rgb) => {
                self.values.iter().flat_map(|&value| [value; 3]).collect()
            }
            (Channels::Rgb, Channels::Gray) => {
                self.values.as_chunks::<3>().0.iter().map(brightness).collect()
            }
            _ => self.values,
        };
        Self { channels, values, ..self }
    }

    /// Resizes as the options say.
    fn resized(self, options: &ImageOptions) -> Result<Self> {
        let shortest = self.height.min(self.width);
        match options.resize {
            Some(size) if size != shortest && shortest > 0 => self.resized_to(size, shortest),
            _ => Ok(self),
        }
    }

    fn resized_to(self, size: usize, shortest: usize) -> Result<Self> {
        let [height, width] = [self.height, self.width].map(|side| side * size / shortest);
        if height.saturating_mul(width) > MOST_PIXELS {
            let (from, to) = (format!("{} x {}", self.height, self.width), (height, width));
            return Err(Error::unsupported(format!(
                "resizing {from} pixels to {} x {}",
                to.0, to.1
            ))
            .hint("set `resize` to a smaller size, or remove the image"));
        }
        let values = match self.channels {
            Channels::Gray => resample::<Luma<u8>>(&self, height, width),
            Channels::Rgb => resample::<Rgb<u8>>(&self, height, width),
        };
        Ok(Self { height, width, values, ..self })
    }

    /// Crops, mirrors and normalizes: one sample, channel by channel, and its height and width.
    fn into_sample(
        self,
        options: &ImageOptions,
        random: Option<Random>,
    ) -> Result<(Vec<f32>, [usize; 2])> {
        let size = options.crop.unwrap_or((self.height, self.width));
        let window = match random {
            Some(random) => Window::random(&self, size, options, random)?,
            None => Window::center(&self, size)?,
        };
        Ok((window.read(&self, options), [size.0, size.1]))
    }

    fn at(&self, row: isize, column: isize, channel: usize) -> u8 {
        let inside = |at: isize, len: usize| usize::try_from(at).ok().filter(|at| *at < len);
        let offset = inside(row, self.height).zip(inside(column, self.width));
        let index = |(row, column)| (row * self.width + column) * self.channels.count() + channel;
        offset.and_then(|place| self.values.get(index(place))).copied().unwrap_or(0)
    }
}

/// The prepared images of a batch: `[samples, channels, height, width]`. `read` gives an image, `name`
/// its name in messages.
pub(crate) fn prepare<N: Display>(
    indices: &[usize],
    options: &ImageOptions,
    augment: Option<u64>,
    read: impl Fn(usize) -> Result<Pixels> + Sync,
    name: impl Fn(usize) -> N,
) -> Result<Array> {
    let prepare_one = |&index: &usize| {
        let random = augment.map(|seed| Random::new(derive(seed, index as u64)));
        let pixels = read(index)?;
        let channels = pixels.channels;
        let (values, size) = pixels.resized(options)?.into_sample(options, random)?;
        Ok((values, [channels.count(), size[0], size[1]]))
    };
    let samples: Vec<Result<Sample>> = indices.par_iter().map(prepare_one).collect();
    let named = samples
        .into_iter()
        .zip(indices)
        .map(|(sample, &index)| (sample.map_err(|error| error.at(name(index))), index));
    stack(named, &name)
}

/// Numbers, and their shape.
type Sample = (Vec<f32>, [usize; 3]);

fn stack<N: Display>(
    samples: impl Iterator<Item = (Result<Sample>, usize)>,
    name: &impl Fn(usize) -> N,
) -> Result<Array> {
    let mut first: Option<([usize; 3], usize)> = None;
    let (mut values, mut count) = (Vec::new(), 0);
    for (sample, index) in samples {
        let (sample, shape) = sample?;
        let (expected, other) = *first.get_or_insert((shape, index));
        if shape != expected {
            let (name, other) = (name(index), name(other));
            return Err(Error::argument(format!(
                "{name} has the shape {shape:?}, {other} has {expected:?}"
            ))
            .hint("set `resize` and `crop`, so that all images become the same size"));
        }
        values.extend(sample);
        count += 1;
    }
    let [channels, height, width] = first.map_or([0; 3], |(shape, _)| shape);
    Ok(Array::Float(values, vec![count, channels, height, width]))
}

/// ITU-R BT.601 in 16 bits, as Pillow computes it.
fn brightness([red, green, blue]: &[u8; 3]) -> u8 {
    let weighted =
        u32::from(*red) * 19595 + u32::from(*green) * 38470 + u32::from(*blue) * 7471 + 0x8000;
    (weighted >> 16) as u8
}

/// A triangle filter that is as wide as the scale when it reduces.
fn resample<P: Pixel<Subpixel = u8> + 'static>(
    pixels: &Pixels,
    height: usize,
    width: usize,
) -> Vec<u8> {
    let (rows, columns) = (pixels.height as u32, pixels.width as u32);
    let values: &[u8] = &pixels.values;
    match ImageBuffer::<P, &[u8]>::from_raw(columns, rows, values) {
        Some(image) => resize(&image, width as u32, height as u32, FilterType::Triangle).into_raw(),
        None => Vec::new(),
    }
}

/// The part of an image that a sample shows; beyond the image it is black.
#[derive(Clone, Copy, Debug)]
struct Window {
    top: isize,
    left: isize,
    height: usize,
    width: usize,
    mirrored: Mirrored,
}

#[derive(Clone, Copy, Debug)]
enum Mirrored {
    No,
    Yes,
}

impl Window {
    fn center(pixels: &Pixels, (height, width): (usize, usize)) -> Result<Self> {
        let slack = slack(pixels, (height, width), 0)?;
        // Halves go to the even side, as in torchvision.
        let [top, left] = slack.map(|slack| (slack as f64 / 2.0).round_ties_even() as isize);
        Ok(Self { top, left, height, width, mirrored: Mirrored::No })
    }

    fn random(
        pixels: &Pixels,
        (height, width): (usize, usize),
        options: &ImageOptions,
        mut random: Random,
    ) -> Result<Self> {
        let padding = options.padding;
        let slack = slack(pixels, (height, width), padding)?;
        let [top, left] = slack.map(|slack| random.below(slack + 1) as isize - padding as isize);
        let mirrored = match options.flip {
            Flip::Horizontal if random.coin() => Mirrored::Yes,
            _ => Mirrored::No,
        };
        Ok(Self { top, left, height, width, mirrored })
    }

    fn read(self, pixels: &Pixels, options: &ImageOptions) -> Vec<f32> {
        let channels = pixels.channels.count();
        let mut sample = Vec::with_capacity(channels * self.height * self.width);
        for channel in 0..channels {
            let (mean, std) = options.scale(channel);
            let normalized = |value: u8| (f32::from(value) / 255.0 - mean) / std;
            for row in 0..self.height as isize {
                let columns = 0..self.width as isize;
                sample.extend(columns.map(|column| {
                    let column = self.column(column);
                    normalized(pixels.at(self.top + row, column, channel))
                }));
            }
        }
        sample
    }

    fn column(self, column: isize) -> isize {
        match self.mirrored {
            Mirrored::No => self.left + column,
            Mirrored::Yes => self.left + self.width as isize - 1 - column,
        }
    }
}

/// How many more pixels there are than are kept, in height and in width.
fn slack(pixels: &Pixels, (height, width): (usize, usize), padding: usize) -> Result<[usize; 2]> {
    let spare = |side: usize, kept: usize| (side + 2 * padding).checked_sub(kept);
    let spare = spare(pixels.height, height).zip(spare(pixels.width, width));
    let (above, beside) = spare.ok_or_else(|| {
        let found = format!("{} x {}", pixels.height, pixels.width);
        Error::argument(format!("{found} pixels are fewer than the crop of {height} x {width}"))
            .hint("set `resize` to at least the size of the crop, or crop less")
    })?;
    Ok([above, beside])
}
