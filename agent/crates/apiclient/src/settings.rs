//! What is needed to reach one API server.

use crate::error::ApiError;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// One try of a call ends after this unless [`crate::Client::with_timeout`] says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A name may have several addresses; hyper divides this among them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// With [`PING_TIMEOUT`], a dead connection is noticed within 9 s.
const PING_EVERY: Duration = Duration::from_secs(4);
/// See [`PING_EVERY`].
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the API server is, whom to trust and who we are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://HOST:PORT` and perhaps a path below which the API is.
    pub server: String,
    /// Certificate authorities in PEM; without, those of the system.
    pub authority: Option<Pem>,
    /// The name to ask for and to verify, when it is not the host of `server`.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure: bool,
    /// `http`, `https` or `socks5` proxy; without, those of the environment (never for a loopback server).
    pub proxy: Option<String>,
    /// What goes into the header `Authorization`.
    pub bearer: Bearer,
    /// Client certificate and key. Files are looked at again when they change.
    pub identity: Option<Identity>,
    /// How long one try of a call may take.
    pub timeout: Duration,
    /// How long a connection may take to stand, TLS included.
    pub connect_timeout: Duration,
    /// How often an HTTP/2 connection is asked whether it lives, also when nothing else happens.
    pub ping_every: Duration,
    /// How long the answer to that may take before the connection counts as dead.
    pub ping_timeout: Duration,
}

impl Settings {
    /// No credentials, the system's authorities, the usual times.
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            authority: None,
            server_name: None,
            insecure: false,
            proxy: None,
            bearer: Bearer::None,
            identity: None,
            timeout: REQUEST_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            ping_every: PING_EVERY,
            ping_timeout: PING_TIMEOUT,
        }
    }
}

/// PEM text, in memory or in a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// The text itself.
    Data(Vec<u8>),
    /// Read when it is needed, and again after it has changed.
    File(PathBuf),
}

impl Pem {
    pub(crate) fn read(&self) -> Result<Vec<u8>, ApiError> {
        match self {
            Self::Data(data) => Ok(data.clone()),
            Self::File(path) => std::fs::read(path).map_err(|source| ApiError::Read { path: path.clone(), source }),
        }
    }
}

/// Never shows what is inside: it may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(data) => write!(f, "Pem({} bytes)", data.len()),
            Self::File(path) => write!(f, "Pem({})", path.display()),
        }
    }
}

/// A client certificate with its chain, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate first, then those between it and the authority.
    pub certificate: Pem,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: Pem,
}

impl Identity {
    /// Both in memory.
    #[must_use]
    pub fn from_pem(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { certificate: Pem::Data(certificate.into()), key: Pem::Data(key.into()) }
    }
}

/// Text that logs must not show.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Gives the text, for whoever has to send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What goes into the header `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// Nothing.
    None,
    /// A token that does not change.
    Token(Secret),
    /// A file that somebody renews: read again after a minute, and at once after a 401.
    TokenFile(PathBuf),
    /// Name and password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A program that prints a credential.
    Plugin(Box<Plugin>),
}

/// An exec credential plugin (`client.authentication.k8s.io`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// A path, or a name to look for in `PATH`.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to the agent's environment.
    pub env: BTreeMap<String, String>,
    /// `client.authentication.k8s.io/v1` or `…/v1beta1`.
    pub api_version: String,
    /// The field `cluster` of `KUBERNETES_EXEC_INFO`, if the plugin is to have it.
    pub cluster: Option<PluginCluster>,
    /// What to tell people who do not have the program.
    pub install_hint: Option<String>,
}

/// What a plugin is told about the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PluginCluster {
    /// As in [`Settings`].
    pub server: String,
    /// As in [`Settings`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// As in [`Settings`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_tls_verify: bool,
    /// As in [`Settings`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<k8s_openapi::ByteString>,
    /// As in [`Settings`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// The cluster's extension `client.authentication.k8s.io/exec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
}
