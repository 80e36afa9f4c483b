//! How far a pull is, for the eye.

use crate::api::PullLayerView;
use crate::cli::exec;
use crate::cli::quantity::bytes;
use crate::cli::streams::Streams;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

/// Digits of a digest that tell layers apart.
const DIGITS: usize = 12;
/// Characters of a line besides its bar.
const WORDS: usize = DIGITS + 40;
/// Characters of a bar at most.
const BAR_MAX: usize = 40;

/// Draws on stderr: bars that are drawn anew on a terminal, elsewhere a line whenever a
/// layer goes on to its next phase.
pub(super) struct Display<'a> {
    streams: &'a Streams,
    terminal: bool,
    /// Lines of the last drawing, which the next one replaces.
    drawn: usize,
    phases: BTreeMap<String, String>,
}

impl<'a> Display<'a> {
    pub(super) fn new(streams: &'a Streams) -> Self {
        Self { streams, terminal: streams.stderr.is_terminal(), drawn: 0, phases: BTreeMap::new() }
    }

    pub(super) fn show(&mut self, layers: &[PullLayerView]) {
        if !self.terminal {
            for layer in layers {
                if self.phases.insert(layer.digest.clone(), layer.phase.clone()).as_ref() != Some(&layer.phase) {
                    self.streams.note(&format!("{}: {}", short(&layer.digest), layer.phase));
                }
            }
            return;
        }
        let (rows, columns) = exec::window_size(self.streams.stderr.as_fd()).unwrap_or((24, 80));
        let lines = lines(layers, rows.into(), columns.into());
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        for line in &lines {
            text += &format!("\r\x1b[2K{line}\n");
        }
        // What is left of a longer drawing.
        text += "\x1b[J";
        self.drawn = lines.len();
        let _ = (&self.streams.stderr).write_all(text.as_bytes());
    }
}

/// A line a layer. Where they do not fit, those that are finished are only counted.
fn lines(layers: &[PullLayerView], rows: usize, columns: usize) -> Vec<String> {
    let finished = |layer: &&PullLayerView| matches!(layer.phase.as_str(), "done" | "exists");
    let room = rows.saturating_sub(2).max(1);
    if layers.len() <= room {
        return layers.iter().map(|layer| line(layer, columns)).collect();
    }
    let open = layers.iter().filter(|layer| !finished(layer)).take(room - 1);
    let mut lines: Vec<String> = open.map(|layer| line(layer, columns)).collect();
    let all = format!("{} of {} layers are here", layers.iter().filter(finished).count(), layers.len());
    lines.push(all.chars().take(columns.saturating_sub(1)).collect());
    lines
}

fn line(layer: &PullLayerView, columns: usize) -> String {
    let width = columns.saturating_sub(WORDS).min(BAR_MAX);
    let whole = layer.total_bytes.max(1);
    let come = if matches!(layer.phase.as_str(), "done" | "exists") { whole } else { layer.done_bytes.min(whole) };
    let full = usize::try_from(u128::from(come) * width as u128 / u128::from(whole)).unwrap_or(width);
    let bar = format!("[{}{}]", "=".repeat(full), " ".repeat(width - full));
    let bar = if width == 0 { String::new() } else { bar };
    let of = match layer.phase.as_str() {
        "downloading" => format!("{}/{}", bytes(layer.done_bytes), bytes(layer.total_bytes)),
        _ => bytes(layer.total_bytes),
    };
    let text = format!("{} {:<11} {bar} {of}", short(&layer.digest), layer.phase);
    // One that wraps would not be drawn over.
    text.chars().take(columns.saturating_sub(1)).collect()
}

fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..DIGITS).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digit: &str, phase: &str, done_bytes: u64) -> PullLayerView {
        let digest = format!("sha256:{}", digit.repeat(64));
        PullLayerView { digest, phase: phase.to_owned(), done_bytes, total_bytes: 2048 }
    }

    #[test]
    fn a_line_a_layer() {
        let check = |layer: PullLayerView, columns, want: &str| assert_eq!(line(&layer, columns), want);
        check(layer("a", "downloading", 1024), 62, "aaaaaaaaaaaa downloading [=====     ] 1.00KiB/2.00KiB");
        check(layer("b", "exists", 0), 62, "bbbbbbbbbbbb exists      [==========] 2.00KiB");
        check(layer("c", "waiting", 0), 30, "cccccccccccc waiting      2.0");
        check(layer("d", "unpacking", 9999), 57, "dddddddddddd unpacking   [=====] 2.00KiB");
    }

    #[test]
    fn more_layers_than_rows() {
        let layers: Vec<PullLayerView> =
            (0..9).map(|n| layer(&n.to_string(), if n < 5 { "done" } else { "waiting" }, 0)).collect();
        assert_eq!(lines(&layers, 24, 80).len(), 9);
        let few = lines(&layers, 5, 80);
        assert_eq!(few.len(), 3, "{few:?}");
        assert!(few[0].starts_with("555555555555 waiting"), "{few:?}");
        assert_eq!(few[2], "5 of 9 layers are here");
    }
}
