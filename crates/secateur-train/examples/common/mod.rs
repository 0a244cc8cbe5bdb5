//! Arrays in numpy's files, and what programs run on.

use std::error::Error;
use std::fs;
use std::path::Path;

use secateur::Model;
use secateur::onnx::Hints;
use secateur_train::{Engine, Program, Value};

/// A graphics card, where a feature adds one.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub type Backend = secateur_train::Gpu;
/// The CPU.
#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
pub type Backend = secateur_train::Cpu;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// The program of a file.
pub fn program(model: &str) -> Outcome<Program> {
    Ok(Program::new(&Model::open(Path::new(model), &Hints::default())?)?)
}

/// The arrays `0.npy`, `1.npy`, … of a folder.
pub fn arrays<B: Engine>(folder: &Path) -> Outcome<Vec<Value<B>>> {
    let mut values = Vec::new();
    while let Ok(bytes) = fs::read(folder.join(format!("{}.npy", values.len()))) {
        values.push(parse(&bytes)?);
    }
    Ok(values)
}

/// The text between two marks of a header.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Outcome<&'a str> {
    let rest = text.split_once(from).ok_or("no array")?.1;
    Ok(rest.split_once(to).ok_or("no array")?.0)
}

fn parse<B: Engine>(bytes: &[u8]) -> Outcome<Value<B>> {
    let device = Default::default();
    let length = usize::from(u16::from_le_bytes(bytes[8..10].try_into()?));
    let (header, data) = bytes[10..].split_at(length);
    let header = std::str::from_utf8(header)?;
    let sizes = between(header, "'shape': (", ")")?.split(',').map(str::trim);
    let sizes = sizes.filter(|size| !size.is_empty());
    let shape = sizes.map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    Ok(match between(header, "'descr': '", "'")? {
        "<f4" => {
            let words = data.as_chunks().0.iter();
            Value::of_floats(words.map(|word| f32::from_le_bytes(*word)).collect(), shape, &device)
        }
        "<i8" => {
            let words = data.as_chunks().0.iter();
            Value::of_ints(words.map(|word| i64::from_le_bytes(*word)).collect(), shape, &device)
        }
        "|b1" => Value::of_bools(data.iter().map(|&byte| byte != 0).collect(), shape, &device),
        other => return Err(format!("an array of type {other}").into()),
    })
}

/// The file of a tensor.
pub fn bytes<B: Engine>(value: Value<B>) -> Outcome<Vec<u8>> {
    let mut shape = String::new();
    value.shape().iter().for_each(|size| shape += &format!("{size}, "));
    let (descr, data): (&str, Vec<u8>) = match value {
        Value::Float(_) => {
            ("<f4", value.to_floats()?.into_iter().flat_map(f32::to_le_bytes).collect())
        }
        Value::Int(_) => ("<i8", value.to_ints()?.into_iter().flat_map(i64::to_le_bytes).collect()),
        Value::Bool(_) => ("|b1", value.to_ints()?.into_iter().map(|value| value as u8).collect()),
    };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape})}}");
    header += &" ".repeat(63 - (header.len() + 10) % 64);
    header += "\n";
    let length = u16::try_from(header.len())?.to_le_bytes();
    Ok([b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &data].concat())
}
