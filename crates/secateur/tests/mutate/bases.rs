//! The models that mutants are made of.

use std::fs;
use std::path::{Path, PathBuf};

use secateur::onnx::OnnxFile;
use secateur::onnx::proto::ModelProto;

use super::random::Random;

/// A model that is sound.
pub struct Base {
    pub name: String,
    pub bytes: Vec<u8>,
    pub model: ModelProto,
}

/// All of them, in the order of their names.
pub struct Bases(Vec<Base>);

impl Bases {
    /// The fixtures of these names.
    pub fn fixtures(names: &[&str]) -> Self {
        Self(names.iter().map(|name| Base::read(&folder().join(format!("{name}.onnx")))).collect())
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

    pub fn pick(&self, random: &mut Random) -> &Base {
        &self.0[random.below(self.0.len())]
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
        Self { name, bytes, model: file.proto().clone() }
    }
}

/// The folder of the fixtures: of this crate, or from `fuzz/`.
pub fn folder() -> PathBuf {
    let folder = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mine = folder("tests/fixtures");
    if mine.is_dir() { mine } else { folder("../crates/secateur/tests/fixtures") }
}
