//! The files of one container's log: an attempt's current file and those rotated
//! away from it, oldest first.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest raw line taken as one, in bytes; the kubelet's readers are as strict.
/// Writers cut at 16 KiB, so only a broken file has longer ones.
const RAW_LINE_BYTES_MAX: usize = 1 << 20;

/// An open file of a log. It stays the same file when it is renamed or deleted.
#[derive(Debug)]
pub struct Segment {
    reader: BufReader<File>,
    /// Device and inode.
    id: (u64, u64),
    /// Bytes handed out as whole lines.
    offset: u64,
    /// The beginning of a line whose end is not written yet.
    pending: Vec<u8>,
}

impl Segment {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let id = (meta.dev(), meta.ino());
        Ok(Self { reader: BufReader::with_capacity(64 << 10, file), id, offset: 0, pending: Vec::new() })
    }

    /// The next whole line, without its end; `None` when there is none yet.
    pub fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            self.pending.extend_from_slice(&buffer[..end.unwrap_or(taken)]);
            self.reader.consume(taken);
            self.offset += taken as u64;
            if end.is_some() || self.pending.len() >= RAW_LINE_BYTES_MAX {
                return Ok(Some(std::mem::take(&mut self.pending)));
            }
        }
    }

    /// What is left of a line that nobody will finish.
    pub fn take_rest(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then_some(rest)
    }

    /// Where the line after the last whole one starts, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset - self.pending.len() as u64
    }

    /// Goes to the start of a line.
    pub fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(offset))?;
        self.offset = offset;
        self.pending.clear();
        Ok(())
    }

    /// Starts over when somebody has emptied the file under its reader.
    pub fn rewind_if_cut(&mut self) -> io::Result<()> {
        if self.reader.get_ref().metadata()?.len() < self.offset { self.seek(0) } else { Ok(()) }
    }
}

/// All files of an attempt, oldest first; none when it has not started.
pub fn open_attempt(dir: &Path, attempt: u32) -> io::Result<Vec<Segment>> {
    // The current file first: should it be rotated before the folder is read, the same inode turns up among the
    // rotated ones and takes its place there.
    let current = absent_as_none(Segment::open(&current_path(dir, attempt)))?;
    let mut segments: Vec<Segment> = Vec::new();
    for path in rotated(dir, attempt)? {
        let Some(segment) = absent_as_none(Segment::open(&path))? else { continue };
        if segments.iter().all(|other| other.id != segment.id) {
            segments.push(segment);
        }
    }
    if let Some(current) = current
        && segments.iter().all(|other| other.id != current.id)
    {
        segments.push(current);
    }
    Ok(segments)
}

/// The files that follow `last` once it is no longer the attempt's current one.
pub fn open_after(dir: &Path, attempt: u32, last: &Segment) -> io::Result<Vec<Segment>> {
    let path = current_path(dir, attempt);
    let unchanged = absent_as_none(fs::metadata(&path))?.is_none_or(|meta| (meta.dev(), meta.ino()) == last.id);
    if unchanged {
        return Ok(Vec::new());
    }
    let mut all = open_attempt(dir, attempt)?;
    // Not among them: so many rotations behind that it was deleted, so everything left is newer.
    let read = all.iter().position(|segment| segment.id == last.id).map_or(0, |index| index + 1);
    Ok(all.split_off(read))
}

/// The lowest attempt after `attempt` that has a file.
pub fn attempt_after(dir: &Path, attempt: u32) -> io::Result<Option<u32>> {
    let numbers = names(dir)?.into_iter().filter_map(|name| name.split_once(".log")?.0.parse::<u32>().ok());
    Ok(numbers.filter(|&number| number > attempt).min())
}

fn current_path(dir: &Path, attempt: u32) -> PathBuf {
    dir.join(format!("{attempt}.log"))
}

fn rotated(dir: &Path, attempt: u32) -> io::Result<Vec<PathBuf>> {
    let prefix = format!("{attempt}.log.");
    let mut suffixes: Vec<String> = names(dir)?
        .into_iter()
        .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned))
        // Compressed and unfinished files carry nothing that a reader of lines could use.
        .filter(|suffix| !suffix.ends_with(".gz") && !suffix.ends_with(".tmp"))
        .collect();
    suffixes.sort_by(|a, b| older_first(a, b));
    Ok(suffixes.into_iter().map(|suffix| dir.join(format!("{prefix}{suffix}"))).collect())
}

/// `0.log.2` is older than `0.log.1` (logrotate); `0.log.20260131-100000` older
/// than `0.log.20260131-100001` (kubelet).
fn older_first(a: &str, b: &str) -> Ordering {
    let small = |suffix: &str| suffix.parse::<u32>().ok().filter(|_| suffix.len() <= 4);
    match (small(a), small(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        _ => a.cmp(b),
    }
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = absent_as_none(fs::read_dir(dir))? else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn absent_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
