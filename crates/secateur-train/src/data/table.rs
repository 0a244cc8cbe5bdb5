//! Small tables: a sample in each row, numbers in each column, and one column of targets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder, StringRecord};
use secateur::{Error, Result};

use super::arrays::check_finite;
use super::file::{argument, malformed, read_text};
use super::labels::count_classes;
use super::{Array, Batch, DataOptions, Dataset, Header, Targets, check_indices};

/// What stands in cells that have no value.
const MISSING: [&str; 7] = ["", "?", "-", "na", "n/a", "nan", "null"];

/// A table in memory.
#[derive(Debug)]
pub(crate) struct TableDataset {
    path: PathBuf,
    /// Row after row.
    features: Vec<f32>,
    columns: usize,
    targets: Column,
}

/// One target for each row.
#[derive(Debug)]
enum Column {
    Classes { labels: Vec<i64>, count: usize, names: Option<Vec<String>> },
    Numbers(Vec<f32>),
}

/// Opens a table of comma-separated values, or of tab-separated ones where its name says so.
pub(crate) fn open(path: &Path, options: &DataOptions) -> Result<TableDataset> {
    let table = Table::read(path, options.header)?;
    let label = table.label_column(options)?;
    let columns = table.width - 1;
    let mut features = Vec::new();
    for row in &table.rows {
        for column in (0..table.width).filter(|column| *column != label) {
            features.push(table.number(row, column)?);
        }
    }
    let targets = table.targets(label, options)?;
    Ok(TableDataset { path: path.to_owned(), features, columns, targets })
}

impl Dataset for TableDataset {
    fn len(&self) -> usize {
        match &self.targets {
            Column::Classes { labels, .. } => labels.len(),
            Column::Numbers(values) => values.len(),
        }
    }

    fn batch(&self, indices: &[usize], _augment: Option<u64>) -> Result<Batch> {
        check_indices(indices, self.len())?;
        let count = indices.len();
        let rows = indices.iter().filter_map(|&index| {
            self.features.get(index * self.columns..(index + 1) * self.columns)
        });
        let features = Array::Float(rows.flatten().copied().collect(), vec![count, self.columns]);
        let target = match &self.targets {
            Column::Classes { labels, .. } => Array::Int(pick(labels, indices), vec![count]),
            Column::Numbers(values) => Array::Float(pick(values, indices), vec![count, 1]),
        };
        check_finite(&features, indices)
            .and_then(|()| check_finite(&target, indices))
            .map_err(|error| error.at(format!("`{}`", self.path.display())))?;
        Ok(Batch { inputs: vec![features], target: Some(target) })
    }

    fn classes(&self) -> Option<usize> {
        match &self.targets {
            Column::Classes { count, .. } => Some(*count),
            Column::Numbers(_) => None,
        }
    }

    fn class_names(&self) -> Option<&[String]> {
        match &self.targets {
            Column::Classes { names, .. } => names.as_deref(),
            Column::Numbers(_) => None,
        }
    }
}

fn pick<T: Copy>(values: &[T], indices: &[usize]) -> Vec<T> {
    indices.iter().filter_map(|&index| values.get(index).copied()).collect()
}

/// The cells of a table, each row with its line in the file.
struct Table<'a> {
    path: &'a Path,
    names: Option<StringRecord>,
    rows: Vec<(u64, StringRecord)>,
    width: usize,
}

impl<'a> Table<'a> {
    fn read(path: &'a Path, header: Header) -> Result<Self> {
        let text = read_text(path)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let tabs = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
        let delimiter = if tabs { b'\t' } else { b',' };
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).trim(csv::Trim::All).delimiter(delimiter);
        let mut rows = Vec::new();
        for record in builder.from_reader(text.as_bytes()).into_byte_records() {
            let record = record.map_err(|error| uneven(path, text, &error))?;
            rows.push((line(text, record.position()), cells(path, record)?));
        }
        let names = match rows.first() {
            Some((_, first)) if names_columns(first, header) => Some(rows.remove(0).1),
            _ => None,
        };
        let width = rows.first().map_or(0, |(_, row)| row.len());
        let table = Self { path, names, rows, width };
        table.check().map(|()| table)
    }

    fn check(&self) -> Result<()> {
        match self.width {
            0 => {
                Err(malformed(self.path, "a table without rows").hint("give a sample in each row"))
            }
            1 => Err(malformed(self.path, "a table of one column").hint(
                "separate columns by commas, or by tabs in a `.tsv` file, with targets in the last",
            )),
            _ => Ok(()),
        }
    }

    fn label_column(&self, options: &DataOptions) -> Result<usize> {
        let Some(name) = &options.target else { return Ok(self.width - 1) };
        let found = self.names.iter().flatten().position(|column| column == name);
        found.ok_or_else(|| {
            let names: Vec<_> =
                self.names.iter().flatten().map(|name| format!("`{name}`")).collect();
            let names = if names.is_empty() { "no names".to_owned() } else { names.join(", ") };
            argument(self.path, format!("no column `{name}`, but {names}"))
                .hint("set `target` to the name of a column, or leave it out for the last")
        })
    }

    /// A cell, which must have a value.
    fn cell<'r>(&self, (line, row): &'r (u64, StringRecord), column: usize) -> Result<&'r str> {
        let cell = row.get(column).unwrap_or_default();
        if MISSING.iter().any(|missing| cell.eq_ignore_ascii_case(missing)) {
            return Err(malformed(
                self.path,
                format!("{} has no value", self.place(*line, column)),
            )
            .hint("fill in the value, or remove the row"));
        }
        Ok(cell)
    }

    fn number(&self, row: &(u64, StringRecord), column: usize) -> Result<f32> {
        let cell = self.cell(row, column)?;
        cell.parse().map_err(|_| {
            let place = self.place(row.0, column);
            malformed(self.path, format!("{place} is `{cell}`, not a number"))
                .hint("correct it, encode the column as numbers, or name the column of labels")
        })
    }

    fn place(&self, line: u64, column: usize) -> String {
        match self.names.as_ref().and_then(|names| names.get(column)) {
            Some(name) => format!("row {line}, column `{name}`"),
            None => format!("row {line}, column {}", column + 1),
        }
    }

    fn targets(&self, label: usize, options: &DataOptions) -> Result<Column> {
        if options.targets == Targets::Numbers {
            return self.numbers(label);
        }
        let cells: Vec<&str> =
            self.rows.iter().map(|row| self.cell(row, label)).collect::<Result<_>>()?;
        let integers: Option<Vec<i64>> = cells.iter().map(|cell| cell.parse().ok()).collect();
        if let Some(labels) = integers {
            let count = self.count(&labels, options)?;
            return Ok(Column::Classes { labels, count, names: None });
        }
        let numeric = cells.iter().all(|cell| cell.parse::<f32>().is_ok());
        match options.targets {
            Targets::Detect if numeric => self.numbers(label),
            _ => self.named_classes(&cells, options),
        }
    }

    fn numbers(&self, label: usize) -> Result<Column> {
        let values = self.rows.iter().map(|row| self.number(row, label));
        values.collect::<Result<_>>().map(Column::Numbers)
    }

    fn named_classes(&self, cells: &[&str], options: &DataOptions) -> Result<Column> {
        let names: Vec<&str> = cells.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let index = |cell: &&str| names.binary_search(cell).map_or(-1, |index| index as i64);
        let labels: Vec<i64> = cells.iter().map(index).collect();
        let count = self.count(&labels, options)?;
        let names = Some(names.into_iter().map(str::to_owned).collect());
        Ok(Column::Classes { labels, count, names })
    }

    fn count(&self, labels: &[i64], options: &DataOptions) -> Result<usize> {
        count_classes(labels, labels.len(), options.classes)
            .map_err(|error| error.at(format!("`{}`", self.path.display())))
    }
}

fn names_columns(first: &StringRecord, header: Header) -> bool {
    match header {
        Header::Present => true,
        Header::Absent => false,
        Header::Detect => first.iter().all(|cell| cell.parse::<f32>().is_err()),
    }
}

fn cells(path: &Path, record: ByteRecord) -> Result<StringRecord> {
    StringRecord::from_byte_record(record)
        .map_err(|error| malformed(path, format!("not UTF-8 text: {error}")))
}

/// The line where a record starts. Its position is that where the one before it ends.
fn line(text: &str, position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let rest = text.as_bytes().get(position.byte() as usize..).unwrap_or_default();
    let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + blank.filter(|byte| **byte == b'\n').count() as u64
}

fn uneven(path: &Path, text: &str, error: &csv::Error) -> Error {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = line(text, pos.as_ref());
            malformed(path, format!("row {line} has {len} cells, the first has {expected_len}"))
                .hint("give each row as many cells, and quote those that hold a separator")
        }
        _ => malformed(path, error).hint("save the table as comma-separated values"),
    }
}
