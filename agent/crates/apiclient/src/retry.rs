//! Which failed calls are tried again at once. Whoever calls does the rest: it knows
//! what is still wanted by then.

use crate::error::{ApiError, Status};
use std::time::Duration;

/// Tries after the first.
const RETRIES_MAX: u32 = 4;
/// A server that wants us to wait longer gets an error back instead.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Between tries after a broken connection, times the number of the try.
const RESET_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait before trying again; `None`: the error is the answer.
///
/// As client-go's `request.go`: 429 and 5xx only when the server says when to come
/// back, because then it has not acted on the call; a broken connection only when
/// asking twice does no harm. 401 is not ours: another credential may help.
pub(crate) fn pause(error: &ApiError, harmless: bool, retries: u32) -> Option<Duration> {
    if retries >= RETRIES_MAX {
        return None;
    }
    match error {
        ApiError::Status { status, .. } => asked_to_wait(status),
        ApiError::Transport { connected: true, .. } if harmless => Some(RESET_PAUSE * (retries + 1)),
        _ => None,
    }
}

fn asked_to_wait(status: &Status) -> Option<Duration> {
    let told = status.retry_after.filter(|_| matches!(status.code, 429 | 500..));
    // ResourceVersionTooLarge is for the watch to decide: it may mean another thing than load.
    told.filter(|wait| *wait <= RETRY_AFTER_MAX && !status.is_version_too_large())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, seconds: Option<u64>) -> ApiError {
        let status = Status { code, retry_after: seconds.map(Duration::from_secs), ..Status::default() };
        ApiError::Status { call: String::new(), status: Box::new(status) }
    }

    fn broken(connected: bool) -> ApiError {
        ApiError::Transport { call: String::new(), connected, source: "reset".into() }
    }

    #[test]
    fn pauses() {
        let seconds = |n| Some(Duration::from_secs(n));
        for (error, harmless, retries, want) in [
            (status(429, Some(2)), false, 0, seconds(2)),
            (status(503, Some(2)), false, 3, seconds(2)),
            (status(503, Some(2)), false, 4, None),
            (status(429, None), true, 0, None),
            (status(429, Some(11)), true, 0, None),
            (status(409, Some(1)), true, 0, None),
            (broken(true), true, 1, Some(Duration::from_millis(200))),
            (broken(true), false, 0, None),
            (broken(false), true, 0, None),
        ] {
            assert_eq!(pause(&error, harmless, retries), want, "{error} {harmless} {retries}");
        }
    }
}
