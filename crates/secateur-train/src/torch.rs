//! Reads a program of PyTorch (`.pt2`) as a [`Program`].
//!
//! Buffers that a program writes keep their stored values between runs.

mod branch;
mod builder;
mod call;
mod memory;
mod numbers;

use std::collections::{BTreeMap, HashMap, HashSet};

use secateur::torch::{Argument, Graph, Int, Meta, Node, Source, TorchFile};

pub(crate) use self::call::{Call, Decode, Sort};
pub(crate) use self::memory::Back;

use self::builder::Builder;
use self::call::Made;
use self::memory::{Memory, TensorId};
use crate::ops;
use crate::program::refusal;
use crate::{Block, Error, Program, Result, Slot, Stored};

/// Calls of a graph that stand in it: its calls are read in place.
const INLINED: [&str; 2] = ["wrap_with_set_grad_enabled", "wrap_with_autocast"];
/// Calls that compute nothing.
const CHECKS: [&str; 5] = [
    "aten._assert_async",
    "aten._assert_scalar",
    "aten._assert_tensor_metadata",
    "aten.sym_constrain_range",
    "aten.sym_constrain_range_for_size",
];

/// What a name stands for.
#[derive(Clone, Copy)]
enum Binding<'a> {
    Tensor(TensorId),
    /// A stored tensor that nothing has read, and its name in the file.
    Stored(&'a str),
    Number(Slot),
}

/// The names of a graph that is being read.
struct Scope<'a> {
    graph: &'a Graph,
    names: HashMap<&'a str, Binding<'a>>,
}

pub(crate) struct Compiler<'a> {
    file: &'a TorchFile,
    builder: Builder,
    memory: Memory,
    scopes: Vec<Scope<'a>>,
    stored: HashMap<usize, TensorId>,
    table: HashMap<&'static str, Decode>,
    /// All names that a call or caller reads.
    reads: HashSet<&'a str>,
    /// What cannot be run: per operator, why, and the first call.
    refused: BTreeMap<String, String>,
}

/// The program of a file.
///
/// # Errors
/// When it has operators that cannot be run; all of them are named.
pub(crate) fn compile(file: &TorchFile) -> Result<Program> {
    let graph = file.program().graph();
    let mut compiler = Compiler {
        file,
        builder: Builder::default(),
        memory: Memory::default(),
        scopes: vec![Scope { graph, names: HashMap::new() }],
        stored: HashMap::new(),
        table: ops::ATEN.iter().copied().flatten().copied().collect(),
        reads: HashSet::new(),
        refused: BTreeMap::new(),
    };
    compiler.note_reads(graph);
    compiler.add_inputs();
    compiler.add_calls()?;
    refusal(&compiler.refused)?;
    let outputs = compiler.outputs()?;
    let Builder { mut program, steps, .. } = compiler.builder;
    program.body = Block { steps, outputs };
    Ok(program)
}

/// The names of a call's results.
fn results(node: &Node) -> Vec<&str> {
    node.outputs().iter().flat_map(Argument::names).collect()
}

fn unmade(name: &str) -> Error {
    Error::malformed(format!("`{name}` is read before anything makes it"))
}

impl<'a> Compiler<'a> {
    fn scope(&mut self) -> &mut Scope<'a> {
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    fn note_reads(&mut self, graph: &'a Graph) {
        for node in self.file.program().calls(graph) {
            for (_, argument) in node.arguments() {
                self.reads.extend(argument.names());
                if let Argument::Graph(inner) = argument {
                    self.note_reads(inner);
                }
            }
        }
        self.reads.extend(graph.outputs().iter().flat_map(Argument::names));
    }

    /// What the program says of a tensor.
    fn meta(&self, name: &str) -> Option<&'a Meta> {
        self.scopes.last()?.graph.tensor(name)
    }

    fn define(&mut self, name: &'a str, binding: Binding<'a>) {
        self.scope().names.insert(name, binding);
    }

    fn add_inputs(&mut self) {
        for (name, from) in self.file.program().inputs() {
            if name.is_empty() {
                continue;
            }
            let binding = match from {
                Source::Stored(key) => Binding::Stored(key),
                Source::User | Source::Other => {
                    let slot = self.builder.slot(name);
                    self.builder.program.inputs.push(slot);
                    match self.meta(name) {
                        Some(_) => Binding::Tensor(self.memory.own(slot)),
                        None => Binding::Number(slot),
                    }
                }
            };
            self.define(name, binding);
        }
    }

    /// The tensor of a name.
    fn tensor(&mut self, name: &str) -> Result<TensorId> {
        match self.scope().names.get(name).copied() {
            Some(Binding::Tensor(id)) => Ok(id),
            Some(Binding::Stored(key)) => self.stored(key),
            _ => Err(unmade(name)),
        }
    }

    /// A stored tensor, which all of its names share.
    fn stored(&mut self, key: &str) -> Result<TensorId> {
        let unread = || Error::unsupported(format!("`{key}` is stored in a way that is not read"));
        let index = self.file.stored(key).ok_or_else(unread)?;
        if let Some(&id) = self.stored.get(&index) {
            return Ok(id);
        }
        let (name, view) = self.file.tensor(index)?;
        let slot = self.builder.slot(name);
        self.builder.program.stored.push(Stored { name: name.to_string(), slot, view });
        let id = self.memory.own(slot);
        self.stored.insert(index, id);
        Ok(id)
    }

    /// An integer as a tensor.
    fn int(&mut self, int: &Int) -> Result<Slot> {
        match int {
            Int::Number(value) => Ok(self.builder.integer(*value)),
            Int::Name(name) => match self.scope().names.get(name.as_str()) {
                Some(&Binding::Number(slot)) => Ok(slot),
                _ => Err(unmade(name)),
            },
        }
    }

    fn add_calls(&mut self) -> Result<()> {
        let graph = self.scope().graph;
        for node in self.file.program().calls(graph) {
            self.builder.place = (node.name().to_string(), node.target().to_string());
            let added = self.add_call(node);
            if let Err(error) = added {
                self.refuse(node, &error);
            }
        }
        Ok(())
    }

    fn add_call(&mut self, node: &'a Node) -> Result<()> {
        if INLINED.iter().any(|inlined| node.operator().ends_with(inlined)) {
            return self.inline(node);
        }
        if node.operator() == "higher_order.cond" {
            return self.choose(node);
        }
        let makes_nothing = results(node).is_empty();
        if CHECKS.contains(&node.operator()) || makes_nothing && !node.operator().ends_with('_') {
            return Ok(());
        }
        if let [Argument::Int(Int::Name(name))] = node.outputs() {
            let slot = numbers::evaluate(self, node)?;
            self.builder.name(slot, name);
            self.define(name, Binding::Number(slot));
            return Ok(());
        }
        self.decode(node)
    }

    /// How a call is decoded, and whether it writes its first operand.
    fn decoder(&self, node: &Node) -> Result<(Decode, bool)> {
        let name = node.operator();
        if node.overload() == "out" || node.overload().ends_with("_out") {
            return Err(Error::unsupported("it writes into an operand"));
        }
        let plain = name.strip_suffix('_').filter(|plain| !plain.ends_with('_'));
        let unknown = || Error::unsupported("it is not known");
        match (self.table.get(name), plain) {
            (Some(&decode), _) => Ok((decode, false)),
            (None, Some(plain)) => {
                self.table.get(plain).map(|&decode| (decode, true)).ok_or_else(unknown)
            }
            (None, None) => Err(unknown()),
        }
    }

    fn decode(&mut self, node: &'a Node) -> Result<()> {
        let (decode, in_place) = self.decoder(node)?;
        let names = results(node);
        let mut call = Call { compiler: self, node, results: vec![None; names.len()] };
        decode(&mut call)?;
        let made = call.results;
        if in_place {
            return self.write(node, &names, made);
        }
        for (name, made) in names.into_iter().zip(made) {
            let id = match made {
                Some(Made::New(slot)) => {
                    self.builder.name(slot, name);
                    self.memory.own(slot)
                }
                Some(Made::Same(id)) => id,
                Some(Made::View(slot, view)) => {
                    self.builder.name(slot, name);
                    self.memory.view(slot, *view)
                }
                None if self.reads.contains(name) => {
                    return Err(Error::unsupported(format!("its result `{name}`")));
                }
                None => continue,
            };
            self.define(name, Binding::Tensor(id));
        }
        Ok(())
    }

    /// Lets a call's first operand, and all that share its memory, be what the call makes.
    fn write(&mut self, node: &'a Node, names: &[&'a str], made: Vec<Option<Made>>) -> Result<()> {
        let Some((_, Argument::Tensor(first))) = node.arguments().next() else {
            return Err(Error::unsupported("it writes what is no tensor"));
        };
        let mut id = self.tensor(first)?;
        match made.into_iter().next().flatten() {
            Some(Made::New(slot)) => {
                let sort = Call { compiler: self, node, results: Vec::new() }.result_sort(0)?;
                let slot = self.builder.emit(sort.cast(), vec![Some(slot)]);
                self.memory.write(id, slot, &mut self.builder)?;
            }
            // Another shape of the same memory.
            Some(Made::View(slot, view)) => {
                id = self.memory.view(slot, *view);
                self.define(first, Binding::Tensor(id));
            }
            Some(Made::Same(_)) => {}
            None => return Err(Error::unsupported("it writes nothing")),
        }
        names.iter().for_each(|name| self.define(name, Binding::Tensor(id)));
        Ok(())
    }

    fn binding(&mut self, name: &str) -> Result<Binding<'a>> {
        self.scope().names.get(name).copied().ok_or_else(|| unmade(name))
    }

    /// Notes an operator that cannot be run; what reads its results is looked at all the same.
    fn refuse(&mut self, node: &'a Node, error: &Error) {
        let line = node.line().map(|line| format!(", {line}")).unwrap_or_default();
        let why = format!("{error}, at `{}`{line}", node.name());
        self.refused.entry(node.target().to_string()).or_insert(why);
        for output in node.outputs() {
            for name in output.names() {
                let slot = self.builder.slot(name);
                let binding = match output {
                    Argument::Int(_) => Binding::Number(slot),
                    _ => Binding::Tensor(self.memory.own(slot)),
                };
                self.define(name, binding);
            }
        }
    }

    /// What the user gets.
    fn outputs(&mut self) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        for (name, into) in self.file.program().outputs() {
            if name.is_empty() || into.is_some() {
                continue;
            }
            slots.push(match self.binding(name)? {
                Binding::Number(slot) => slot,
                _ => {
                    let id = self.tensor(name)?;
                    self.memory.read(id, &mut self.builder)?
                }
            });
        }
        Ok(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the core knows and is not run: complex numbers, what is drawn into a tensor, patterns,
    /// and a few functions.
    const NOT_RUN: &str = "_conj _ctc_loss _embedding_bag _embedding_bag_forward_only \
        _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fft_c2c _fft_c2r _fft_r2c \
        _fused_moving_avg_obs_fq_helper _is_all_true _is_any_true _linalg_det _linalg_slogdet \
        _linalg_svd _pack_padded_sequence _pad_packed_sequence _trilinear affine_grid_generator \
        angle atan2 bilinear binary_cross_entropy binary_cross_entropy_with_logits \
        blackman_window broadcast_tensors bucketize col2im complex conj_physical copysign \
        count_nonzero cross_entropy_loss ctc_loss cummax cummin diag_embed diagonal digamma \
        embedding_bag erfinv exponential fake_quantize_per_channel_affine \
        fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine \
        fake_quantize_per_tensor_affine_cachemask fft_fft fft_fft2 fft_fftn fft_fftshift \
        fft_hfft fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_irfft fft_irfft2 \
        fft_irfftn fft_rfft fft_rfft2 fft_rfftn float_power hamming_window hann_window heaviside \
        huber_loss imag index_reduce kaiser_window kl_div kthvalue lgamma linalg_inv \
        linalg_inv_ex linalg_solve_triangular logaddexp2 logcumsumexp logit median mode \
        nanmedian nansum nextafter nll_loss2d_forward nll_loss_forward normal polar random real \
        renorm resolve_conj resolve_neg rrelu rrelu_with_noise segment_reduce sinc \
        smooth_l1_loss soft_margin_loss special_entr tril_indices triu_indices uniform \
        view_as_complex view_as_real xlogy";

    #[test]
    fn every_operator_of_the_core_is_known() {
        let table: HashSet<&str> =
            ops::ATEN.iter().copied().flatten().map(|entry| entry.0).collect();
        let known = secateur::torch::known_operators();
        let missing = known.into_iter().filter(|name| !table.contains(name));
        let missing = missing.filter(|name| !CHECKS.contains(name));
        let plain: Vec<&str> = missing.filter_map(|name| name.strip_prefix("aten.")).collect();
        assert_eq!(plain.join(" "), NOT_RUN);
    }
}
