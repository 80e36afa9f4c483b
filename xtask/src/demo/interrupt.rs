//! Ctrl-C as something to wait for, so that the node is always taken down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register;

/// Between two looks at the flag.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whether SIGINT or SIGTERM came. They are caught, not blocked: a blocked signal would
/// stay blocked in the agent, which inherits it.
pub struct Interrupt {
    came: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes both signals over.
    pub fn take() -> Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            register(signal, Arc::clone(&came)).context("catch SIGINT and SIGTERM")?;
        }
        Ok(Self { came })
    }

    /// Waits this long at most; true as soon as a signal came, which then counts as taken.
    pub fn within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.came.swap(false, Ordering::Relaxed) {
                return true;
            }
            sleep(LOOK_AGAIN);
        }
        self.came.swap(false, Ordering::Relaxed)
    }
}
