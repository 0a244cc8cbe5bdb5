//! Data for training and measuring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use secateur::Result;
use secateur_train::data::{
    Channels, DataOptions, Dataset, Flip, ImageOptions, Part, TextOptions, open, split,
};

/// Where samples come from, and how they are prepared.
#[derive(Args, Debug)]
#[command(next_help_heading = "Data")]
pub struct Data {
    /// Samples: a folder of IDX files (MNIST) or of images (one folder per class), an `.npz`, `.npy`,
    /// `.safetensors` or `.csv` file, or a text.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// The part of a folder of IDX files: `train` or `test`.
    #[arg(long, value_name = "PART", default_value = "train", value_parser = part)]
    part: Part,
    /// The array or column that holds the targets.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Use this many samples only, drawn with the seed.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Images: the length of the shortest side in pixels.
    #[arg(long, value_name = "N")]
    resize: Option<usize>,
    /// Images: the side of the square that is cropped.
    #[arg(long, value_name = "N")]
    crop: Option<usize>,
    /// Images: brightness only.
    #[arg(long)]
    gray: bool,
    /// Images: what is subtracted from pixels in 0..1, one number or one per channel.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    mean: Vec<f32>,
    /// Images: what they are divided by then.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    std: Vec<f32>,
    /// Images in training: black pixels around, of which a random part is cropped away.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pad: usize,
    /// Images in training: mirror half of them.
    #[arg(long)]
    flip: bool,
    /// Text: the tokenizer. Default: `tokenizer.json` beside the text.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Text: tokens per sample.
    #[arg(long, value_name = "N", default_value_t = 128)]
    length: usize,
}

fn part(text: &str) -> std::result::Result<Part, String> {
    match text {
        "train" => Ok(Part::Train),
        "test" => Ok(Part::Test),
        _ => Err("expected `train` or `test`".to_string()),
    }
}

impl Data {
    /// The samples at `--data`.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub fn open(&self, seed: u64) -> Result<Arc<dyn Dataset>> {
        let path = self.data.as_ref().ok_or_else(|| {
            secateur::Error::argument("there is no data").hint("give `--data PATH`")
        })?;
        self.check_images(path)?;
        let all = open(path, &self.options(self.part))?;
        match self.limit {
            Some(limit) if limit < all.len() => {
                let fraction = limit as f64 / all.len() as f64;
                Ok(split(all, fraction, seed).0)
            }
            _ => Ok(all),
        }
    }

    /// The samples at another path, prepared alike; of a folder of IDX files the test part.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn open_other(&self, path: &Path) -> Result<Arc<dyn Dataset>> {
        open(path, &self.options(Part::Test))
    }

    /// Arrays are taken as they are.
    fn check_images(&self, path: &Path) -> Result<()> {
        let for_images = [
            ("--resize", self.resize.is_some()),
            ("--crop", self.crop.is_some()),
            ("--gray", self.gray),
            ("--mean", !self.mean.is_empty()),
            ("--std", !self.std.is_empty()),
        ];
        match for_images.iter().find(|(_, given)| *given) {
            Some((flag, _)) if path.is_file() => {
                let error = secateur::Error::argument(format!(
                    "`{flag}` is for folders of images, and `{}` is a file",
                    path.display()
                ));
                Err(error.hint("prepare the arrays before: their numbers are taken as they are"))
            }
            _ => Ok(()),
        }
    }

    fn options(&self, part: Part) -> DataOptions {
        DataOptions {
            part,
            target: self.target.clone(),
            images: ImageOptions {
                resize: self.resize,
                crop: self.crop.map(|side| (side, side)),
                channels: self.gray.then_some(Channels::Gray),
                mean: self.mean.clone(),
                std: self.std.clone(),
                padding: self.pad,
                flip: if self.flip { Flip::Horizontal } else { Flip::Never },
            },
            text: TextOptions { tokenizer: self.tokenizer.clone(), length: self.length },
            ..DataOptions::default()
        }
    }
}
