//! Whether an image is pulled, when it is tried again, and what the events say.
//!
//! All pure; the words are the kubelet's (pkg/kubelet/images/image_manager.go, v1.36).

use crate::PullError;
use orlop_model::PullPolicy;
use std::time::Duration;

/// Wait after the first failed pull of an image for a pod (`imageBackOffPeriod`, pkg/kubelet/kubelet.go).
pub const PULL_BACKOFF_MS_MIN: u64 = 10_000;
/// Longest wait between two pulls (`MaxImageBackOff`).
pub const PULL_BACKOFF_MS_MAX: u64 = 300_000;

/// What to do about an image that a container needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullDecision {
    /// The image on the node will do.
    Use,
    /// Ask the registry.
    Pull,
    /// It is not there and must not be pulled: `ErrImageNeverPull`.
    Refuse,
}

/// Whether to pull. The kubelet asks the registry for `Always` even when a digest
/// pins the image: that is what checks the pod's credentials.
#[must_use]
pub fn decide_pull(policy: PullPolicy, present: bool) -> PullDecision {
    match (policy, present) {
        (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, false) => PullDecision::Pull,
        (PullPolicy::IfNotPresent | PullPolicy::Never, true) => PullDecision::Use,
        (PullPolicy::Never, false) => PullDecision::Refuse,
    }
}

/// The waits between failed pulls of one image for one pod. Times are any clock
/// that only goes forward, as time since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullBackoff {
    wait: Duration,
    failed_at: Duration,
}

impl PullBackoff {
    /// After a failure: 10 s, then twice as long each time up to 300 s. One that
    /// lies more than twice the longest wait back is forgotten.
    #[must_use]
    pub fn after_failure(before: Option<Self>, now: Duration) -> Self {
        let (min, max) = (Duration::from_millis(PULL_BACKOFF_MS_MIN), Duration::from_millis(PULL_BACKOFF_MS_MAX));
        let wait = match before {
            Some(before) if now.saturating_sub(before.failed_at) <= max * 2 => (before.wait * 2).min(max),
            _ => min,
        };
        Self { wait, failed_at: now }
    }

    /// How long to wait still; `None` when the image may be tried now.
    #[must_use]
    pub fn left(&self, now: Duration) -> Option<Duration> {
        let left = self.wait.saturating_sub(now.saturating_sub(self.failed_at));
        (!left.is_zero()).then_some(left)
    }
}

/// What happens with an image for a pod: the event, in the kubelet's words. `image`
/// is as the pod wrote it.
#[derive(Debug, Clone, Copy)]
pub enum PullEvent<'a> {
    /// A pull begins.
    Pulling,
    /// The pull is done: its own time, the time with waiting for others, packed bytes.
    Pulled {
        /// Time of the pull itself.
        took: Duration,
        /// The same with the time it waited for other pulls.
        with_waiting: Duration,
        /// Bytes of the image as it is packed.
        size_bytes: u64,
    },
    /// The image was on the node.
    Present,
    /// The reference is none.
    InvalidName(&'a PullError),
    /// The pull failed.
    Failed(&'a PullError),
    /// It failed and is not tried again yet.
    BackOff,
    /// It is not there and its policy is `Never`.
    NeverPull,
}

impl PullEvent<'_> {
    /// The event's reason (pkg/kubelet/events/event.go).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pulling => "Pulling",
            Self::Pulled { .. } | Self::Present => "Pulled",
            Self::InvalidName(_) => "InspectFailed",
            Self::Failed(_) => "Failed",
            Self::BackOff => "BackOff",
            Self::NeverPull => "ErrImageNeverPull",
        }
    }

    /// Whether the event is a warning; the others are normal. Back-off is normal in
    /// the image manager.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        match self {
            Self::InvalidName(_) | Self::Failed(_) | Self::NeverPull => true,
            Self::Pulling | Self::Pulled { .. } | Self::Present | Self::BackOff => false,
        }
    }

    /// The event's message.
    #[must_use]
    pub fn message(&self, image: &str) -> String {
        match self {
            Self::Pulling => format!("Pulling image {image:?}"),
            Self::Pulled { took, with_waiting, size_bytes } => format!(
                "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size_bytes} bytes.",
                go_duration(*took),
                go_duration(*with_waiting)
            ),
            Self::Present => {
                format!("Container image {image:?} already present on machine and can be accessed by the pod")
            }
            Self::InvalidName(error) => error.waiting_message(image),
            Self::Failed(error) => format!("Failed to pull image {image:?}: {}", error.chain()),
            Self::BackOff => format!("Back-off pulling image {image:?}"),
            Self::NeverPull => format!("Container image {image:?} is not present with pull policy of Never"),
        }
    }
}

/// The message of a container that waits with `ImagePullBackOff`.
#[must_use]
pub fn backoff_waiting_message(image: &str, last: &PullError) -> String {
    format!("{}: {}: {}", PullEvent::BackOff.message(image), last.reason(), last.waiting_message(image))
}

/// Milliseconds as Go prints a `time.Duration`: `0s`, `87ms`, `1.5s`, `2m3.004s`, `1h0m0s`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (seconds, rest) = (millis / 1000, millis % 1000);
    if seconds == 0 {
        return if rest == 0 { "0s".to_owned() } else { format!("{rest}ms") };
    }
    let fraction = format!("{rest:03}");
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn policies() {
        for (policy, present, want) in [
            (PullPolicy::Always, true, PullDecision::Pull),
            (PullPolicy::Always, false, PullDecision::Pull),
            (PullPolicy::IfNotPresent, true, PullDecision::Use),
            (PullPolicy::IfNotPresent, false, PullDecision::Pull),
            (PullPolicy::Never, true, PullDecision::Use),
            (PullPolicy::Never, false, PullDecision::Refuse),
        ] {
            assert_eq!(decide_pull(policy, present), want, "{policy:?}, present {present}");
        }
    }

    #[test]
    fn backoff_doubles_to_five_minutes_and_is_forgotten() {
        let (mut now, mut state, mut waits) = (s(100), None, Vec::new());
        for _ in 0..7 {
            let next = PullBackoff::after_failure(state, now);
            let left = next.left(now).unwrap();
            waits.push(left.as_secs());
            assert_eq!(next.left(now + left - s(1)), Some(s(1)));
            assert_eq!(next.left(now + left), None);
            (now, state) = (now + left, Some(next));
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        let later = now + s(301);
        assert_eq!(PullBackoff::after_failure(state, later).left(later), Some(s(10)));
    }

    #[test]
    fn words() {
        let ms = Duration::from_millis;
        for (millis, want) in [
            (0, "0s"),
            (87, "87ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (1_004, "1.004s"),
            (123_040, "2m3.04s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(ms(millis)), want);
        }
        let pulled = PullEvent::Pulled { took: ms(1_234), with_waiting: ms(2_000), size_bytes: 77 };
        let failed = PullError::Timeout { host: "r.example".into(), waited: s(30) };
        let invalid = PullError::InvalidName { text: "a:1".into(), problem: "has a bad tag".into() };
        for (event, want) in [
            (
                PullEvent::InvalidName(&invalid),
                r#"Failed to apply default image tag "a:1": couldn't parse image name "a:1": it has a bad tag"#,
            ),
            (PullEvent::Pulling, r#"Pulling image "a:1""#),
            (pulled, r#"Successfully pulled image "a:1" in 1.234s (2s including waiting). Image size: 77 bytes."#),
            (PullEvent::Present, r#"Container image "a:1" already present on machine and can be accessed by the pod"#),
            (PullEvent::BackOff, r#"Back-off pulling image "a:1""#),
            (PullEvent::NeverPull, r#"Container image "a:1" is not present with pull policy of Never"#),
            (PullEvent::Failed(&failed), r#"Failed to pull image "a:1": r.example sent nothing for 30 s"#),
        ] {
            assert_eq!(event.message("a:1"), want);
        }
        let waiting = backoff_waiting_message("a:1", &failed);
        assert_eq!(waiting, r#"Back-off pulling image "a:1": ErrImagePull: r.example sent nothing for 30 s"#);
    }
}
