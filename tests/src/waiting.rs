//! Waiting for conditions: never for a fixed time.

use crate::World;
use crate::view::{Detail, Pod};
use std::time::{Duration, Instant};

/// How long a condition may take to come true: far more than it ever does.
pub const WAIT: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

impl World {
    /// Waits until the pod is as `condition` says.
    ///
    /// # Panics
    /// It does not become so within [`WAIT`].
    pub fn wait_pod(&self, name: &str, what: &str, condition: impl Fn(&Pod) -> bool) -> Pod {
        self.wait_until(&format!("pod {name}: {what}"), || self.find(name).filter(|pod| condition(pod)))
    }

    /// Waits until the pod is Ready.
    ///
    /// # Panics
    /// It does not become so within [`WAIT`].
    pub fn wait_ready(&self, name: &str) -> Pod {
        self.wait_pod(name, "Ready", |pod| pod.ready && pod.status != "Terminating")
    }

    /// Waits until the pod is gone.
    ///
    /// # Panics
    /// It does not go within [`WAIT`].
    pub fn wait_gone(&self, name: &str) {
        self.wait_until(&format!("pod {name} is gone"), || self.find(name).is_none().then_some(()));
    }

    /// Waits until the pod has an event with this reason whose message has `part`.
    ///
    /// # Panics
    /// It has none within [`WAIT`].
    pub fn wait_event(&self, name: &str, reason: &str, part: &str) -> Detail {
        self.wait_until(&format!("pod {name} has an event {reason} with {part:?}"), || {
            let detail = self.detail(name)?;
            let found = detail.events(reason).iter().any(|event| event.message.contains(part));
            found.then_some(detail)
        })
    }

    /// Looks until `condition` gives a value.
    ///
    /// # Panics
    /// It gives none within [`WAIT`]; the message has all there is to know of the node.
    pub fn wait_until<T>(&self, what: &str, condition: impl Fn() -> Option<T>) -> T {
        wait_for(condition).unwrap_or_else(|| panic!("waited in vain until {what}\n{}", self.report()))
    }
}

/// Looks until `condition` gives a value, for [`WAIT`] at most.
pub fn wait_for<T>(condition: impl Fn() -> Option<T>) -> Option<T> {
    wait_for_at_most(WAIT, condition)
}

pub(crate) fn wait_for_at_most<T>(at_most: Duration, condition: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + at_most;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
