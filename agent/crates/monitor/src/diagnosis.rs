//! Why libcontainer failed.
//!
//! An error that happens in the container's init reaches the monitor as one short
//! text without its causes ("failed to prepare rootfs"). The causes are only
//! logged, in the child. So the log is kept: a subscriber that writes error events
//! into a pipe, which is read when a creation has failed.

use crate::error::Error;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};
use std::fmt::{Debug, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The pipe's write end while a creation is under way, inherited by its children.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// Longest explanation kept, in bytes.
const TEXT_BYTES_MAX: usize = 2048;

/// Collects error events of this process and its clones until it is dropped.
pub struct Diagnosis {
    text: OwnedFd,
    _writer: OwnedFd,
}

impl Diagnosis {
    /// Starts to collect.
    ///
    /// # Errors
    /// No pipe could be made.
    pub fn start() -> Result<Self, Error> {
        // Never waits: an explanation that does not fit is cut off.
        let (text, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(Error::call("pipe"))?;
        PIPE.store(writer.as_raw_fd(), Ordering::Relaxed);
        // Refused when it is there already.
        let _ = tracing::subscriber::set_global_default(ToPipe);
        Ok(Self { text, _writer: writer })
    }

    /// What was said, causes first, joined by "; ".
    pub fn text(&self) -> String {
        let mut bytes = vec![0; TEXT_BYTES_MAX];
        let length = read(&self.text, &mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        text.lines().collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Diagnosis {
    fn drop(&mut self) {
        PIPE.store(-1, Ordering::Relaxed);
    }
}

struct ToPipe;

impl Subscriber for ToPipe {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }
    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::ERROR)
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let fd = PIPE.load(Ordering::Relaxed);
        if fd < 0 {
            return;
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        line.0.push('\n');
        // SAFETY: PIPE holds a descriptor only while its owner lives, and clones have
        // a copy of it.
        let _ = nix::unistd::write(unsafe { BorrowedFd::borrow_raw(fd) }, line.0.as_bytes());
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let gap = if self.0.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{gap}{value:?}"),
            name => write!(self.0, "{gap}{name}={value:?}"),
        };
    }
}
