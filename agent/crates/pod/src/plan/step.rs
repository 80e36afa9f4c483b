//! Steps that can fail, and when they are tried again.

use super::later;
use crate::observed::Step;
use jiff::Timestamp;

/// A delay that doubles with every failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve {
    first_secs: u64,
    max_secs: u64,
}

/// Sandbox, volumes, tear-down and the making of a container.
pub(super) const LOCAL: Curve = Curve { first_secs: 1, max_secs: 60 };
/// Images: the kubelet's `imageBackOff`.
pub(super) const IMAGE: Curve = Curve { first_secs: 10, max_secs: 300 };

impl Curve {
    /// Seconds to wait after the `failures`th failure in a row.
    fn secs(self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        (self.first_secs << doublings).min(self.max_secs)
    }

    /// When a failure at `at` is over: `None` is now.
    pub(super) fn due(self, at: Timestamp, failures: u32, now: Timestamp) -> Option<Timestamp> {
        pause(at, self.secs(failures), now)
    }
}

/// `at` plus the pause, or `None` when that is past. A moment that lies further
/// ahead than the pause itself comes from a clock that has since been set back;
/// it does not hold anything up.
pub(super) fn pause(at: Timestamp, secs: u64, now: Timestamp) -> Option<Timestamp> {
    (at <= later(now, secs)).then(|| later(at, secs)).filter(|due| *due > now)
}

/// What a step needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Patience,
    Attempt,
    Pause(Timestamp),
}

pub(super) fn need(step: &Step, curve: Curve, now: Timestamp) -> Need {
    match step {
        Step::Ready => Need::Nothing,
        Step::InProgress => Need::Patience,
        Step::Absent => Need::Attempt,
        Step::Failed { reason: _, message: _, at, failures } => {
            curve.due(*at, *failures, now).map_or(Need::Attempt, Need::Pause)
        }
    }
}

/// The failure's reason and message, while it lasts.
pub(super) fn trouble(step: &Step) -> Option<(&str, &str, u32)> {
    match step {
        Step::Failed { reason, message, at: _, failures } => Some((reason, message, *failures)),
        Step::Absent | Step::InProgress | Step::Ready => None,
    }
}
