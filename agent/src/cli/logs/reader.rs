//! Reads a container's log line after line, over rotated files and, when asked,
//! into the attempts that follow.

use super::line::{self, Source};
use super::segment::{self, Segment};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Where it is: which attempt, in which of its files.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    attempt: u32,
    current: Option<Segment>,
    queue: VecDeque<Segment>,
    onward: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A raw line without its end.
    Line(Vec<u8>),
    /// The lines after it are another attempt's.
    NextAttempt,
    /// Nothing more for now.
    End,
}

/// Which streams are in the middle of a line: stdout, stderr.
pub type Open = [bool; 2];

impl LogReader {
    /// Starts at the oldest line of an attempt; `onward` goes on into later ones.
    pub fn new(dir: &Path, attempt: u32, onward: bool) -> io::Result<Self> {
        let queue = segment::open_attempt(dir, attempt)?.into();
        Ok(Self { dir: dir.into(), attempt, current: None, queue, onward })
    }

    /// Skips all but the last `lines` lines that are there now. Returns which
    /// streams are in the middle of a line that is skipped.
    pub fn skip_to_tail(&mut self, lines: usize) -> io::Result<Open> {
        let mut open: Open = [false; 2];
        let mut marks: VecDeque<(usize, u64, Open)> = VecDeque::new();
        for (index, segment) in self.queue.iter_mut().enumerate() {
            loop {
                let start = segment.offset();
                let Some(raw) = segment.next_line()? else { break };
                let before = open;
                let starts = match line::parse(&raw) {
                    Some(piece) => !std::mem::replace(&mut open[stream(piece.source)], piece.partial),
                    None => true,
                };
                if starts {
                    marks.push_back((index, start, before));
                }
                if marks.len() > lines {
                    marks.pop_front();
                }
            }
        }
        let Some(last) = self.queue.len().checked_sub(1) else { return Ok(open) };
        let end = (last, self.queue[last].offset(), open);
        let (index, offset, open) = marks.pop_front().unwrap_or(end);
        self.queue.drain(..index);
        for (position, segment) in self.queue.iter_mut().enumerate() {
            segment.seek(if position == 0 { offset } else { 0 })?;
        }
        Ok(open)
    }

    /// The next line, or why there is none.
    pub fn step(&mut self) -> io::Result<Step> {
        loop {
            if let Some(line) = self.read()? {
                return Ok(Step::Line(line));
            }
            if self.queue.is_empty() && !self.rotated()? {
                return self.next_attempt();
            }
            // Between the end of the file and the rename its writer may have added more.
            if let Some(line) = self.read()? {
                return Ok(Step::Line(line));
            }
            let rest = self.current.as_mut().and_then(Segment::take_rest);
            self.current = self.queue.pop_front();
            if let Some(rest) = rest {
                return Ok(Step::Line(rest));
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.current.as_mut().map_or(Ok(None), Segment::next_line)
    }

    /// Looks for files after the current one, and queues them.
    fn rotated(&mut self) -> io::Result<bool> {
        self.queue = match &self.current {
            Some(last) => segment::open_after(&self.dir, self.attempt, last)?.into(),
            None => segment::open_attempt(&self.dir, self.attempt)?.into(),
        };
        if self.queue.is_empty()
            && let Some(current) = &mut self.current
        {
            current.rewind_if_cut()?;
        }
        Ok(!self.queue.is_empty())
    }

    /// Goes on into the next attempt once this one's last line was read.
    fn next_attempt(&mut self) -> io::Result<Step> {
        if !self.onward {
            return Ok(Step::End);
        }
        let Some(next) = segment::attempt_after(&self.dir, self.attempt)? else { return Ok(Step::End) };
        // Its file exists, so nobody writes to this one any more; but what was written since it was last looked at
        // (lines, or a whole rotation) comes first.
        if let Some(line) = self.read()? {
            return Ok(Step::Line(line));
        }
        if self.rotated()? {
            return self.step();
        }
        if let Some(rest) = self.current.as_mut().and_then(Segment::take_rest) {
            return Ok(Step::Line(rest));
        }
        self.attempt = next;
        self.current = None;
        self.queue = segment::open_attempt(&self.dir, next)?.into();
        Ok(Step::NextAttempt)
    }
}

/// Index into [`Open`].
pub fn stream(source: Source) -> usize {
    match source {
        Source::Stdout => 0,
        Source::Stderr => 1,
    }
}
