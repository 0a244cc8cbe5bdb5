//! Writes all samples of a data set as one `.npz` file, for comparison with other readers:
//! `batch DATA OUT [resize=N] [crop=N] [channels=gray] [mean=A,B,C] [std=A,B,C]`.

use std::path::Path;

use secateur_train::data::{Channels, DataOptions, ImageOptions, open, write_npz};
use secateur_train::{Error, Result};

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\nhint: {}", error.remedy().unwrap_or("-"));
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [data, out, settings @ ..] = arguments else {
        return Err(Error::argument("two paths are needed"));
    };
    let mut images = ImageOptions::default();
    settings.iter().try_for_each(|setting| apply(setting, &mut images))?;
    let dataset = open(Path::new(data), &DataOptions { images, ..DataOptions::default() })?;
    let batch = dataset.batch(&(0..dataset.len()).collect::<Vec<_>>(), None)?;
    let inputs = batch.inputs.into_iter().enumerate();
    let inputs = inputs.map(|(index, input)| (format!("x{index}"), input));
    let target = batch.target.map(|target| ("y".to_owned(), target));
    write_npz(Path::new(out), &inputs.chain(target).collect::<Vec<_>>())
}

fn apply(setting: &str, images: &mut ImageOptions) -> Result<()> {
    let wrong = || Error::argument(format!("the setting `{setting}`"));
    let (key, value) = setting.split_once('=').ok_or_else(wrong)?;
    let size = || value.parse().map_err(|_| wrong());
    let floats = || {
        let values = value.split(',').map(|value| value.parse().map_err(|_| wrong()));
        values.collect::<Result<Vec<f32>>>()
    };
    match key {
        "resize" => images.resize = Some(size()?),
        "crop" => images.crop = Some((size()?, size()?)),
        "channels" if value == "gray" => images.channels = Some(Channels::Gray),
        "mean" => images.mean = floats()?,
        "std" => images.std = floats()?,
        _ => return Err(wrong()),
    }
    Ok(())
}
