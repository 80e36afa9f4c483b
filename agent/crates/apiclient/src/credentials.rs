//! The header `Authorization`: kept as long as it is good, made again when it is not.

use crate::error::ApiError;
use crate::plugin;
use crate::settings::{Bearer, Identity};
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use std::path::Path;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// client-go reads a token file again after a minute (transport/token_source.go).
const TOKEN_FILE_FRESH: Duration = Duration::from_secs(60);

/// A server that refuses all that a plugin gives must not make it run for every request.
const PLUGIN_RERUN_EVERY: Duration = Duration::from_secs(5);

/// Where credentials come from, and the one in use.
pub(crate) struct Credentials {
    bearer: Bearer,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    header: Option<HeaderValue>,
    read_at: Option<Instant>,
    expires: Option<Timestamp>,
    /// When a refusal last made a plugin run.
    rerun_at: Option<Instant>,
    /// Counts the credentials, so that a refusal is held against the right one.
    revision: u64,
}

/// What to send now.
pub(crate) struct Current {
    pub(crate) header: Option<HeaderValue>,
    pub(crate) revision: u64,
    /// A certificate that a plugin gave just now.
    pub(crate) identity: Option<Identity>,
}

impl Credentials {
    pub(crate) fn new(bearer: Bearer) -> Self {
        Self { bearer, held: Mutex::default() }
    }

    /// The credential to use; reads the file or runs the plugin when it is time.
    pub(crate) async fn current(&self) -> Result<Current, ApiError> {
        let mut held = self.held.lock().await;
        let identity = match self.due(&held, Instant::now(), Timestamp::now()) {
            true => self.renew(&mut held).await?,
            false => None,
        };
        Ok(Current { header: held.header.clone(), revision: held.revision, identity })
    }

    /// The server answered 401 to that revision. Whether there is another one now, so
    /// that it is worth asking again.
    pub(crate) async fn refused(&self, revision: u64) -> Result<bool, ApiError> {
        let mut held = self.held.lock().await;
        if held.revision != revision {
            return Ok(true);
        }
        match &self.bearer {
            Bearer::None | Bearer::Token(_) | Bearer::Basic { .. } => Ok(false),
            Bearer::TokenFile(_) => {
                self.renew(&mut held).await?;
                Ok(held.revision != revision)
            }
            Bearer::Plugin(_) if held.rerun_at.is_some_and(|at| at.elapsed() < PLUGIN_RERUN_EVERY) => Ok(false),
            // It runs at the next request: who asks may have to wait for it anyway.
            Bearer::Plugin(_) => {
                held.read_at = None;
                held.rerun_at = Some(Instant::now());
                Ok(true)
            }
        }
    }

    fn due(&self, held: &Held, now: Instant, wall: Timestamp) -> bool {
        let Some(read_at) = held.read_at else { return true };
        match self.bearer {
            Bearer::None | Bearer::Token(_) | Bearer::Basic { .. } => false,
            Bearer::TokenFile(_) => now.duration_since(read_at) >= TOKEN_FILE_FRESH,
            Bearer::Plugin(_) => held.expires.is_some_and(|expires| expires <= wall),
        }
    }

    async fn renew(&self, held: &mut Held) -> Result<Option<Identity>, ApiError> {
        let mut identity = None;
        let mut expires = None;
        let header = match &self.bearer {
            Bearer::None => None,
            Bearer::Token(token) => Some(bearer(token.reveal())?),
            Bearer::Basic { user, password } => Some(basic(user, password.reveal())?),
            Bearer::TokenFile(path) => match read_token(path) {
                Ok(header) => Some(header),
                // An old token may still be good, and a writer may be at work.
                Err(error) if held.header.is_some() => {
                    tracing::warn!(err = %crate::error::chain(&error), "keeping the old token");
                    held.header.clone()
                }
                Err(error) => return Err(error),
            },
            Bearer::Plugin(plugin) => {
                let given = plugin::run(plugin).await?;
                identity = given.identity;
                expires = given.expires;
                given.token.map(|token| bearer(token.reveal())).transpose()?
            }
        };
        held.read_at = Some(Instant::now());
        held.expires = expires;
        if held.header != header || identity.is_some() {
            held.header = header;
            held.revision += 1;
        }
        Ok(identity)
    }
}

fn read_token(path: &Path) -> Result<HeaderValue, ApiError> {
    let read = |source| ApiError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(read)?;
    match text.trim() {
        "" => Err(read(std::io::Error::new(std::io::ErrorKind::InvalidData, "the token file is empty"))),
        token => bearer(token),
    }
}

fn bearer(token: &str) -> Result<HeaderValue, ApiError> {
    secret_header(&format!("Bearer {token}"))
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, ApiError> {
    // ByteString is base64 as serde writes it; no need for another crate.
    let both = k8s_openapi::ByteString(format!("{user}:{password}").into_bytes());
    let encoded = serde_json::to_value(both).unwrap_or_default();
    secret_header(&format!("Basic {}", encoded.as_str().unwrap_or_default()))
}

fn secret_header(text: &str) -> Result<HeaderValue, ApiError> {
    let mut header = HeaderValue::from_str(text).map_err(|error| ApiError::Setup {
        what: "the token or password contains characters that no header can carry".to_owned(),
        source: error.into(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    #[tokio::test]
    async fn a_renewed_file_is_seen_after_a_refusal_and_a_broken_one_keeps_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let credentials = Credentials::new(Bearer::TokenFile(path.clone()));
        assert!(credentials.current().await.is_err());
        std::fs::write(&path, "one\n").unwrap();
        let first = credentials.current().await.unwrap();
        assert_eq!(first.header.unwrap(), "Bearer one");
        assert!(!credentials.refused(first.revision).await.unwrap());
        std::fs::write(&path, "two").unwrap();
        assert_eq!(credentials.current().await.unwrap().header.unwrap(), "Bearer one");
        assert!(credentials.refused(first.revision).await.unwrap());
        assert_eq!(credentials.current().await.unwrap().header.unwrap(), "Bearer two");
        std::fs::write(&path, "").unwrap();
        let second = credentials.current().await.unwrap();
        assert!(!credentials.refused(second.revision).await.unwrap());
        assert_eq!(credentials.current().await.unwrap().header.unwrap(), "Bearer two");
    }

    #[tokio::test]
    async fn name_and_password() {
        let bearer = Bearer::Basic { user: "a".to_owned(), password: Secret::new("b") };
        let header = Credentials::new(bearer).current().await.unwrap().header.unwrap();
        assert!(header == "Basic YTpi" && header.is_sensitive());
    }

    #[tokio::test]
    async fn when_a_credential_is_due() {
        let now = Instant::now();
        let wall = Timestamp::UNIX_EPOCH;
        let held = |expires| Held { read_at: Some(now), expires, ..Held::default() };
        let file = Credentials::new(Bearer::TokenFile("t".into()));
        assert!(file.due(&Held::default(), now, wall));
        assert!(!file.due(&held(None), now + Duration::from_secs(59), wall));
        assert!(file.due(&held(None), now + Duration::from_secs(60), wall));
        let fixed = Credentials::new(Bearer::Token(Secret::new("t")));
        assert!(!fixed.due(&held(None), now + Duration::from_secs(999), wall));
    }
}
