//! The program that is being made.

use std::collections::HashMap;

use crate::ops::Op;
use crate::ops::make::Constant;
use crate::{Program, Slot, Step};

/// A program and its steps so far.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) program: Program,
    pub(crate) steps: Vec<Step>,
    /// What steps are made for: a call's name and its operator.
    pub(crate) place: (String, String),
    constants: HashMap<(Vec<i64>, Option<usize>), Slot>,
    reals: HashMap<u64, Slot>,
}

/// What is around a block.
pub(crate) struct Around {
    steps: Vec<Step>,
    constants: HashMap<(Vec<i64>, Option<usize>), Slot>,
    reals: HashMap<u64, Slot>,
}

impl Builder {
    /// A slot for a named value.
    pub(crate) fn slot(&mut self, name: &str) -> Slot {
        let slot = Slot::new(self.program.names.len());
        self.program.names.push(name.to_string());
        slot
    }

    /// Names a slot that has no name.
    pub(crate) fn name(&mut self, slot: Slot, name: &str) {
        if let Some(place) = self.program.names.get_mut(slot.index())
            && place.is_empty()
        {
            *place = name.to_string();
        }
    }

    /// The first result of one more step.
    pub(crate) fn emit(&mut self, op: impl Into<Op>, inputs: Vec<Option<Slot>>) -> Slot {
        let slot = self.slot("");
        self.step(op.into(), inputs, vec![Some(slot)]);
        slot
    }

    /// Two results of one more step.
    pub(crate) fn emit_two(&mut self, op: impl Into<Op>, inputs: Vec<Option<Slot>>) -> [Slot; 2] {
        let slots = [self.slot(""), self.slot("")];
        self.step(op.into(), inputs, slots.map(Some).to_vec());
        slots
    }

    pub(crate) fn step(&mut self, op: Op, inputs: Vec<Option<Slot>>, outputs: Vec<Option<Slot>>) {
        let (name, kind) = self.place.clone();
        self.steps.push(Step { name, kind, op, inputs, outputs });
    }

    /// Starts a block inside of a step; returns what is around it.
    pub(crate) fn open(&mut self) -> Around {
        let steps = std::mem::take(&mut self.steps);
        Around { steps, constants: self.constants.clone(), reals: self.reals.clone() }
    }

    /// Ends a block: what was made in it is not known outside.
    pub(crate) fn close(&mut self, around: Around) -> Vec<Step> {
        (self.constants, self.reals) = (around.constants, around.reals);
        std::mem::replace(&mut self.steps, around.steps)
    }

    /// An integer.
    pub(crate) fn integer(&mut self, value: i64) -> Slot {
        self.integers(&[value], None)
    }

    /// A vector of integers.
    pub(crate) fn vector(&mut self, values: &[i64]) -> Slot {
        self.integers(values, Some(values.len()))
    }

    fn integers(&mut self, values: &[i64], shape: Option<usize>) -> Slot {
        let key = (values.to_vec(), shape);
        if let Some(&slot) = self.constants.get(&key) {
            return slot;
        }
        let sizes = shape.into_iter().collect();
        let slot = self.emit(Constant::Ints(values.to_vec(), sizes), Vec::new());
        self.constants.insert(key, slot);
        slot
    }

    /// A real number.
    pub(crate) fn real(&mut self, value: f64) -> Slot {
        if let Some(&slot) = self.reals.get(&value.to_bits()) {
            return slot;
        }
        let slot = self.emit(Constant::Floats(vec![value as f32], Vec::new()), Vec::new());
        self.reals.insert(value.to_bits(), slot);
        slot
    }
}
