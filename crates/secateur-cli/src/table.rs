//! Tables without lines, that stay readable in pipes: two blanks between columns, numbers to the
//! right. Cells are never wrapped, so that names can be copied.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a heading per column.
pub fn headed(columns: &[(&str, Align)]) -> Table {
    let mut table = plain();
    let headings = columns.iter().map(|(name, _)| Cell::new(name).add_attribute(Attribute::Bold));
    table.set_header(headings);
    align(&mut table, columns.iter().map(|(_, align)| *align));
    table
}

/// A table without headings.
pub fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Aligns columns that have content.
pub fn align(table: &mut Table, aligns: impl Iterator<Item = Align>) {
    for (column, align) in table.column_iter_mut().zip(aligns) {
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
}

/// Appends a table, indented.
pub fn push(text: &mut String, table: &mut Table, indent: u16) {
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { indent } else { 0 }, 2));
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", table.trim_fmt());
}
