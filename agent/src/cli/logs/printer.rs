//! Joins the pieces of lines and writes them to the stream they came from.

use super::line::{self, Piece, Source};
use super::reader::{Open, stream};
use jiff::Timestamp;
use std::io::{self, Write};

/// A line is held back until it ends, or until it has so many bytes; then its
/// pieces go out as they come.
const JOINED_BYTES_MAX: usize = 1 << 20;

/// Writes lines.
pub struct Printer<'a> {
    out: [&'a mut dyn Write; 2],
    timestamps: bool,
    since: Option<Timestamp>,
    lines: [Line; 2],
}

#[derive(Debug, Default)]
struct Line {
    state: State,
    held: Vec<u8>,
}

/// Where a stream is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two lines.
    #[default]
    Between,
    /// In the middle of a line that is shown.
    Shown,
    /// In the middle of a line that is not.
    Skipped,
}

impl<'a> Printer<'a> {
    /// Writes to these; `skip` says which streams start in the middle of a line
    /// that nobody wants.
    pub fn new(
        stdout: &'a mut dyn Write,
        stderr: &'a mut dyn Write,
        timestamps: bool,
        since: Option<Timestamp>,
        skip: Open,
    ) -> Self {
        let lines =
            skip.map(|skip| Line { state: if skip { State::Skipped } else { State::Between }, ..Line::default() });
        Self { out: [stdout, stderr], timestamps, since, lines }
    }

    /// Takes a raw line. One that is not CRI's is shown as it is, on stdout.
    pub fn raw(&mut self, raw: &[u8]) -> io::Result<()> {
        match line::parse(raw) {
            Some(piece) => self.piece(piece),
            None => {
                self.out[0].write_all(raw)?;
                self.out[0].write_all(b"\n")
            }
        }
    }

    fn piece(&mut self, piece: Piece<'_>) -> io::Result<()> {
        let index = stream(piece.source);
        if self.lines[index].state == State::Between {
            let wanted = self.since.is_none_or(|since| piece.time.parse::<Timestamp>().is_ok_and(|time| time >= since));
            self.lines[index].state = if wanted { State::Shown } else { State::Skipped };
            if wanted && self.timestamps {
                self.lines[index].held.extend_from_slice(piece.time.as_bytes());
                self.lines[index].held.push(b' ');
            }
        }
        let Line { state, held } = &mut self.lines[index];
        if *state == State::Shown {
            held.extend_from_slice(piece.content);
            if !piece.partial {
                held.push(b'\n');
            }
        }
        if !piece.partial {
            *state = State::Between;
        }
        if !piece.partial || held.len() >= JOINED_BYTES_MAX {
            self.out[index].write_all(held)?;
            held.clear();
        }
        Ok(())
    }

    /// Writes what is held back: nothing more comes for now.
    pub fn flush(&mut self) -> io::Result<()> {
        for (line, out) in self.lines.iter_mut().zip(&mut self.out) {
            out.write_all(&line.held)?;
            line.held.clear();
            out.flush()?;
        }
        Ok(())
    }

    /// Ends lines that were cut off: their writer is gone.
    pub fn end_lines(&mut self) -> io::Result<()> {
        for source in [Source::Stdout, Source::Stderr] {
            let line = &mut self.lines[stream(source)];
            if line.state == State::Shown {
                line.held.push(b'\n');
            }
            line.state = State::Between;
        }
        self.flush()
    }
}
