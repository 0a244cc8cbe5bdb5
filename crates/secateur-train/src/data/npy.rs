//! The `.npy` and `.npz` formats of NumPy
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::path::Path;

use bytes::Bytes;
use secateur::{Error, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::Array;
use super::file::{malformed, read, replace, up_to};
use super::raw::{ByteOrder, Element, RawArray, byte_len};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy pads headers so that the data starts at a multiple of this.
const ALIGNMENT: usize = 64;

/// The array of a `.npy` file.
pub(crate) fn read_npy(path: &Path) -> Result<RawArray> {
    let bytes = read(path)?;
    parse(&mut Cursor::new(bytes)).map_err(|error| error.at(format!("`{}`", path.display())))
}

/// The named arrays of a `.npz` file, in its order.
pub(crate) fn read_npz(path: &Path) -> Result<Vec<(String, RawArray)>> {
    let broken = |error: zip::result::ZipError| {
        malformed(path, format!("not a readable archive: {error}"))
            .hint("write it with `numpy.savez` or `numpy.savez_compressed`")
    };
    let mut zip = ZipArchive::new(Cursor::new(read(path)?)).map_err(broken)?;
    let mut arrays = Vec::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(broken)?;
        let file_name = entry.name().map_err(broken)?.into_owned();
        let name = file_name.strip_suffix(".npy").ok_or_else(|| {
            malformed(path, format!("`{file_name}` in it is not a `.npy` file"))
                .hint("write it with `numpy.savez`")
        })?;
        let place = format!("`{}`, array `{name}`", path.display());
        arrays.push((name.to_owned(), parse(&mut entry).map_err(|error| error.at(place))?));
    }
    Ok(arrays)
}

/// Writes named arrays as a `.npz` file, which replaces a file that stands there when it is
/// complete. Real numbers are stored in 32 bits, integers in 64.
///
/// # Errors
/// When an array's shape and length differ, a name appears twice, or writing fails.
pub fn write_npz(path: &Path, arrays: &[(String, Array)]) -> Result<()> {
    for (index, (name, array)) in arrays.iter().enumerate() {
        array.check().map_err(|error| error.at(format!("array `{name}`")))?;
        if arrays.iter().take(index).any(|(other, _)| other == name) {
            return Err(Error::argument(format!("two arrays are named `{name}`"))
                .hint("give each array its own name"));
        }
    }
    replace(path, |file| write_entries(file, arrays))
}

fn write_entries(file: &mut File, arrays: &[(String, Array)]) -> io::Result<()> {
    let mut zip = ZipWriter::new(BufWriter::new(file));
    for (name, array) in arrays {
        let large = array.len() >= (u32::MAX / 16) as usize;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(large);
        zip.start_file(format!("{name}.npy"), options)?;
        write_array(&mut zip, array)?;
    }
    zip.finish()?.flush()
}

fn write_array(sink: &mut impl Write, array: &Array) -> io::Result<()> {
    match array {
        Array::Float(values, shape) => {
            write_header(sink, "<f4", shape)?;
            write_words(sink, values, |value| value.to_le_bytes())
        }
        Array::Int(values, shape) => {
            write_header(sink, "<i8", shape)?;
            write_words(sink, values, |value| value.to_le_bytes())
        }
        Array::Bool(values, shape) => {
            write_header(sink, "|b1", shape)?;
            write_words(sink, values, |value| [u8::from(*value)])
        }
    }
}

fn write_header(sink: &mut impl Write, descr: &str, shape: &[usize]) -> io::Result<()> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
    let len = u16::try_from(text.len() + padding + 1).map_err(io::Error::other)?;
    sink.write_all(MAGIC)?;
    sink.write_all(&[1, 0])?;
    sink.write_all(&len.to_le_bytes())?;
    writeln!(sink, "{text}{:padding$}", "")
}

fn write_words<T, const N: usize>(
    sink: &mut impl Write,
    values: &[T],
    bytes: impl Fn(&T) -> [u8; N],
) -> io::Result<()> {
    const CHUNK: usize = 1 << 14;
    values.chunks(CHUNK).try_for_each(|chunk| {
        let chunk: Vec<u8> = chunk.iter().flat_map(&bytes).collect();
        sink.write_all(&chunk)
    })
}

/// Reads one array to its end.
fn parse(source: &mut impl Read) -> Result<RawArray> {
    let header = Header::parse(&header_text(source)?)?;
    let expected = byte_len(header.element, &header.shape)?;
    let data = up_to(source, expected.saturating_add(1)).map_err(unreadable)?;
    let Header { element, order, shape, layout } = header;
    match layout {
        Layout::Rows => RawArray::new(element, order, shape, data.into()),
        Layout::Columns => {
            let reversed = shape.iter().rev().copied().collect();
            let array = RawArray::new(element, order, reversed, data.into())?;
            let data = transposed(array.bytes(), &shape, element.size());
            RawArray::new(element, order, shape, data)
        }
    }
}

fn unreadable(source: io::Error) -> Error {
    Error::malformed(format!("the data cannot be read: {source}"))
        .hint("the file is cut off or damaged: get it again")
}

/// The dictionary before the data.
fn header_text(source: &mut impl Read) -> Result<String> {
    let no_array = || {
        Error::malformed("it does not start as an array of NumPy does")
            .hint("write it with `numpy.save`")
    };
    let start = up_to(&mut *source, 8).map_err(unreadable)?;
    let version = match start.strip_prefix(MAGIC) {
        Some([version @ 1..=3, _]) => *version,
        _ => return Err(no_array()),
    };
    let width = if version == 1 { 2 } else { 4 };
    let len = up_to(&mut *source, width).map_err(unreadable)?;
    let len = len.iter().rev().fold(0_u64, |len, &byte| len << 8 | u64::from(byte));
    let text = up_to(source, len).map_err(unreadable)?;
    String::from_utf8(text).map_err(|_| no_array())
}

#[derive(Debug)]
enum Layout {
    Rows,
    Columns,
}

/// What stands before the data.
#[derive(Debug)]
struct Header {
    element: Element,
    order: ByteOrder,
    layout: Layout,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Result<Self> {
        let broken = || Error::malformed(format!("the header `{}` is not valid", text.trim()));
        let layout = match word(text, "fortran_order").ok_or_else(broken)? {
            rest if rest.starts_with("False") => Layout::Rows,
            rest if rest.starts_with("True") => Layout::Columns,
            _ => return Err(broken()),
        };
        let shape = word(text, "shape").and_then(sizes).ok_or_else(broken)?;
        let descr = word(text, "descr").ok_or_else(broken)?;
        let (element, order) = element(descr)?;
        Ok(Self { element, order, layout, shape })
    }
}

/// What follows a key of the dictionary.
fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

/// The integers of a tuple.
fn sizes(text: &str) -> Option<Vec<usize>> {
    let (inside, _) = text.strip_prefix('(')?.split_once(')')?;
    let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
    sizes.map(|size| size.parse().ok()).collect()
}

fn element(descr: &str) -> Result<(Element, ByteOrder)> {
    let code = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
    let code = code.map_or_else(|| fields(descr), |(code, _)| code);
    let order = if code.starts_with('>') { ByteOrder::Big } else { ByteOrder::Little };
    let element = match code.trim_start_matches(['<', '>', '|', '=']) {
        "b1" => Element::Bool,
        "u1" => Element::U8,
        "i1" => Element::I8,
        "u2" => Element::U16,
        "i2" => Element::I16,
        "u4" => Element::U32,
        "i4" => Element::I32,
        "u8" => Element::U64,
        "i8" => Element::I64,
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        _ => {
            return Err(Error::unsupported(format!("elements of type `{code}`"))
                .hint("convert the array with `astype` to numbers or truth values"));
        }
    };
    Ok((element, order))
}

/// The description of elements that have several fields.
fn fields(descr: &str) -> &str {
    let end = descr.find(", 'fortran_order'").unwrap_or(descr.len());
    descr.get(..end).unwrap_or(descr)
}

/// Row-major data from column-major data that is as long as the shape says.
fn transposed(data: &[u8], shape: &[usize], size: usize) -> Bytes {
    let strides = shape.iter().scan(size, |stride, &len| {
        let own = *stride;
        *stride = own.saturating_mul(len);
        Some(own)
    });
    let axes: Vec<_> = shape.iter().copied().zip(strides).collect();
    let mut index = vec![0; axes.len()];
    let mut out = Vec::with_capacity(data.len());
    while out.len() < data.len() {
        let start: usize = index.iter().zip(&axes).map(|(at, (_, stride))| at * stride).sum();
        out.extend_from_slice(data.get(start..start + size).unwrap_or_default());
        for (at, (len, _)) in index.iter_mut().zip(&axes).rev() {
            *at += 1;
            if *at < *len {
                break;
            }
            *at = 0;
        }
    }
    out.into()
}
