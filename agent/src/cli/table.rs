//! Aligned columns: as wide as their widest cell, three spaces apart, nothing
//! cut off.

use std::io::{self, Write};

const GAP: &str = "   ";

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    header: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. A name that starts with `>` is a column of
    /// numbers, set to the right.
    pub fn new(columns: &[&str]) -> Self {
        Self {
            header: columns.iter().map(|name| name.trim_start_matches('>').to_owned()).collect(),
            right: columns.iter().map(|name| name.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one cell a column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.header.len(), "a cell for each column");
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Writes header and rows, each line after `indent`.
    ///
    /// # Errors
    /// The stream's.
    pub fn write(&self, out: &mut dyn Write, indent: &str) -> io::Result<()> {
        let mut widths: Vec<usize> = self.header.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::from(indent);
            for (column, cell) in row.iter().enumerate() {
                let fill = " ".repeat(widths[column] - cell.chars().count());
                if column > 0 {
                    line.push_str(GAP);
                }
                match self.right[column] {
                    true => line.push_str(&format!("{fill}{cell}")),
                    false => line.push_str(&format!("{cell}{fill}")),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// One line of text that cannot command the terminal: line ends become spaces,
/// other control characters their escapes.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\r' | '\t' => safe.push(' '),
            c if c.is_control() => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

/// What an absent value looks like, kubectl's way.
pub fn or_none(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "<none>".into())
}

/// A list in one cell.
pub fn joined<T: ToString>(items: &[T]) -> String {
    or_none(Some(items.iter().map(T::to_string).collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &Table, want: &[&str]) {
        let mut out = Vec::new();
        table.write(&mut out, "").unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", ">SIZE", "NOTE"]);
        table.row(["a".into(), "5".into(), "é\u{1b}[2J\n".into()]);
        table.row(["longer".into(), "12345".into(), String::new()]);
        check(&table, &["NAME      SIZE   NOTE", "a            5   é\\u{1b}[2J", "longer   12345"]);
    }

    #[test]
    fn an_empty_table_still_has_its_header() {
        check(&Table::new(&["NAME", "AGE"]), &["NAME   AGE"]);
    }
}
