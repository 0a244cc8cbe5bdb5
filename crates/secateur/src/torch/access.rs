//! What other crates read of a program: its calls, and the tensors that its file stores.
//!
//! Nothing of it can be changed: writing a program is an edit of its text.

use super::TorchFile;
use super::import::{operator, overload, short, tensor_names};
use super::schema::{
    Argument, Graph, Input, Int, Meta, NamedArgument, Node, Program, Size, Source,
};
use crate::tensor::TensorView;
use crate::{DType, Result};

impl TorchFile {
    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The number of the stored tensor of a name, which several names may share; `None` where it is
    /// no dense tensor.
    pub fn stored(&self, name: &str) -> Option<usize> {
        self.names.get(name).map(|&index| index as usize)
    }

    /// The first name of a stored tensor, and its elements, row-major.
    ///
    /// # Errors
    /// When there is no tensor of this number.
    pub fn tensor(&self, index: usize) -> Result<(&str, TensorView)> {
        let view = self.view(u32::try_from(index).unwrap_or(u32::MAX))?;
        let names = self.stored.get(index).and_then(|stored| stored.names.first());
        Ok((names.map_or("", |(_, name)| name), view))
    }
}

impl Program {
    /// The main graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The calls of a graph of this program, in order.
    pub fn calls(&self, graph: &Graph) -> impl Iterator<Item = &Node> {
        graph.nodes.iter().filter_map(|&index| self.nodes.get(index as usize))
    }

    /// What the main graph takes, in order: names, and who gives them. Constants have no name.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.inputs.iter().map(|Input { name, from, .. }| (name.as_str(), from))
    }

    /// What the main graph returns, in order: names, and the stored tensor that each is written
    /// into, if the user does not get it. Constants have no name.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.outputs.iter().map(|output| (output.name.as_str(), output.into.as_deref()))
    }
}

impl Graph {
    /// What it takes.
    pub fn inputs(&self) -> &[Argument] {
        &self.inputs
    }

    /// What it returns.
    pub fn outputs(&self) -> &[Argument] {
        &self.outputs
    }

    /// What the program says of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&Meta> {
        self.tensors.get(name)
    }
}

impl Node {
    /// Its name in the program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator and its overload: `aten.conv2d.default`.
    pub fn target(&self) -> &str {
        short(&self.target)
    }

    /// The operator: `aten.conv2d`.
    pub fn operator(&self) -> &str {
        operator(&self.target)
    }

    /// The overload: `default`, `Tensor`, …
    pub fn overload(&self) -> &str {
        overload(&self.target)
    }

    /// The arguments by name, in order.
    pub fn arguments(&self) -> impl Iterator<Item = (&str, &Argument)> {
        self.arguments.iter().map(|NamedArgument { name, value, .. }| (name.as_str(), value))
    }

    /// An argument that is given, and not `None`.
    pub fn given(&self, name: &str) -> Option<&Argument> {
        let found = self.argument(name).map(|argument| &argument.value);
        found.filter(|value| !matches!(value, Argument::None))
    }

    /// What it makes.
    pub fn outputs(&self) -> &[Argument] {
        &self.outputs
    }

    /// The line of the model's code that makes the call.
    pub fn line(&self) -> Option<&str> {
        self.line.as_deref()
    }
}

impl Argument {
    /// The tensors and computed integers that it names.
    pub fn names(&self) -> Vec<&str> {
        fn named(int: &Int) -> Option<&str> {
            match int {
                Int::Name(name) => Some(name),
                Int::Number(_) => None,
            }
        }
        match self {
            Argument::Int(int) => named(int).into_iter().collect(),
            Argument::Ints(ints) => ints.iter().filter_map(named).collect(),
            other => tensor_names(other),
        }
    }
}

impl Meta {
    /// Its element type.
    pub fn dtype(&self) -> Option<DType> {
        self.dtype
    }

    /// Its sizes; `None` for one that depends on the inputs.
    pub fn sizes(&self) -> Vec<Option<usize>> {
        let size = |size: &Size| size.value.filter(|_| !size.is_open());
        self.sizes.iter().map(|one| usize::try_from(size(one)?).ok()).collect()
    }

    /// Whether its elements stand row-major in memory, without gaps.
    pub fn is_row_major(&self) -> bool {
        let mut step = Some(1);
        let mut axes = self.sizes.iter().zip(&self.strides).rev();
        self.strided
            && axes.all(|(size, stride)| {
                let fits = size.value == Some(1) || stride.value == step;
                step = step
                    .zip(size.value)
                    .and_then(|(step, size): (i64, i64)| step.checked_mul(size));
                fits
            })
    }
}
