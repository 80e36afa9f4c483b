//! Why a pull failed, in the kubelet's reasons and the registry's words.

use crate::{Digest, ImageError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a pull failed. Cheap to clone: all who waited for one pull get the same.
///
/// The URL of a request never stands in it: a redirect's holds a signature.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The reference is none: `InvalidImageName`.
    #[error("couldn't parse image name {text:?}: it {problem}")]
    InvalidName {
        /// As the pod wrote it.
        text: String,
        /// What is wrong: "has a tag that …".
        problem: String,
    },
    /// No host of the registry could be reached, or all answered 5xx.
    #[error("registry {host} is unavailable: {problem}")]
    Unavailable {
        /// Host and port that were tried.
        host: String,
        /// The connection's error or the server's status.
        problem: String,
    },
    /// The registry said no.
    #[error("{host}: {answer}")]
    Registry {
        /// Host and port that answered.
        host: String,
        /// What it said.
        answer: Answer,
    },
    /// Nothing came for too long.
    #[error("{host} sent nothing for {} s", waited.as_secs())]
    Timeout {
        /// Host and port.
        host: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The connection broke in the middle of a blob or a manifest.
    #[error("{host} broke off: {problem}")]
    Broken {
        /// Host and port.
        host: String,
        /// The connection's error.
        problem: String,
    },
    /// What came is not what was asked for.
    #[error("{what} from {host} should be {want} but is {got}; nothing of it is kept")]
    Mismatch {
        /// Host and port.
        host: String,
        /// "manifest", "size of layer sha256:…".
        what: String,
        /// Digest or size asked for.
        want: String,
        /// Digest or size that came.
        got: String,
    },
    /// The image has no variant for this machine.
    #[error("image has nothing for {wanted}, only for {offered}")]
    NoPlatform {
        /// `linux/amd64`.
        wanted: String,
        /// What the index lists.
        offered: String,
    },
    /// The manifest is of a kind that cannot be run here.
    #[error("image cannot be used: {problem}")]
    Unsupported {
        /// Why.
        problem: String,
    },
    /// A file that the administrator or a user wrote is wrong.
    #[error("{place}: {key}: {problem}")]
    Configuration {
        /// File or Secret.
        place: String,
        /// Key in it.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The store: a hostile layer, a full disk, a file operation.
    #[error(transparent)]
    Store(Arc<ImageError>),
    /// Each credential failed in its own way.
    #[error("[{}]", join(.0))]
    Several(Vec<PullError>),
}

/// What a registry said when it said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Code and message of the first error of its envelope, for example
    /// `MANIFEST_UNKNOWN` and `manifest unknown`.
    pub error: Option<(String, String)>,
    /// How long it wants not to be asked.
    pub retry_after: Option<Duration>,
    /// What was asked for: `manifest 1.27 of library/nginx`.
    pub wanted: String,
}

impl Answer {
    /// Whether other credentials may change the answer. Registries answer 404 for
    /// what they do not want to show.
    #[must_use]
    pub fn asks_for_credentials(&self) -> bool {
        matches!(self.status, 401 | 403 | 404)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.wanted)?;
        match &self.error {
            Some((code, message)) => {
                let code = code.to_lowercase().replace('_', " ");
                // distribution's default messages repeat the code.
                match message.as_str() {
                    "" => write!(f, "{code}")?,
                    message if message.to_lowercase().starts_with(&code) => write!(f, "{message}")?,
                    message => write!(f, "{code}: {message}")?,
                }
            }
            None => match self.status {
                401 => write!(f, "unauthorized")?,
                403 => write!(f, "denied")?,
                404 => write!(f, "not found")?,
                429 => write!(f, "too many requests")?,
                status => write!(f, "unexpected status {status}")?,
            },
        }
        match self.retry_after {
            Some(wait) => write!(f, " (try again after {} s)", wait.as_secs()),
            None => Ok(()),
        }
    }
}

impl PullError {
    /// The reason of a container that waits: `ErrImagePull` or `InvalidImageName`. The
    /// kubelet's `RegistryUnavailable` is for runtimes that say that very word, and
    /// containerd does not: alerts know `ErrImagePull`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            _ => "ErrImagePull",
        }
    }

    /// The message of a container that waits with [`Self::reason`] (`evalCRIPullErr`,
    /// `EnsureImageExists`).
    #[must_use]
    pub fn waiting_message(&self, image: &str) -> String {
        match self.reason() {
            "InvalidImageName" => format!("Failed to apply default image tag {image:?}: {}", self.chain()),
            _ => self.chain(),
        }
    }

    /// The error with what is under it, separated by colons.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text = format!("{text}: {error}");
            next = error.source();
        }
        text
    }

    /// How long the registry asked not to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registry { answer, .. } => answer.retry_after,
            Self::Several(errors) => errors.iter().filter_map(Self::retry_after).max(),
            _ => None,
        }
    }

    /// Whether the same host may be asked again with other credentials.
    pub(crate) fn asks_for_credentials(&self) -> bool {
        match self {
            Self::Registry { answer, .. } => answer.asks_for_credentials(),
            Self::Several(errors) => errors.iter().any(Self::asks_for_credentials),
            _ => false,
        }
    }

    /// One error of several attempts: equal ones are said once.
    pub(crate) fn of_several(errors: Vec<Self>) -> Self {
        let flat = |error| match error {
            Self::Several(errors) => errors,
            one => vec![one],
        };
        let mut errors: Vec<Self> = errors.into_iter().flat_map(flat).collect();
        let mut seen = Vec::new();
        errors.retain(|error| {
            let text = error.to_string();
            let new = !seen.contains(&text);
            seen.push(text);
            new
        });
        match errors.len() {
            1 => errors.remove(0),
            _ => Self::Several(errors),
        }
    }

    pub(crate) fn digest(host: &str, what: String, want: Digest, got: Digest) -> Self {
        Self::Mismatch { host: host.to_owned(), what, want: want.to_string(), got: got.to_string() }
    }
}

impl From<ImageError> for PullError {
    fn from(error: ImageError) -> Self {
        Self::Store(Arc::new(error))
    }
}

fn join(errors: &[PullError]) -> String {
    errors.iter().map(PullError::chain).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_the_registrys_words() {
        let answer = |status, error: Option<(&str, &str)>, after: Option<u64>| Answer {
            status,
            error: error.map(|(code, message)| (code.to_owned(), message.to_owned())),
            retry_after: after.map(Duration::from_secs),
            wanted: "manifest 1 of a/b".to_owned(),
        };
        for (answer, want) in [
            (answer(404, Some(("MANIFEST_UNKNOWN", "manifest unknown")), None), "manifest unknown"),
            (
                answer(401, Some(("UNAUTHORIZED", "authentication required")), None),
                "unauthorized: authentication required",
            ),
            (
                answer(429, Some(("TOOMANYREQUESTS", "You have reached your limit")), Some(60)),
                "toomanyrequests: You have reached your limit (try again after 60 s)",
            ),
            (answer(404, None, None), "not found"),
            (answer(418, None, None), "unexpected status 418"),
            (answer(403, Some(("DENIED", "")), None), "denied"),
        ] {
            assert_eq!(answer.to_string(), format!("manifest 1 of a/b: {want}"));
        }
    }

    #[test]
    fn what_more_credentials_may_change() {
        let said = |status| PullError::Registry {
            host: "r".into(),
            answer: Answer { status, error: None, retry_after: None, wanted: "manifest".into() },
        };
        let gone = PullError::Unavailable { host: "mirror".into(), problem: "connection refused".into() };
        for (error, want) in [
            (said(401), true),
            (said(404), true),
            (said(429), false),
            (gone.clone(), false),
            (PullError::of_several(vec![gone.clone(), said(403)]), true),
        ] {
            assert_eq!(error.asks_for_credentials(), want, "{error}");
        }
        let other = PullError::Unavailable { host: "origin".into(), problem: "connection refused".into() };
        let nested = PullError::of_several(vec![PullError::of_several(vec![gone.clone(), other]), gone]);
        assert_eq!(nested.reason(), "ErrImagePull");
        assert!(matches!(nested, PullError::Several(errors) if errors.len() == 2));
    }

    #[test]
    fn reasons_and_several() {
        let unavailable = PullError::Unavailable { host: "r.example".into(), problem: "connection refused".into() };
        assert_eq!(unavailable.reason(), "ErrImagePull");
        assert_eq!(unavailable.waiting_message("a:1"), "registry r.example is unavailable: connection refused");
        let both = PullError::of_several(vec![unavailable.clone(), unavailable.clone()]);
        assert_eq!(both.to_string(), unavailable.to_string());
        let other = PullError::Timeout { host: "r".into(), waited: Duration::from_secs(1) };
        let both = PullError::of_several(vec![unavailable, other]);
        assert_eq!(both.to_string(), "[registry r.example is unavailable: connection refused, r sent nothing for 1 s]");
        assert_eq!(both.reason(), "ErrImagePull");
    }
}
