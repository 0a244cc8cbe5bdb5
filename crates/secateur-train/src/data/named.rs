//! Files of named arrays: `.npz`, `.npy` and safetensors.

use std::path::Path;

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors};
use secateur::Result;

use super::file::{malformed, read, unsupported};
use super::raw::{ByteOrder, Element, RawArray};
use super::{Array, Format, npy};

/// Reads the named arrays of a `.npz`, `.npy` or safetensors file, in the order of the archive,
/// or for safetensors in that of their names. The array of a `.npy` file has the file's name without
/// its extension. Real numbers are rounded to 32 bits.
///
/// # Errors
/// When the file is missing, damaged, of another format, or has elements that are no numbers.
pub fn read_arrays(path: &Path) -> Result<Vec<(String, Array)>> {
    let arrays = read_raw(path)?.into_iter().map(|(name, array)| {
        let place = format!("`{}`, array `{name}`", path.display());
        let array = array.all().map_err(|error| error.at(place))?;
        Ok((name, array))
    });
    arrays.collect()
}

/// The named arrays of a file, as they are stored.
pub(crate) fn read_raw(path: &Path) -> Result<Vec<(String, RawArray)>> {
    match Format::detect(path)? {
        Format::Npz => npy::read_npz(path),
        Format::Npy => {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Ok(vec![(name, npy::read_npy(path)?)])
        }
        Format::Safetensors => read_safetensors(path),
        _ => Err(unsupported(path, "not a file of named arrays")
            .hint("give a `.npz`, `.npy` or `.safetensors` file")),
    }
}

fn read_safetensors(path: &Path) -> Result<Vec<(String, RawArray)>> {
    let bytes = Bytes::from(read(path)?);
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        malformed(path, format!("not a valid safetensors file: {error}"))
            .hint("the file is cut off or damaged: get it again")
    })?;
    let arrays = file.iter().map(|(name, view)| {
        let element = element(view.dtype()).ok_or_else(|| {
            unsupported(path, format!("`{name}` has elements of type {}", view.dtype()))
                .hint("save it with elements of type F32")
        })?;
        let data = bytes.slice_ref(view.data());
        let array = RawArray::new(element, ByteOrder::Little, view.shape().to_vec(), data);
        array.map(|array| (name.to_owned(), array))
    });
    let mut arrays: Vec<_> = arrays.collect::<Result<_>>()?;
    arrays.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(arrays)
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::BOOL => Element::Bool,
        Dtype::U8 => Element::U8,
        Dtype::I8 => Element::I8,
        Dtype::U16 => Element::U16,
        Dtype::I16 => Element::I16,
        Dtype::U32 => Element::U32,
        Dtype::I32 => Element::I32,
        Dtype::U64 => Element::U64,
        Dtype::I64 => Element::I64,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        _ => return None,
    })
}
