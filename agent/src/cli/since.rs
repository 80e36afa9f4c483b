//! `--since`: a moment, or how long ago it was.

use jiff::{SignedDuration, Timestamp};
use std::str::FromStr;

/// As typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(SignedDuration),
    /// From then on.
    At(Timestamp),
}

/// Neither a duration nor a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a duration (90s, 5m, 3h) nor a time (2026-01-31T10:00:00Z)")]
pub struct SinceError;

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ago) = text.parse::<SignedDuration>() {
            return if ago.is_negative() { Err(SinceError) } else { Ok(Self::Ago(ago)) };
        }
        text.parse().map(Self::At).map_err(|_| SinceError)
    }
}

impl Since {
    /// The moment itself; the beginning of time when it lies before that.
    pub fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
            Self::At(moment) => moment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_taken() {
        let now: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        let check = |text: &str, want: Option<&str>| {
            let got = text.parse::<Since>().ok().map(|since| since.moment(now).to_string());
            assert_eq!(got.as_deref(), want, "{text}");
        };
        check("90s", Some("2026-01-31T09:58:30Z"));
        check("1h30m", Some("2026-01-31T08:30:00Z"));
        check("2026-01-30T00:00:00+02:00", Some("2026-01-29T22:00:00Z"));
        check("-5m", None);
        check("yesterday", None);
    }
}
