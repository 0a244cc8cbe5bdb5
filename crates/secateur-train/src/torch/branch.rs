//! Graphs inside calls: read in place, or as one of two branches.

use std::collections::HashMap;

use secateur::torch::{Argument, Graph as Source, Node};

use super::{Binding, Compiler, Scope, results};
use crate::ops::control::{Graph, If};
use crate::{Block, Error, Result, Slot};

impl<'a> Compiler<'a> {
    /// The names of a graph inside a call, for what the call gives to it.
    fn scope_of(&mut self, graph: &'a Source, given: &[&'a str]) -> Result<Scope<'a>> {
        let mut names = HashMap::new();
        let formals: Vec<&str> = graph.inputs().iter().flat_map(Argument::names).collect();
        if formals.len() != given.len() {
            return Err(Error::malformed("operands that do not fit the graph inside"));
        }
        for (formal, name) in formals.into_iter().zip(given) {
            names.insert(formal, self.binding(name)?);
        }
        Ok(Scope { graph, names })
    }

    /// The calls of a graph in place of its call.
    pub(super) fn inline(&mut self, node: &'a Node) -> Result<()> {
        let mut arguments = node.arguments().map(|(_, argument)| argument);
        let graph = arguments.find_map(graph).ok_or_else(|| Error::malformed("no graph"))?;
        let given: Vec<&str> = arguments.flat_map(Argument::names).collect();
        let scope = self.scope_of(graph, &given)?;
        self.scopes.push(scope);
        let made = self.add_calls().and_then(|()| {
            let names = graph.outputs().iter().flat_map(Argument::names);
            names.map(|name| self.binding(name)).collect::<Result<Vec<_>>>()
        });
        self.scopes.pop();
        for (name, binding) in results(node).into_iter().zip(made?) {
            self.define(name, binding);
        }
        Ok(())
    }

    /// One of two graphs, as a condition decides.
    pub(super) fn choose(&mut self, node: &'a Node) -> Result<()> {
        let mut arguments = node.arguments().map(|(_, argument)| argument);
        let condition = arguments.next().map(Argument::names).unwrap_or_default();
        let [condition] = condition[..] else {
            return Err(Error::unsupported("a condition that is no tensor"));
        };
        let condition = self.slot(condition)?;
        let graphs = [arguments.next().and_then(graph), arguments.next().and_then(graph)];
        let [Some(yes), Some(no)] = graphs else { return Err(Error::malformed("no graphs")) };
        let given: Vec<&str> = arguments.flat_map(Argument::names).collect();
        // What is read from here on is made here, and not in one branch.
        given.iter().try_for_each(|name| self.slot(name).map(drop))?;
        let branches = [self.branch(yes, &given)?, self.branch(no, &given)?];
        let captures = branches.iter().flat_map(|graph| graph.captures.iter().copied());
        let inputs = std::iter::once(condition).chain(captures).map(Some).collect();
        let names = results(node);
        let slots: Vec<Slot> = names.iter().map(|name| self.builder.slot(name)).collect();
        let outputs = slots.iter().copied().map(Some).collect();
        self.builder.step(If { branches }.into(), inputs, outputs);
        for (name, slot) in names.into_iter().zip(slots) {
            let id = self.memory.own(slot);
            self.define(name, Binding::Tensor(id));
        }
        Ok(())
    }

    /// What a name holds now.
    fn slot(&mut self, name: &str) -> Result<Slot> {
        match self.binding(name)? {
            Binding::Number(slot) => Ok(slot),
            _ => {
                let id = self.tensor(name)?;
                self.memory.read(id, &mut self.builder)
            }
        }
    }

    fn branch(&mut self, graph: &'a Source, given: &[&'a str]) -> Result<Graph> {
        let outer = self.builder.program.names.len();
        let scope = self.scope_of(graph, given)?;
        let around = self.builder.open();
        self.scopes.push(scope);
        let made = self.add_calls().and_then(|()| {
            let names = graph.outputs().iter().flat_map(Argument::names);
            names.map(|name| self.slot(name)).collect::<Result<Vec<_>>>()
        });
        self.scopes.pop();
        let steps = self.builder.close(around);
        let outputs = made?;
        let read = steps.iter().flat_map(|step| step.inputs.iter().flatten().copied());
        let mut captures: Vec<Slot> = read.chain(outputs.iter().copied()).collect();
        let stored: Vec<Slot> = self.builder.program.stored.iter().map(|one| one.slot).collect();
        captures.retain(|slot| slot.index() < outer || stored.contains(slot));
        captures.sort_unstable();
        captures.dedup();
        let slots = self.builder.program.names.len();
        Ok(Graph { block: Block { steps, outputs }, formals: Vec::new(), captures, slots })
    }
}

fn graph(argument: &Argument) -> Option<&Source> {
    match argument {
        Argument::Graph(graph) => Some(graph),
        _ => None,
    }
}
