//! Cuts a stream of chunks into lines.

use bytes::{Bytes, BytesMut};

/// A line that lies within one chunk is a slice of it; only one that spans chunks is
/// gathered, and copied once.
#[derive(Debug)]
pub(super) struct Lines {
    chunk: Bytes,
    begun: BytesMut,
    bytes_max: usize,
}

/// More than `bytes_max` without an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { chunk: Bytes::new(), begun: BytesMut::new(), bytes_max }
    }

    /// Takes the next chunk; the lines of the one before must have been taken.
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty());
        self.chunk = chunk;
    }

    /// The next whole line without its end; empty lines are left out. `None`: push more.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            let end = self.chunk.iter().position(|byte| *byte == b'\n');
            let length = end.unwrap_or(self.chunk.len());
            if self.begun.len() + length > self.bytes_max {
                return Err(TooLong);
            }
            let Some(end) = end else {
                self.begun.extend_from_slice(&self.chunk);
                self.chunk = Bytes::new();
                return Ok(None);
            };
            let mut line = self.chunk.split_to(end + 1);
            line.truncate(end);
            if !self.begun.is_empty() {
                self.begun.extend_from_slice(&line);
                line = self.begun.split().freeze();
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(line));
            }
        }
    }

    /// Bytes of a line that has not ended.
    pub(super) fn begun(&self) -> usize {
        self.begun.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, chunk: usize, bytes_max: usize) -> Result<(Vec<String>, usize), TooLong> {
        let mut lines = Lines::new(bytes_max);
        let mut found = Vec::new();
        for chunk in text.as_bytes().chunks(chunk) {
            lines.push(Bytes::copy_from_slice(chunk));
            while let Some(line) = lines.next()? {
                found.push(String::from_utf8_lossy(&line).into_owned());
            }
        }
        Ok((found, lines.begun()))
    }

    #[test]
    fn however_it_is_chunked() {
        let text = "{\"a\":1}\n\n{\"b\":2}\r\n \n{\"c\":3}\nhalf";
        for chunk in 1..=text.len() {
            let (lines, begun) = cut(text, chunk, 100).unwrap();
            assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}\r", "{\"c\":3}"], "{chunk}");
            assert_eq!(begun, 4);
        }
    }

    #[test]
    fn a_long_line_is_an_error_whole_or_not() {
        for chunk in [1, 3, 100] {
            assert_eq!(cut("12345\n1234567890\n", chunk, 9), Err(TooLong), "{chunk}");
            assert!(cut("12345\n123456789\n", chunk, 9).is_ok());
        }
    }

    #[test]
    fn a_line_within_a_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"one\ntwo\n");
        let mut lines = Lines::new(10);
        lines.push(chunk.clone());
        assert_eq!(lines.next().unwrap().unwrap().as_ptr(), chunk.as_ptr());
    }
}
