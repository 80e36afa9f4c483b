//! What to do about the server's answer to an event.

use crate::correlator::{Failure, Write};
use k8s_openapi::api::core::v1::Event;
use std::time::Duration;

/// How often an event is sent before it is given up (client-go `maxTriesPerEvent`).
pub const TRIES_MAX: u32 = 12;
/// Between two tries (client-go `defaultSleepDuration`).
pub const TRY_PAUSE: Duration = Duration::from_secs(10);

/// One event on its way to the server, as client-go's `recordToSink`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    write: Write,
    pause: Duration,
    tries: u32,
    creating: bool,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The event as the server has it now.
    Stored(Box<Event>),
    /// 404.
    NotFound,
    /// The server will never want it: it is there already, or its namespace is going away. Nobody has to know.
    Unwanted,
    /// The server does not take this event, and would not take it later.
    Refused,
    /// No answer, or one that says nothing about the event.
    Unreachable,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Send again at once: [`Delivery::patch`] has changed.
    Again,
    /// Send again after this.
    After(Duration),
    /// It is written; [`crate::Correlator::written`] wants to know.
    Written(Box<Event>),
    /// It is not; [`crate::Correlator::failed`] wants to know.
    Failed(Failure),
}

impl Delivery {
    /// Nothing sent yet; `pause` between two tries is [`TRY_PAUSE`] but for tests.
    #[must_use]
    pub fn new(write: Write, pause: Duration) -> Self {
        let creating = write.patch().is_none();
        Self { write, pause, tries: 0, creating }
    }

    /// What is delivered.
    #[must_use]
    pub fn write(&self) -> &Write {
        &self.write
    }

    /// The body of the PATCH to send; `None`: POST the whole [`Write::event`].
    #[must_use]
    pub fn patch(&self) -> Option<&serde_json::Value> {
        if self.creating { None } else { self.write.patch() }
    }

    /// Whether the event is given up when no server answers this time.
    #[must_use]
    pub fn last_try(&self) -> bool {
        self.tries + 1 >= TRIES_MAX
    }

    /// Decides. `random` spreads the first pauses of many nodes over the whole of one, so that a
    /// server that comes back does not meet all of them at once.
    pub fn answered(&mut self, answer: Answer, random: u64) -> Next {
        match answer {
            Answer::Stored(event) => Next::Written(event),
            // Events live for an hour on the server; ours to count may be gone.
            Answer::NotFound if !self.creating => {
                self.creating = true;
                Next::Again
            }
            Answer::NotFound | Answer::Refused => Next::Failed(Failure::Refused),
            Answer::Unwanted => Next::Failed(Failure::Unwanted),
            Answer::Unreachable => self.pause(random),
        }
    }

    fn pause(&mut self, random: u64) -> Next {
        self.tries += 1;
        // The create may have come through; then there is something to patch.
        self.creating = self.write.patch().is_none();
        match self.tries {
            TRIES_MAX.. => Next::Failed(Failure::Unreachable),
            1 => {
                let share = (u128::from(random) * self.pause.as_nanos()) >> 64;
                Next::After(Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX)))
            }
            _ => Next::After(self.pause),
        }
    }
}
