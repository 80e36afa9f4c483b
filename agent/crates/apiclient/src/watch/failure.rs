//! What an error means to a watch.

use crate::error::{ApiError, Status};
use std::time::Duration;

/// Why a request or a stream failed, as far as it matters for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, a broken one, half a line, no answer: nobody knows what the server was doing meanwhile.
    Away,
    /// We closed the connection ourselves.
    Replaced,
    /// The version or the continue token has expired.
    Gone,
    /// The server has not reached our version.
    VersionTooLarge { retry_after: Option<Duration> },
    /// The credential was refused.
    Unauthorized,
    /// The server wants us to come back later.
    Busy { retry_after: Option<Duration> },
    /// The server does not do streaming lists, or says nonsense when asked for one.
    NotStreaming,
    /// Anything else.
    Other,
}

impl Failure {
    /// `listing`: it came of a streaming list.
    pub(super) fn of(error: &ApiError, listing: bool) -> Self {
        match error {
            ApiError::Status { status, .. } => Self::of_status(status, listing),
            ApiError::Replaced { .. } => Self::Replaced,
            ApiError::NoListEnd { .. } => Self::NotStreaming,
            ApiError::Transport { .. } | ApiError::Timeout { .. } | ApiError::HalfLine { .. } => Self::Away,
            _ => Self::Other,
        }
    }

    fn of_status(status: &Status, listing: bool) -> Self {
        let retry_after = status.retry_after;
        match status.code {
            _ if status.is_version_too_large() => Self::VersionTooLarge { retry_after },
            _ if status.is_gone() => Self::Gone,
            401 => Self::Unauthorized,
            429 => Self::Busy { retry_after },
            500.. if retry_after.is_some() => Self::Busy { retry_after },
            // A proxy without a server behind it: the server is away.
            502..=504 => Self::Away,
            // What servers say that do not know sendInitialEvents, or know it and refuse it.
            400 | 405 | 422 | 501 if listing => Self::NotStreaming,
            // What Kubernetes 1.36 says on an etcd before 3.4.31, in the stream.
            500 if listing && status.message.contains("RequestWatchProgress") => Self::NotStreaming,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: u16, reason: &str, message: &str, retry_after: Option<Duration>, want: [Failure; 2]) {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        let status = Status { code, reason, message, retry_after, causes: Vec::new() };
        let error = ApiError::Status { call: String::new(), status: Box::new(status) };
        assert_eq!([true, false].map(|listing| Failure::of(&error, listing)), want, "{error}");
    }

    #[test]
    fn statuses_while_listing_and_otherwise() {
        use Failure::{Away, Busy, Gone, NotStreaming, Other, Unauthorized, VersionTooLarge};
        let second = Some(Duration::from_secs(1));
        check(410, "Expired", "", None, [Gone; 2]);
        check(500, "Expired", "", None, [Gone; 2]);
        check(401, "Unauthorized", "", None, [Unauthorized; 2]);
        check(429, "", "", None, [Busy { retry_after: None }; 2]);
        check(503, "", "", second, [Busy { retry_after: second }; 2]);
        check(503, "", "", None, [Away; 2]);
        check(504, "Timeout", "Too large resource version: 9", second, [VersionTooLarge { retry_after: second }; 2]);
        check(422, "Invalid", "", None, [NotStreaming, Other]);
        check(
            500,
            "InternalError",
            "the storage feature RequestWatchProgress is disabled",
            None,
            [NotStreaming, Other],
        );
        check(500, "InternalError", "", None, [Other; 2]);
        check(403, "Forbidden", "", None, [Other; 2]);
    }
}
