//! How PyTorch spells tensors of nothing but a shape and a number.

use secateur::torch::Int;

use super::Constant;
use crate::ops::shape::{Fill, Shape};
use crate::ops::view::View;
use crate::torch::{Call, Decode, Sort};
use crate::{Error, Result, Slot};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.zeros", |call| constant(call, 0.0)),
    ("aten.new_zeros", |call| constant(call, 0.0)),
    ("aten.ones", |call| constant(call, 1.0)),
    ("aten.new_ones", |call| constant(call, 1.0)),
    // What nothing was written to may be anything.
    ("aten.empty", |call| constant(call, 0.0)),
    ("aten.new_empty", |call| constant(call, 0.0)),
    ("aten.full", |call| given(call, "fill_value")),
    ("aten.new_full", |call| given(call, "fill_value")),
    ("aten.zeros_like", |call| constant(call, 0.0)),
    ("aten.ones_like", |call| constant(call, 1.0)),
    ("aten.empty_like", |call| constant(call, 0.0)),
    ("aten.full_like", |call| given(call, "fill_value")),
    ("aten.scalar_tensor", |call| {
        let sort = call.result_sort(0)?;
        let slot = call.operand("s", sort)?;
        call.bind(0, slot);
        Ok(())
    }),
    ("aten.arange", range),
    ("aten.linspace", linspace),
    ("aten.eye", eye),
    ("aten.rand", random),
    ("aten.randn", random),
    ("aten.randint", random),
    ("aten.randperm", random),
    ("aten.rand_like", random),
    ("aten.randn_like", random),
    ("aten.bernoulli", random),
    ("aten.multinomial", random),
];

fn random(_: &mut Call<'_, '_>) -> Result<()> {
    Err(Error::unsupported("its result is random"))
}

/// The sizes of the result: given, or those of a tensor.
fn sizes(call: &mut Call<'_, '_>) -> Result<Slot> {
    if call.operator().ends_with("_like") {
        let like = call.tensor("self")?;
        return Ok(call.emit(Shape::Sizes(0, i64::MAX), &[like]));
    }
    call.vector("size")
}

fn constant(call: &mut Call<'_, '_>, number: f64) -> Result<()> {
    let sizes = sizes(call)?;
    let fill = match call.result_sort(0)? {
        Sort::Float => Fill::Float(number as f32),
        Sort::Int => Fill::Int(number as i64),
        Sort::Bool => Fill::Bool(number != 0.0),
    };
    call.make(fill, &[sizes])
}

fn given(call: &mut Call<'_, '_>, name: &str) -> Result<()> {
    let (sizes, sort) = (sizes(call)?, call.result_sort(0)?);
    let value = call.operand(name, sort)?;
    call.make(View::Expand, &[value, sizes])
}

fn range(call: &mut Call<'_, '_>) -> Result<()> {
    let sort = call.result_sort(0)?;
    let mut bound = |name: &str, default: i64| -> Result<Slot> {
        if call.has(name) {
            return call.operand(name, sort);
        }
        let slot = call.integer(default);
        Ok(call.cast(slot, Sort::Int, sort))
    };
    let bounds = [bound("start", 0)?, bound("end", 0)?, bound("step", 1)?];
    call.make(Fill::Range, &bounds)
}

/// From both ends towards the middle, as PyTorch rounds.
fn linspace(call: &mut Call<'_, '_>) -> Result<()> {
    let (start, end) = (call.number("start"), call.number("end"));
    let steps = usize::try_from(call.int("steps", 100)?).unwrap_or(0);
    let (Some(start), Some(end), 1..=0x10_0000) = (start, end, steps) else {
        return Err(Error::unsupported("bounds that are computed"));
    };
    let step = (end - start) / (steps.max(2) - 1) as f64;
    let value = |at: usize| match at < steps / 2 || steps == 1 {
        true => start + step * at as f64,
        false => end - step * (steps - 1 - at) as f64,
    };
    let values: Vec<f64> = (0..steps).map(value).collect();
    match call.result_sort(0)? {
        Sort::Float => {
            let values = values.into_iter().map(|value| value as f32).collect();
            call.make(Constant::Floats(values, vec![steps]), &[])
        }
        _ => {
            let values = values.into_iter().map(|value| value as i64).collect();
            call.make(Constant::Ints(values, vec![steps]), &[])
        }
    }
}

fn eye(call: &mut Call<'_, '_>) -> Result<()> {
    let rows = [Int::Number(call.int("n", 1)?)];
    let columns = match call.overload() {
        "m" => [Int::Number(call.int("m", 1)?)],
        _ => rows.clone(),
    };
    let shape = call.vector_of(&[rows, columns].concat())?;
    let zeros = call.emit(Fill::Float(0.0), &[shape]);
    let made = call.emit(Fill::Eye(0), &[zeros]);
    let sort = call.result_sort(0)?;
    let made = call.cast(made, Sort::Float, sort);
    call.bind(0, made);
    Ok(())
}
