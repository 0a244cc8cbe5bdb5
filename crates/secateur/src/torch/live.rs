//! A program without a file: the trace of a live module, which has its weights.

use std::collections::HashMap;

use super::apply;
use super::import::{Code, Imported, Parameter, Stored, import};
use super::schema::{Program, Source};
use crate::analysis::Analysis;
use crate::model::Changes;
use crate::{Error, Result};

impl Program {
    /// Reads the main graph; what it takes that the user does not give are the parameters.
    pub(crate) fn import(&self) -> Result<Imported> {
        let (mut parameters, mut names) = (Vec::new(), HashMap::new());
        for input in &self.inputs {
            let Source::Stored(name) = &input.from else { continue };
            let Some(meta) = self.graph.tensors.get(&input.name) else { continue };
            let Some(dtype) = meta.dtype else { continue };
            let size = |size: &super::schema::Size| usize::try_from(size.value?).ok();
            let dims: Option<Vec<usize>> = meta.sizes.iter().map(size).collect();
            let dims = dims.ok_or_else(|| Error::malformed(format!("the sizes of `{name}`")))?;
            let index = u32::try_from(parameters.len()).map_err(Error::malformed)?;
            if names.insert(name.clone(), index).is_some() {
                return Err(Error::malformed(format!("the name `{name}` is defined twice")));
            }
            parameters.push(Parameter { name: name.clone(), dtype, dims, shared: false });
        }
        import(self, Stored { parameters: &parameters, names: &names }, Code::Live)
    }

    /// The program's text once sizes are what `changes` make them.
    pub(crate) fn edited(
        &self,
        imported: &Imported,
        analysis: &Analysis,
        changes: &Changes,
    ) -> Result<String> {
        apply::edited(self, imported, analysis, changes)
    }
}
