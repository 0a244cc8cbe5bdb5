//! The models that mutants are made of.

use std::fs;
use std::path::{Path, PathBuf};

use secateur::onnx::OnnxFile;
use secateur::onnx::proto::ModelProto;

use super::program::Entry;
use super::programs::{TEXTS, archive};
use super::random::Random;

/// A model that is sound.
pub struct Base {
    pub name: String,
    pub bytes: Vec<u8>,
    pub content: Content,
}

/// What a base's bytes say.
pub enum Content {
    Onnx(Box<ModelProto>),
    Program(Vec<Entry>),
}

/// ONNX models in the order of their names, and programs.
pub struct Bases(Vec<Base>);

impl Bases {
    /// The fixtures of these names.
    pub fn fixtures(names: &[&str]) -> Self {
        Self(names.iter().map(|name| Base::read(&folder().join(format!("{name}.onnx")))).collect())
    }

    /// Every program.
    pub fn programs() -> Self {
        let program = |&(name, text): &(&str, &str)| {
            let (entries, bytes) = archive(text);
            Base { name: name.to_string(), bytes, content: Content::Program(entries) }
        };
        Self(TEXTS.iter().map(program).collect())
    }

    /// Every fixture.
    pub fn all() -> Self {
        let mut paths: Vec<PathBuf> = [folder(), folder().join("container")]
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
            .collect();
        paths.sort();
        Self(paths.iter().map(|path| Base::read(path)).collect())
    }

    /// Adds models by path.
    #[must_use]
    pub fn with(mut self, paths: &[PathBuf]) -> Self {
        self.0.extend(paths.iter().map(|path| Base::read(path)));
        self
    }

    /// Adds all of the others.
    #[must_use]
    pub fn and(mut self, others: Bases) -> Self {
        self.0.extend(others.0);
        self
    }

    pub fn pick(&self, random: &mut Random) -> &Base {
        &self.0[random.below(self.0.len())]
    }

    /// An ONNX model; an empty one where there is none.
    pub fn pick_model(&self, random: &mut Random) -> ModelProto {
        let models = self.0.iter().filter_map(|base| match &base.content {
            Content::Onnx(model) => Some(&**model),
            Content::Program(_) => None,
        });
        random.pick(&models.collect::<Vec<_>>()).map(|&model| model.clone()).unwrap_or_default()
    }

    /// A program; an empty one where there is none.
    pub fn pick_program(&self, random: &mut Random) -> &[Entry] {
        let programs = self.0.iter().filter_map(|base| match &base.content {
            Content::Onnx(_) => None,
            Content::Program(entries) => Some(&entries[..]),
        });
        random.pick(&programs.collect::<Vec<_>>()).copied().unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Base {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let file = OnnxFile::parse(bytes.clone().into(), path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let content = Content::Onnx(Box::new(file.proto().clone()));
        Self { name, bytes, content }
    }
}

/// The folder of the fixtures: of this crate, or from `fuzz/`.
pub fn folder() -> PathBuf {
    let folder = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mine = folder("tests/fixtures");
    if mine.is_dir() { mine } else { folder("../crates/secateur/tests/fixtures") }
}
