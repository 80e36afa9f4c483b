//! Figures, as a table and as JSON.

use serde::Serialize;
use std::io;
use std::path::Path;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// `BENCH/WHAT`.
    pub name: String,
    /// Median, if not said otherwise by the name.
    pub value: f64,
    /// `ms`, `s`, `KiB`, `MiB`, `us`.
    pub unit: &'static str,
    /// What it is compared with.
    pub peer: Option<String>,
    /// The peer's figure, in the same unit.
    pub peer_value: Option<f64>,
    /// Value by peer's value.
    pub ratio: Option<f64>,
    /// In words: `ratio <= 1.5` or `value <= 2`.
    pub goal: Option<String>,
    /// Whether the goal is met; `None` without one.
    pub holds: Option<bool>,
}

impl Figure {
    /// A figure without peer and goal.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let name = name.into();
        Self { name, value, unit, peer: None, peer_value: None, ratio: None, goal: None, holds: None }
    }

    /// Compared with a peer.
    #[must_use]
    pub fn against(mut self, peer: impl Into<String>, peer_value: f64) -> Self {
        self.peer = Some(peer.into());
        self.peer_value = Some(peer_value);
        self.ratio = (peer_value > 0.0).then_some(self.value / peer_value);
        self
    }

    /// The ratio is to be at most this.
    #[must_use]
    pub fn ratio_at_most(mut self, most: f64) -> Self {
        self.goal = Some(format!("ratio <= {most}"));
        self.holds = self.ratio.map(|ratio| ratio <= most);
        self
    }

    /// The value is to be at most this.
    #[must_use]
    pub fn at_most(mut self, most: f64) -> Self {
        self.goal = Some(format!("value <= {most}"));
        self.holds = Some(self.value <= most);
        self
    }

    fn cells(&self) -> [String; 6] {
        let number = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        let holds = match self.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        [
            self.name.clone(),
            format!("{} {}", number(self.value), self.unit),
            match (&self.peer, self.peer_value) {
                (Some(peer), Some(value)) => format!("{peer}: {} {}", number(value), self.unit),
                _ => String::new(),
            },
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            self.goal.clone().unwrap_or_default(),
            holds.to_owned(),
        ]
    }
}

/// What could not be measured.
#[derive(Debug, Clone, Serialize)]
struct Missing {
    name: String,
    why: String,
}

/// Figures side by side, as the README has them.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// What they are of.
    pub title: String,
    /// The columns' names.
    pub head: Vec<String>,
    /// As many cells a row as columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// As Markdown, the columns in line.
    pub fn markdown(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.head]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let rows: String = self.rows.iter().map(line).collect();
        format!("{}|-{}-|\n{rows}", line(&self.head), rule.join("-|-"))
    }
}

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
    tables: Vec<Table>,
    missing: Vec<Missing>,
    /// Load of the machine and the like, for the reader of the figures.
    notes: Vec<String>,
}

impl Report {
    /// Takes a figure, and tells it at once: a run takes minutes.
    pub fn add(&mut self, figure: Figure) {
        println!("  {}", figure.cells().join("  ").trim_end());
        self.figures.push(figure);
    }

    /// Takes a table, whose figures are told one by one, too.
    pub fn table(&mut self, table: Table) {
        println!("\n{}\n\n{}", table.title, table.markdown());
        self.tables.push(table);
    }

    /// Says what could not be measured and why.
    pub fn missing(&mut self, name: &str, why: &str) {
        self.missing.push(Missing { name: name.to_owned(), why: why.to_owned() });
    }

    /// Says something about the figures.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// As a table on standard output.
    pub fn print(&self) {
        let titles = ["FIGURE", "VALUE", "PEER", "RATIO", "GOAL", "HOLDS"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(titles).chain(self.figures.iter().map(Figure::cells)).collect();
        let widths: Vec<usize> = (0..6).map(|c| rows.iter().map(|row| row[c].len()).max().unwrap_or(0)).collect();
        println!();
        for row in &rows {
            let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            println!("{}", line.join("  ").trim_end());
        }
        for table in &self.tables {
            println!("\n{}\n\n{}", table.title, table.markdown());
        }
        for note in &self.notes {
            println!("note: {note}");
        }
        for missing in &self.missing {
            println!("not measured: {}: {}", missing.name, missing.why);
        }
    }

    /// As a JSON list of figures.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.figures)?;
        text.push('\n');
        std::fs::write(path, text)
    }
}

/// Value in the middle; of an even number of values the lower of the two.
///
/// # Panics
/// There are no values.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// Nearest-rank percentile.
///
/// # Panics
/// There are no values.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len());
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        for (values, percent, want) in [
            (&[3.0, 1.0, 2.0][..], 50, 2.0),
            (&[4.0, 1.0, 2.0, 3.0], 50, 2.0),
            (&[4.0, 1.0, 2.0, 3.0], 100, 4.0),
            (&[7.0], 95, 7.0),
        ] {
            assert!((percentile(values, percent) - want).abs() < f64::EPSILON, "{values:?} {percent}");
        }
    }

    #[test]
    fn goals_hold_or_not() {
        assert_eq!(Figure::new("a", 3.0, "ms").against("b", 2.0).ratio_at_most(1.5).holds, Some(true));
        assert_eq!(Figure::new("a", 3.1, "ms").against("b", 2.0).ratio_at_most(1.5).holds, Some(false));
        assert_eq!(Figure::new("a", 3.0, "ms").at_most(2.0).holds, Some(false));
        assert_eq!(Figure::new("a", 3.0, "ms").holds, None);
    }
}
