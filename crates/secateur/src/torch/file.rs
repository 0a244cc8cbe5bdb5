//! A `.pt2` file: its archive, its program, and the tensors that it stores.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::archive::Archive;
use super::import::{Code, Imported, Parameter, Stored as Names, import};
use super::schema::{Meta, Payloads, Program, Size};
use crate::disk::Mapped;
use crate::tensor::{TensorView, byte_len};
use crate::{DType, Error, Result};

/// A `.pt2` file, mapped and read.
#[derive(Clone, Debug)]
pub struct TorchFile {
    pub(super) archive: Archive,
    pub(super) program: Program,
    /// The entry that holds the program.
    pub(super) program_entry: usize,
    /// The descriptions of weights and of constants, and the entries that hold them.
    pub(super) payloads: Vec<(usize, Payloads)>,
    pub(super) stored: Vec<Stored>,
    /// Stored tensors by the names that the program has for them.
    pub(super) names: HashMap<String, u32>,
}

/// A stored tensor.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Its names: the list that describes it, and the name there.
    pub(super) names: Vec<(usize, String)>,
    pub(super) entry: usize,
    pub(super) dtype: DType,
    pub(super) dims: Vec<usize>,
    /// The axes from the outermost in memory to the innermost.
    pub(super) order: Vec<usize>,
    /// Where it stands in the entry.
    range: Range<usize>,
    /// Whether another tensor shares a part of its memory.
    shared: bool,
}

/// The folders of stored tensors, and how their descriptions are called.
const FOLDERS: [(&str, &str); 2] =
    [("data/weights/", "_weights_config.json"), ("data/constants/", "_constants_config.json")];

impl TorchFile {
    /// Whether a file starts like one.
    pub fn is_one(start: &[u8]) -> bool {
        Archive::is_one(start)
    }

    /// Maps and reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no exported program of a version that is read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(Archive::open(path)?)
    }

    /// Reads a file that is in memory; `path` names it in messages.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn parse(bytes: Bytes, path: &Path) -> Result<Self> {
        Self::read(Archive::read(Mapped::from_bytes(bytes), path)?)
    }

    fn read(archive: Archive) -> Result<Self> {
        let (program_entry, name) = find_program(&archive)?;
        let order = archive.find("byteorder").map(|entry| archive.bytes(entry));
        if order.is_some_and(|order| order[..] != *b"little") {
            return Err(Error::unsupported("the weights are not little-endian"));
        }
        let file = |error: Error| error.at(format!("`{}`", archive.path().display()));
        let program = text(&archive, program_entry).and_then(Program::parse).map_err(file)?;
        let mut payloads = Vec::new();
        for (folder, suffix) in FOLDERS {
            if let Some(entry) = archive.find(&format!("{folder}{name}{suffix}")) {
                let list = text(&archive, entry).and_then(Payloads::parse).map_err(file)?;
                payloads.push((entry, folder, list));
            }
        }
        let mut file = TorchFile {
            archive,
            program,
            program_entry,
            payloads: Vec::new(),
            stored: Vec::new(),
            names: HashMap::new(),
        };
        let texts: Vec<usize> = payloads.iter().map(|(entry, ..)| *entry).collect();
        for (index, (entry, folder, list)) in payloads.into_iter().enumerate() {
            file.add_stored(index, folder, &list, &texts)?;
            file.payloads.push((entry, list));
        }
        Ok(file)
    }

    /// Lists the stored tensors of a folder. One that is no dense tensor has no number.
    fn add_stored(
        &mut self,
        list: usize,
        folder: &str,
        payloads: &Payloads,
        texts: &[usize],
    ) -> Result<()> {
        let mut by_path: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let mut unread: HashSet<&str> = HashSet::new();
        for (name, payload) in &payloads.entries {
            let entry = self.archive.find(&format!("{folder}{}", payload.path));
            let Some(entry) = entry else {
                let text = format!("`{name}` is in `{}`, which is missing", payload.path);
                return Err(Error::malformed(text));
            };
            if texts.contains(&entry) {
                let text = format!("`{name}` is in `{}`, which is no tensor", payload.path);
                return Err(Error::malformed(text));
            }
            let size = self.archive.bytes(entry).len();
            let at = |error: Error| error.at(format!("`{name}` in `{}`", payload.path));
            let stored = payload.meta.as_ref().map(|meta| stored(meta, entry, size));
            let Some(new) = stored.transpose().map_err(at)?.flatten() else {
                unread.insert(&payload.path);
                continue;
            };
            let views = by_path.entry(&payload.path).or_default();
            let same = |&&view: &&u32| {
                let old = &self.stored[view as usize];
                (&old.dims, &old.order, &old.range) == (&new.dims, &new.order, &new.range)
            };
            let index = match views.iter().find(same) {
                Some(&index) => index,
                None => {
                    let index = self.stored.len() as u32;
                    self.stored.push(new);
                    views.push(index);
                    index
                }
            };
            self.stored[index as usize].names.push((list, name.clone()));
            self.names.insert(name.clone(), index);
        }
        let shared = |path: &str, views: &[u32]| views.len() > 1 || unread.contains(path);
        for (_, views) in by_path.iter().filter(|(path, views)| shared(path, views)) {
            for &view in views {
                self.stored[view as usize].shared = true;
            }
        }
        Ok(())
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.archive.path()
    }

    /// The file's size.
    pub fn byte_size(&self) -> u64 {
        self.archive.byte_size()
    }

    /// The version of PyTorch that wrote it.
    pub fn torch_version(&self) -> &str {
        &self.program.torch_version
    }

    /// The calls in the program, by operator.
    pub fn operators(&self) -> impl Iterator<Item = &str> {
        self.program.nodes.iter().map(|node| super::import::short(&node.target))
    }

    /// Reads the program's main graph.
    pub(crate) fn import(&self) -> Result<Imported> {
        let parameters = self.parameters();
        let names = Names { parameters: &parameters, names: &self.names };
        import(&self.program, names, Code::Program)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let parameter = |stored: &Stored| Parameter {
            name: stored.names.first().map(|(_, name)| name.clone()).unwrap_or_default(),
            dtype: stored.dtype,
            dims: stored.dims.clone(),
            shared: stored.shared,
        };
        self.stored.iter().map(parameter).collect()
    }

    /// The elements of a stored tensor in the order of memory.
    pub(super) fn raw(&self, stored: &Stored) -> Bytes {
        self.archive.bytes(stored.entry).slice(stored.range.clone())
    }

    /// What a stored tensor is called.
    pub(crate) fn stored_name(&self, index: u32) -> Option<String> {
        self.stored.get(index as usize)?.names.first().map(|(_, name)| name.clone())
    }

    /// Where a stored tensor stands, entry and bytes, and other elements as they would stand there.
    pub(super) fn filled(
        &self,
        index: u32,
        view: &TensorView,
    ) -> Result<(usize, Range<usize>, Vec<u8>)> {
        let stored = self.stored.get(index as usize);
        let stored = stored.ok_or_else(|| Error::malformed(format!("no tensor {index}")))?;
        if (stored.dtype, &stored.dims) != (view.dtype, &view.dims) {
            let (found, dims) = (view.dtype, &view.dims);
            let text = format!("{found} {dims:?} in place of {} {:?}", stored.dtype, stored.dims);
            return Err(Error::argument(text));
        }
        Ok((stored.entry, stored.range.clone(), stored.in_memory(&view.data)))
    }

    /// A stored tensor, row-major.
    pub(super) fn view(&self, index: u32) -> Result<TensorView> {
        let stored = self.stored.get(index as usize);
        let stored = stored.ok_or_else(|| Error::malformed(format!("no tensor {index}")))?;
        let data = self.raw(stored);
        let data = if stored.is_row_major() { data } else { stored.row_major(&data).into() };
        TensorView::new(stored.dtype, stored.dims.clone(), data)
    }
}

impl Stored {
    fn is_row_major(&self) -> bool {
        self.order.iter().copied().eq(0..self.dims.len())
    }

    /// Elements that stand in another order in memory, row-major.
    fn row_major(&self, data: &[u8]) -> Vec<u8> {
        let size = self.dtype.size().unwrap_or(1);
        let mut result = Vec::with_capacity(data.len());
        self.visit(data.len(), |at| result.extend_from_slice(&data[at..at + size]));
        result
    }

    /// Row-major elements, in the order of memory.
    fn in_memory(&self, data: &[u8]) -> Vec<u8> {
        let size = self.dtype.size().unwrap_or(1);
        let mut result = vec![0; data.len()];
        let mut elements = data.chunks(size);
        self.visit(data.len(), |at| {
            elements.next().into_iter().for_each(|e| result[at..at + size].copy_from_slice(e));
        });
        result
    }

    /// Tells where every element is in memory, in row-major order.
    fn visit(&self, len: usize, mut visit: impl FnMut(usize)) {
        let size = self.dtype.size().unwrap_or(1);
        let mut strides = vec![0; self.dims.len()];
        let mut step = size;
        for &axis in self.order.iter().rev() {
            strides[axis] = step;
            step *= self.dims[axis];
        }
        let mut place = vec![0; self.dims.len()];
        let mut at = 0;
        for _ in 0..len / size.max(1) {
            visit(at);
            for axis in (0..place.len()).rev() {
                place[axis] += 1;
                at += strides[axis];
                if place[axis] < self.dims[axis] {
                    break;
                }
                at -= strides[axis] * self.dims[axis];
                place[axis] = 0;
            }
        }
    }
}

/// The program's entry, and the name of its model.
fn find_program(archive: &Archive) -> Result<(usize, String)> {
    let models = archive
        .below("models/")
        .filter_map(|(entry, name)| Some((entry, name.strip_suffix(".json")?.to_string())));
    let found = models.min_by_key(|(entry, name)| (name != "model", *entry));
    found.ok_or_else(|| {
        let has = |name: &str| archive.find(name).is_some();
        let error = Error::unsupported("there is no exported program in this archive");
        if has("serialized_exported_program.json") || has("serialized_state_dict.pt") {
            return error.hint(
                "it was written by an older PyTorch: load and save it with a current one, \
                 `torch.export.save(torch.export.load(FILE), FILE)`",
            );
        }
        if has("data.pkl") {
            return error.hint(
                "it was written by `torch.save`: write the model with \
                 `torch.export.save(torch.export.export(model, inputs), FILE)`",
            );
        }
        error.hint("write the model with `torch.export.save`")
    })
}

fn text(archive: &Archive, entry: usize) -> Result<String> {
    let text = String::from_utf8(archive.bytes(entry).to_vec());
    text.map_err(|error| Error::malformed(error.utf8_error()))
}

/// A tensor that fills a part of an entry without gaps; `None` for another.
fn stored(meta: &Meta, entry: usize, size: usize) -> Result<Option<Stored>> {
    let open = meta.sizes.iter().chain(&meta.strides).any(Size::is_open);
    let Some(dtype) = meta.dtype.filter(|_| meta.strided && !open && size > 0) else {
        return Ok(None);
    };
    let (dims, strides) = (numbers(&meta.sizes)?, numbers(&meta.strides)?);
    let offset = usize::try_from(meta.offset).map_err(|_| negative())?;
    let Some(width) = dtype.size() else { return Ok(None) };
    let end = end(&dims, &strides, offset).and_then(|end| end.checked_mul(width));
    if end.is_none_or(|end| end > size) {
        return Err(Error::malformed(format!("its elements do not fit into {size} bytes")));
    }
    let Some(order) = dense_order(&dims, &strides) else { return Ok(None) };
    let len = byte_len(dtype, &dims)?;
    let start = if len == 0 { 0 } else { offset * width };
    let range = start..start + len;
    Ok(Some(Stored { names: Vec::new(), entry, dtype, dims, order, range, shared: false }))
}

fn numbers(sizes: &[Size]) -> Result<Vec<usize>> {
    let number = |size: &Size| size.value.and_then(|value| usize::try_from(value).ok());
    sizes.iter().map(|size| number(size).ok_or_else(negative)).collect()
}

fn negative() -> Error {
    Error::malformed("a negative size, stride or offset")
}

/// The number of elements up to and with the last one in memory.
fn end(dims: &[usize], strides: &[usize], offset: usize) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    let steps = dims.iter().zip(strides);
    steps
        .map(|(&size, &stride)| (size - 1).checked_mul(stride))
        .try_fold(offset.checked_add(1)?, |end, step| end.checked_add(step?))
}

/// The axes from the outermost in memory to the innermost, if there are no gaps.
pub(super) fn dense_order(dims: &[usize], strides: &[usize]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..dims.len()).collect();
    // The stride of an axis of size 1 says nothing: such axes stay where they are.
    let mut large: Vec<usize> = order.iter().copied().filter(|&axis| dims[axis] > 1).collect();
    let slots = large.clone();
    large.sort_by_key(|&axis| std::cmp::Reverse(strides[axis]));
    for (slot, axis) in slots.into_iter().zip(large) {
        order[slot] = axis;
    }
    let mut step = 1_usize;
    for &axis in order.iter().rev().filter(|&&axis| dims[axis] > 1) {
        if strides[axis] != step {
            return None;
        }
        step = step.checked_mul(dims[axis])?;
    }
    Some(order)
}
