//! Where files go: checked before work starts, and put in place when it is done.

use std::fs;
use std::path::{Path, PathBuf};

use secateur::plan::{Plan, PreparedPlan};
use secateur::{Error, Model, Result};

/// A model may be written over the one that it is made from, but not over its weights.
pub fn check_output(model: &Model, output: &Path) -> Result<()> {
    check_folder(output)?;
    let format = model.source().format();
    let named = output.extension().and_then(|extension| extension.to_str());
    if let Some(named) = named.filter(|named| ["onnx", "pt2"].contains(named) && *named != format) {
        let error = Error::argument(format!("the model stays `.{format}`, and is no `.{named}`"));
        return Err(error.hint(format!("name it `{}`", output.with_extension(format).display())));
    }
    let folder = folder(model.path());
    for data in model.data_files() {
        if same(output, &folder.join(data)) {
            return Err(Error::argument(format!(
                "`{}` holds the weights of `{}`",
                output.display(),
                model.path().display()
            ))
            .hint("give --output another name"));
        }
    }
    Ok(())
}

/// A model may not be written over the plan that it is made by.
pub fn check_not_plan(output: &Path, plan: &Path) -> Result<()> {
    if same(output, plan) {
        let error = Error::argument(format!("`{}` is the plan", output.display()));
        return Err(error.hint("give --output another name"));
    }
    Ok(())
}

/// A place for a plan.
#[derive(Debug)]
pub struct Plans {
    path: PathBuf,
}

impl Plans {
    /// Checks that nothing of the model is at this place.
    pub fn new(model: &Model, path: &Path, output: Option<&Path>) -> Result<Self> {
        check_output(model, path)?;
        let source = model.path();
        if same(path, source) || output.is_some_and(|output| same(path, output)) {
            let error = Error::argument(format!("`{}` is the place of a model", path.display()));
            return Err(error.hint("give --plan another name"));
        }
        Ok(Plans { path: path.to_owned() })
    }

    /// Writes a plan, without putting it in its place.
    pub fn prepare(self, plan: &Plan) -> Result<PreparedPlan> {
        plan.prepare(&self.path)
    }
}

fn check_folder(path: &Path) -> Result<()> {
    if path == Path::new("-") {
        let error = Error::argument("models and plans are not written to the standard output");
        return Err(error.hint("name a file"));
    }
    if path.is_dir() {
        let error = Error::argument(format!("`{}` is a folder", path.display()));
        return Err(error.hint("name a file"));
    }
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let error = Error::argument(format!("`{}` is not a file", path.display()));
        return Err(error.hint("name a file"));
    }
    let folder = folder(path);
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => {
            let error = Error::argument(format!("`{}` is not a folder", folder.display()));
            Err(error.hint("name a file in a folder"))
        }
        Err(error) => Err(Error::io(folder, error).hint("create the folder first")),
    }
}

fn folder(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Whether two paths name one file, which need not be there yet.
fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| {
        let folder = fs::canonicalize(folder(path)).ok()?;
        Some(folder.join(path.file_name()?))
    };
    let real = |path: &Path| fs::canonicalize(path).ok().or_else(|| whole(path));
    real(a).is_some_and(|a| Some(a) == real(b))
}
