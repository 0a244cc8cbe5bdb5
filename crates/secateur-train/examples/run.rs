//! Runs models on arrays: `run MODEL INPUTS OUTPUTS`, as often as there are such triples. `INPUTS` and
//! `OUTPUTS` are folders of numpy's files `0.npy`, `1.npy`, … in the order of the model's inputs and
//! outputs, of 32-bit floats, 64-bit integers or truth values. It prints one line per model: `ok`, or
//! why not.

use std::error::Error;
use std::fs;
use std::path::Path;

use secateur::Model;
use secateur_train::{Context, Cpu, Program, Value};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for case in arguments.chunks_exact(3) {
        match run(&case[0], Path::new(&case[1]), Path::new(&case[2])) {
            Ok(()) => println!("ok"),
            Err(error) => println!("{}", error.to_string().replace('\n', " ")),
        }
    }
}

fn run(model: &str, inputs: &Path, outputs: &Path) -> Outcome<()> {
    let model = Model::open(Path::new(model), &Default::default())?;
    let program = Program::new(&model)?;
    let mut cx = Context::<Cpu>::new(Default::default());
    let stored = program.load(&cx.device)?;
    let mut values = Vec::new();
    while let Ok(bytes) = fs::read(inputs.join(format!("{}.npy", values.len()))) {
        values.push(parse(&bytes, &cx)?);
    }
    for (index, value) in program.forward(&stored, values, &mut cx)?.into_iter().enumerate() {
        fs::write(outputs.join(format!("{index}.npy")), bytes(value)?)?;
    }
    Ok(())
}

/// The text between two marks of a header.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Outcome<&'a str> {
    let rest = text.split_once(from).ok_or("no array")?.1;
    Ok(rest.split_once(to).ok_or("no array")?.0)
}

fn parse(bytes: &[u8], cx: &Context<Cpu>) -> Outcome<Value<Cpu>> {
    let length = usize::from(u16::from_le_bytes(bytes[8..10].try_into()?));
    let (header, data) = bytes[10..].split_at(length);
    let header = std::str::from_utf8(header)?;
    let sizes = between(header, "'shape': (", ")")?.split(',').map(str::trim);
    let sizes = sizes.filter(|size| !size.is_empty());
    let shape = sizes.map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    Ok(match between(header, "'descr': '", "'")? {
        "<f4" => {
            let words = data.as_chunks().0.iter();
            Value::of_floats(
                words.map(|word| f32::from_le_bytes(*word)).collect(),
                shape,
                &cx.device,
            )
        }
        "<i8" => {
            let words = data.as_chunks().0.iter();
            Value::of_ints(words.map(|word| i64::from_le_bytes(*word)).collect(), shape, &cx.device)
        }
        "|b1" => Value::of_bools(data.iter().map(|&byte| byte != 0).collect(), shape, &cx.device),
        other => return Err(format!("an array of type {other}").into()),
    })
}

fn bytes(value: Value<Cpu>) -> Outcome<Vec<u8>> {
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
