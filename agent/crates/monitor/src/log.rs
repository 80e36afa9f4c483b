//! A container's log in the CRI format, with rotation.
//!
//! ```text
//! pipe ─read─▶ Lines (one a stream: whole lines, or 16 KiB pieces) ─▶ Log (one an attempt)
//! ```
//!
//! A record is `TIME STREAM TAG TEXT\n`: RFC 3339 with nanoseconds in UTC, `stdout`
//! or `stderr`, `F` for a line's end or `P` for a piece, then the text itself.
//! Before a record that would take the file past its limit the file is renamed to
//! `NAME.YYYYMMDD-HHMMSS` (with `.N` after it if that name is taken) and a new one
//! is opened, so that no record is torn; the oldest renamed files are removed.

use crate::error::Error;
use jiff::Timestamp;
use orlop_wire::LogTarget;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest piece of a line in one record, as containerd's `max_container_log_line_size`.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// Records are gathered up to this size before they are written.
const BATCH_BYTES: usize = 32 << 10;
/// Between two reports of the same log's trouble.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// kubelet's `MaxContainerTerminationMessageLogLength` and its count of lines.
const TAIL_BYTES: usize = 2048;
const TAIL_LINES: usize = 80;

/// One of a container's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts one stream into lines; keeps what has no end yet.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Passes each complete line or full piece of `bytes` on: text and whether the
    /// line ended.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.pending.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            let (text, rest, ended) = match window.iter().position(|&b| b == b'\n') {
                Some(at) => (&bytes[..at], &bytes[at + 1..], true),
                None if window.len() > room => (&bytes[..room], &bytes[room..], false),
                None => {
                    self.pending.extend_from_slice(bytes);
                    return;
                }
            };
            if self.pending.is_empty() {
                each(text, ended);
            } else {
                self.pending.extend_from_slice(text);
                each(&self.pending, ended);
                // The buffer is given back: most containers never write half a line.
                self.pending = Vec::new();
            }
            bytes = rest;
        }
    }

    /// The stream has ended: what is left is a piece.
    pub fn finish(&mut self, each: impl FnOnce(&[u8], bool)) {
        if !self.pending.is_empty() {
            each(&self.pending, false);
            self.pending = Vec::new();
        }
    }
}

/// One attempt's log file.
#[derive(Debug)]
pub struct Log {
    target: LogTarget,
    file: Option<File>,
    size: u64,
    batch: Vec<u8>,
    lost_bytes: u64,
    trouble: Option<io::Error>,
    told: Option<Instant>,
}

impl Log {
    /// Opens or continues the file; its folder is made if it is missing.
    ///
    /// # Errors
    /// The folder or file cannot be made.
    pub fn open(target: LogTarget) -> Result<Self, Error> {
        if let Some(folder) = target.path.parent() {
            fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        let (file, size) = open_log(&target.path).map_err(Error::file("create", &target.path))?;
        Ok(Self { target, file: Some(file), size, batch: Vec::new(), lost_bytes: 0, trouble: None, told: None })
    }

    /// Adds a record to the batch; it is written by [`Log::flush`] at the latest.
    pub fn record(&mut self, now: Timestamp, stream: Stream, text: &[u8], ended: bool) {
        let start = self.batch.len();
        let tag = if ended { 'F' } else { 'P' };
        // Writing to a Vec cannot fail.
        let _ = write!(self.batch, "{now} {} {tag} ", stream.as_str());
        self.batch.extend_from_slice(text);
        self.batch.push(b'\n');
        let gathered = self.size + self.batch.len() as u64;
        if gathered > self.target.max_bytes && self.size + start as u64 > 0 {
            let record = self.batch.split_off(start);
            self.flush();
            if self.size > 0 {
                self.rotate(now);
            }
            self.batch = record;
        }
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Writes the batch. What cannot be written is counted, and the file is cut
    /// back to its last whole record.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.reopen();
        }
        let outcome = match &mut self.file {
            Some(file) => file.write_all(&self.batch),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        };
        match outcome {
            Ok(()) => self.size += self.batch.len() as u64,
            Err(error) => {
                self.lost_bytes += self.batch.len() as u64;
                if let Some(file) = &self.file {
                    let _ = file.set_len(self.size);
                }
                self.trouble.get_or_insert(error);
            }
        }
        self.batch = Vec::new();
    }

    /// What went wrong since the last call, and how many bytes are lost so far; at
    /// most once a second, because a full disk fails every write.
    pub fn take_trouble(&mut self) -> Option<(String, u64)> {
        if self.trouble.is_none() || self.told.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return None;
        }
        let error = self.trouble.take()?;
        self.told = Some(Instant::now());
        Some((format!("cannot write log {}: {error}", self.target.path.display()), self.lost_bytes))
    }

    fn reopen(&mut self) {
        match open_log(&self.target.path) {
            Ok((file, size)) => (self.file, self.size) = (Some(file), size),
            Err(error) => {
                self.trouble.get_or_insert(error);
            }
        }
    }

    fn rotate(&mut self, now: Timestamp) {
        let path = &self.target.path;
        if let Err(error) = fs::rename(path, next_name(path, now)) {
            // The old file goes on past its limit: better long than lost.
            self.trouble.get_or_insert(error);
            return;
        }
        self.file = None;
        self.size = 0;
        self.reopen();
        for old in rotated(&self.target.path).into_iter().skip(self.target.max_files.saturating_sub(1) as usize) {
            let _ = fs::remove_file(old);
        }
    }

    /// The end of the log as text, for a termination message.
    pub fn tail(&self) -> String {
        tail_of(&fs::read(&self.target.path).unwrap_or_default())
    }
}

fn open_log(path: &Path) -> io::Result<(File, u64)> {
    let file = fs::OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// A name that sorts after every renamed file there is, even when two fall into one
/// second or the clock has been set back: the oldest are removed by name.
fn next_name(path: &Path, now: Timestamp) -> PathBuf {
    let fresh = format!("{}.{}", path.display(), now.strftime("%Y%m%d-%H%M%S"));
    let Some(newest) = rotated(path).first().and_then(|p| p.to_str().map(str::to_owned)) else {
        return fresh.into();
    };
    if fresh > newest {
        return fresh.into();
    }
    match newest.rsplit_once('.').and_then(|(base, n)| (n.len() == 4).then(|| Some((base, n.parse::<u32>().ok()?)))) {
        Some(Some((base, number))) => format!("{base}.{:04}", number + 1).into(),
        _ => format!("{newest}.0001").into(),
    }
}

/// Renamed files of this log, newest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| e.file_name().to_str().is_some_and(|n| n.starts_with(&prefix)))
        .map(|e| e.path())
        .collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    files
}

fn tail_of(log: &[u8]) -> String {
    let mut text: Vec<u8> = Vec::new();
    let records: Vec<&[u8]> = log.split_inclusive(|&b| b == b'\n').collect();
    for record in &records[records.len().saturating_sub(TAIL_LINES)..] {
        let mut fields = record.splitn(4, |&b| b == b' ');
        let (tag, line) = (fields.nth(2).unwrap_or_default(), fields.next().unwrap_or_default());
        text.extend_from_slice(if tag == b"P" { line.strip_suffix(b"\n").unwrap_or(line) } else { line });
    }
    String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |text, ended| got.push((text.to_vec(), ended)));
        }
        lines.finish(|text, ended| got.push((text.to_vec(), ended)));
        got
    }

    #[test]
    fn lines_are_cut_where_they_end_or_at_16_kib() {
        let check = |chunks: &[&[u8]], want: &[(&[u8], bool)]| {
            let got = cut(chunks);
            let got: Vec<(&[u8], bool)> = got.iter().map(|(t, e)| (&t[..], *e)).collect();
            assert_eq!(got, want);
        };
        let full = vec![b'x'; LINE_BYTES_MAX];
        let with_end: Vec<u8> = [&full[..], b"\n"].concat();
        let one_more: Vec<u8> = [&full[..], b"y\n"].concat();
        check(&[b"a\nb\n"], &[(b"a", true), (b"b", true)]);
        check(&[b"a", b"b\n"], &[(b"ab", true)]);
        check(&[b"\n\n"], &[(b"", true), (b"", true)]);
        check(&[b"end"], &[(b"end", false)]);
        check(&[&with_end], &[(&full, true)]);
        check(&[&full, b"\n"], &[(&full, true)]);
        check(&[&one_more], &[(&full, false), (b"y", true)]);
        check(&[&full[1..], b"xy", b"\n"], &[(&full, false), (b"y", true)]);
    }

    #[test]
    fn rotation_tears_nothing_and_keeps_what_it_should() {
        let folder = std::env::temp_dir().join(format!("orlop-log-{}", std::process::id()));
        let path = folder.join("0.log");
        let mut log = Log::open(LogTarget { path: path.clone(), max_bytes: 1000, max_files: 3 }).unwrap();
        let now: Timestamp = "2026-01-02T03:04:05.123456789Z".parse().unwrap();
        for n in 0..100 {
            log.record(now, Stream::Stdout, format!("line {n:04}").as_bytes(), true);
        }
        log.flush();
        assert_eq!(log.take_trouble(), None);
        let mut files = rotated(&path);
        assert_eq!(files.len(), 2);
        files.reverse();
        files.push(path.clone());
        let mut all = String::new();
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            assert!(text.len() <= 1000 && text.ends_with('\n'), "{} bytes in {}", text.len(), file.display());
            all.push_str(&text);
        }
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(lines.last(), Some(&"2026-01-02T03:04:05.123456789Z stdout F line 0099"));
        let first: usize = lines[0].rsplit(' ').next().unwrap().parse().unwrap();
        for (n, line) in lines.iter().enumerate() {
            assert_eq!(line.rsplit(' ').next().unwrap(), format!("{:04}", first + n));
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_full_disk_is_counted_and_tears_nothing() {
        let target = LogTarget { path: "/dev/full".into(), max_bytes: 1 << 20, max_files: 2 };
        let mut log = Log::open(target).unwrap();
        log.record(Timestamp::UNIX_EPOCH, Stream::Stderr, b"x", true);
        log.flush();
        let (message, lost) = log.take_trouble().unwrap();
        assert!(message.contains("/dev/full") && message.contains("No space"), "{message}");
        assert_eq!(lost, "1970-01-01T00:00:00Z stderr F x\n".len() as u64);
        assert_eq!(log.take_trouble(), None);
    }

    #[test]
    fn the_tail_is_text_again() {
        let check = |log: &str, want: &str| assert_eq!(tail_of(log.as_bytes()), want);
        check("", "");
        check("t stdout F a b\nt stderr P c\nt stderr F d\n", "a b\ncd\n");
        let long: String = (0..100).map(|n| format!("t stdout F {n}\n")).collect();
        assert!(tail_of(long.as_bytes()).starts_with("20\n"));
    }
}
