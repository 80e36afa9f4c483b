//! What can go wrong between this node and its API server.

use serde::Deserialize;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The cause below an error, whatever library it comes from.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call, a watch or a kubeconfig did not do what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A kubeconfig or a file that it names cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A kubeconfig cannot be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A kubeconfig that makes no sense or asks for what Orlop does not do.
    #[error("kubeconfig {path}: {problem}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong, naming the field.
        problem: String,
    },
    /// The server's address cannot be used.
    #[error("API server address {server:?}: {problem}")]
    Server {
        /// As it was given.
        server: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate, a key or a proxy cannot be used.
    #[error("set up the connection to the API server: {what}")]
    Setup {
        /// Which of them.
        what: String,
        /// What the TLS library said.
        #[source]
        source: Source,
    },
    /// The credential plugin gave no credential.
    #[error("credential plugin {command}: {problem}")]
    Plugin {
        /// The program.
        command: String,
        /// What happened.
        problem: String,
    },
    /// A name or namespace that cannot be part of a path.
    #[error("{segment:?} cannot be the name of an object or a namespace")]
    PathSegment {
        /// What was given.
        segment: String,
    },
    /// An object cannot be written as JSON.
    #[error("{call}: write the request's body")]
    Encode {
        /// Method and path.
        call: String,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
    /// No connection, or it broke.
    #[error("{call}: {}", if *.connected { "the connection broke" } else { "cannot connect" })]
    Transport {
        /// Method and path.
        call: String,
        /// Whether there was a connection to break; if not, the server has not seen the request.
        connected: bool,
        /// What the HTTP library said.
        #[source]
        source: Source,
    },
    /// No answer in time.
    #[error("{call}: no answer within {} ms", .waited.as_millis())]
    Timeout {
        /// Method and path.
        call: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The connections were closed on purpose because the node's identity changed.
    #[error("{call}: the connection was replaced")]
    Replaced {
        /// Method and path.
        call: String,
    },
    /// The API server said no.
    #[error("{call}: {status}")]
    Status {
        /// Method and path.
        call: String,
        /// What it said.
        status: Box<Status>,
    },
    /// An answer that is not what was asked for.
    #[error("{call}: the answer is not understood at {field}")]
    Body {
        /// Method and path.
        call: String,
        /// Path of the field, `.` for the whole.
        field: String,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
    /// More bytes than we are willing to hold.
    #[error("{call}: the answer, or a line of it, is longer than {bytes_max} bytes")]
    TooLong {
        /// Method and path.
        call: String,
        /// The limit.
        bytes_max: usize,
    },
    /// The stream ended in the middle of an event.
    #[error("{call}: the watch ended within a line, after {bytes} bytes of it")]
    HalfLine {
        /// Method and path.
        call: String,
        /// How much of it had come.
        bytes: usize,
    },
    /// A streaming list whose end never came.
    #[error("{call}: the server did not mark the end of the list within {} ms", .waited.as_millis())]
    NoListEnd {
        /// Method and path.
        call: String,
        /// How long we waited for it.
        waited: Duration,
    },
    /// The server's newest state is older than what it had told before, as after a restored backup.
    #[error("{call}: the server is at resourceVersion {server}, which is before {ours} that it had told us before")]
    WentBack {
        /// Method and path.
        call: String,
        /// What the server has.
        server: String,
        /// What we had seen.
        ours: String,
    },
    /// A request for a certificate was turned down.
    #[error("certificate signing request {name} {how}: {reason}: {message}")]
    CertificateRefused {
        /// Its name.
        name: String,
        /// By whom.
        how: CertificateRefusal,
        /// The condition's reason.
        reason: String,
        /// The condition's message.
        message: String,
    },
    /// Nobody approved or signed in time.
    #[error(
        "certificate signing request {name} was not approved and signed within {} s; look at it with kubectl describe csr {name}",
        .waited.as_secs()
    )]
    CertificateWait {
        /// Its name.
        name: String,
        /// How long we waited.
        waited: Duration,
    },
}

/// Who turned a request for a certificate down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRefusal {
    /// An approver: condition `Denied`.
    Denied,
    /// The signer: condition `Failed`.
    Failed,
}

impl std::fmt::Display for CertificateRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Denied => "was denied",
            Self::Failed => "could not be signed",
        })
    }
}

impl ApiError {
    /// What the API server said, when it said something.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    fn code(&self) -> u16 {
        self.status().map_or(0, |status| status.code)
    }

    /// 404: there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// 409 with reason `AlreadyExists`.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409 && status.reason == "AlreadyExists")
    }

    /// 409 otherwise: somebody else changed the object, or a precondition does not hold.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == 409 && !self.is_already_exists()
    }

    /// 410, or an expired resourceVersion or continue token: list again.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.status().is_some_and(Status::is_gone)
    }

    /// 401: the credential is missing, wrong or has expired.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.code() == 401
    }

    /// 403: the credential is good but may not do this.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.code() == 403
    }

    /// 422: the object is not valid.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.code() == 422
    }

    /// 429: ask later.
    #[must_use]
    pub fn is_too_many(&self) -> bool {
        self.code() == 429
    }

    /// Whether the server may be away or overloaded, so that the same call may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Replaced { .. }
            | Self::HalfLine { .. }
            | Self::NoListEnd { .. } => true,
            Self::Status { status, .. } => matches!(status.code, 401 | 429 | 500..),
            _ => false,
        }
    }
}

/// A `Status` object: why the API server said no.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// HTTP status.
    pub code: u16,
    /// One word for programs, such as `NotFound`; empty when the answer was no `Status` object.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// From `details.retryAfterSeconds` or the header `Retry-After`.
    pub retry_after: Option<Duration>,
    /// From `details.causes`.
    pub causes: Vec<StatusCause>,
}

/// One cause of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// One word, such as `ResourceVersionTooLarge`.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The field that it is about.
    pub field: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct StatusBody {
    kind: String,
    code: u16,
    reason: Option<String>,
    message: Option<String>,
    details: Option<StatusDetails>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    retry_after_seconds: Option<u64>,
    causes: Option<Vec<StatusCause>>,
}

/// How much of an answer that is no `Status` object is quoted.
const QUOTED_CHARS_MAX: usize = 512;

impl Status {
    /// Reads the body of an answer with an error status, whatever it is.
    pub(crate) fn from_body(code: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<StatusBody>(body) {
            Ok(read) if read.kind == "Status" => Self::from_parts(code, read),
            _ => {
                let text = String::from_utf8_lossy(body);
                let message: String = text.trim().chars().take(QUOTED_CHARS_MAX).collect();
                Self { code, message, ..Self::default() }
            }
        }
    }

    /// Reads the object of an `ERROR` event, which carries its own code.
    pub(crate) fn from_event(object: &str) -> Result<Self, serde_json::Error> {
        let read: StatusBody = serde_json::from_str(object)?;
        Ok(Self::from_parts(read.code, read))
    }

    fn from_parts(code: u16, body: StatusBody) -> Self {
        let details = body.details.unwrap_or_default();
        Self {
            code,
            reason: body.reason.unwrap_or_default(),
            message: body.message.unwrap_or_default(),
            retry_after: details.retry_after_seconds.filter(|s| *s > 0).map(Duration::from_secs),
            causes: details.causes.unwrap_or_default(),
        }
    }

    /// 410, or the reasons `Expired` and `Gone`.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.code == 410 || matches!(self.reason.as_str(), "Expired" | "Gone")
    }

    /// The server has not reached the resourceVersion that was asked for (client-go
    /// `isTooLargeResourceVersionError`; the message alone is what servers before 1.17 say).
    #[must_use]
    pub fn is_version_too_large(&self) -> bool {
        self.causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
            || (self.code == 504 && self.message.to_lowercase().contains("too large resource version"))
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        for part in [&self.reason, &self.message] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        Ok(())
    }
}

/// An error with its causes in one line, for a log.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read() {
        let body =
            br#"{"kind":"Status","code":504,"reason":"Timeout","message":"Too large resource version: 9, current: 5",
            "details":{"causes":[{"reason":"ResourceVersionTooLarge","message":"m"}],"retryAfterSeconds":1}}"#;
        let status = Status::from_body(504, body);
        assert!(status.is_version_too_large() && !status.is_gone());
        assert_eq!(status.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(status.to_string(), "504 Timeout Too large resource version: 9, current: 5");
        let plain = Status::from_body(502, b"bad gateway\n");
        assert_eq!(plain.to_string(), "502 bad gateway");
        let gone = Status::from_event(r#"{"kind":"Status","code":410,"reason":"Expired"}"#).unwrap();
        assert!(gone.is_gone());
    }

    #[test]
    fn what_may_pass() {
        let status = |code, reason: &str| ApiError::Status {
            call: "GET /x".to_owned(),
            status: Box::new(Status { code, reason: reason.to_owned(), ..Status::default() }),
        };
        assert!(status(409, "AlreadyExists").is_already_exists() && !status(409, "AlreadyExists").is_conflict());
        assert!(status(409, "Conflict").is_conflict());
        assert!(status(503, "").is_passing() && status(429, "").is_passing() && !status(404, "").is_passing());
    }
}
