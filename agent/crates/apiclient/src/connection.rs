//! The connections to one API server: how they are made, shared, checked and replaced.
//!
//! A kube-apiserver allows 100 streams on an HTTP/2 connection (its `secure_serving.go`).
//! A node watches more objects than that, and hyper lets the hundred-and-first request
//! wait for ever. So watches are spread over several connections, and calls that end
//! soon have one of their own, which no watch can fill.

use crate::error::ApiError;
use crate::settings::{Identity, Pem, Settings};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Proxy, Url};
use std::fs::Metadata;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Watches on one connection; below the server's 100, so that one that ends while another begins has room.
const STREAMS_PER_CONNECTION_MAX: usize = 80;
/// Calls at once; more wait.
const CALLS_MAX: usize = 64;
/// Unacknowledged data on a connection without HTTP/2 pings; the same 9 s as with them.
const TCP_DEAD_AFTER: Duration = Duration::from_secs(9);
/// Files are looked at again at most this often.
const FILES_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// Who is asking: decides which connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Ends soon.
    Call,
    /// Stays open.
    Watch,
}

/// A place on a connection, given back when dropped.
pub(crate) struct Leased {
    pub(crate) client: reqwest::Client,
    _stream: Arc<()>,
    _call: Option<OwnedSemaphorePermit>,
    /// Changes when the connections are replaced.
    pub(crate) replaced: watch::Receiver<u64>,
}

struct Lane {
    client: reqwest::Client,
    streams: Arc<()>,
}

impl Lane {
    fn busy(&self) -> usize {
        Arc::strong_count(&self.streams) - 1
    }
}

/// All connections to one server.
pub(crate) struct Connections {
    settings: Settings,
    base: Url,
    calls: Arc<Semaphore>,
    generation: watch::Sender<u64>,
    state: Mutex<State>,
}

struct State {
    identity: Option<Identity>,
    looked_at: Instant,
    stamps: Vec<Option<Stamp>>,
    call: Lane,
    watches: Vec<Lane>,
}

/// Tells whether a file is another one than before; follows links, so that a swapped link counts.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

impl From<Metadata> for Stamp {
    fn from(m: Metadata) -> Self {
        Self(m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec())
    }
}

impl Connections {
    pub(crate) fn new(settings: Settings) -> Result<Self, ApiError> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // An error means that one is installed, which is what we want.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let base = base_url(&settings)?;
        let identity = settings.identity.clone();
        let stamps = stamps(&settings, identity.as_ref());
        let call = Lane { client: build(&settings, &base, identity.as_ref())?, streams: Arc::default() };
        let state = State { identity, looked_at: Instant::now(), stamps, call, watches: Vec::new() };
        Ok(Self {
            settings,
            base,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            generation: watch::Sender::new(0),
            state: Mutex::new(state),
        })
    }

    /// The address that requests start from; its host is what TLS verifies.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// A place for one request; waits when there are too many calls.
    pub(crate) async fn lease(&self, length: Length) -> Result<Leased, ApiError> {
        let call = match length {
            Length::Watch => None,
            // It is never closed; without a permit we would only be less careful.
            Length::Call => Arc::clone(&self.calls).acquire_owned().await.ok(),
        };
        let mut state = self.state();
        self.look_at_files(&mut state);
        let lane = match length {
            Length::Call => &state.call,
            Length::Watch => self.watch_lane(&mut state)?,
        };
        Ok(Leased {
            client: lane.client.clone(),
            _stream: Arc::clone(&lane.streams),
            _call: call,
            replaced: self.generation.subscribe(),
        })
    }

    /// Whom we are from now on. Watches reconnect at once; calls under way end on the old connection.
    pub(crate) fn replace_identity(&self, identity: Identity) -> Result<(), ApiError> {
        let mut state = self.state();
        // A plugin gives the same certificate again and again. Files are another matter: they are read anew.
        let same = state.identity.as_ref() == Some(&identity);
        if same && matches!((&identity.certificate, &identity.key), (Pem::Data(_), Pem::Data(_))) {
            return Ok(());
        }
        self.replace(&mut state, Some(identity))
    }

    /// New connections for everybody, with the identity that we have.
    pub(crate) fn close(&self) -> Result<(), ApiError> {
        let mut state = self.state();
        let identity = state.identity.clone();
        self.replace(&mut state, identity)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch_lane<'a>(&self, state: &'a mut State) -> Result<&'a Lane, ApiError> {
        let free = state.watches.iter().position(|lane| lane.busy() < STREAMS_PER_CONNECTION_MAX);
        let index = match free {
            Some(index) => index,
            None => {
                let client = build(&self.settings, &self.base, state.identity.as_ref())?;
                state.watches.push(Lane { client, streams: Arc::default() });
                state.watches.len() - 1
            }
        };
        // The first lanes fill first, so it is the last ones that fall idle.
        while state.watches.len() > index + 2 && state.watches.last().is_some_and(|lane| lane.busy() == 0) {
            state.watches.pop();
        }
        Ok(&state.watches[index])
    }

    fn look_at_files(&self, state: &mut State) {
        if state.looked_at.elapsed() < FILES_LOOKED_AT_EVERY {
            return;
        }
        state.looked_at = Instant::now();
        let now = stamps(&self.settings, state.identity.as_ref());
        if now == state.stamps {
            return;
        }
        let identity = state.identity.clone();
        match self.replace(state, identity) {
            Ok(()) => tracing::info!(server = %self.settings.server, "certificate files changed, connecting anew"),
            // A writer may be between certificate and key: the old connection goes on, and we
            // look again, because the stamps are still the old ones.
            Err(error) => tracing::warn!(
                err = %crate::error::chain(&error),
                "certificate files changed but cannot be used, keeping the old ones"
            ),
        }
    }

    fn replace(&self, state: &mut State, identity: Option<Identity>) -> Result<(), ApiError> {
        // Before reading: a change in between is seen next time.
        let stamps = stamps(&self.settings, identity.as_ref());
        let client = build(&self.settings, &self.base, identity.as_ref())?;
        state.identity = identity;
        state.stamps = stamps;
        state.call = Lane { client, streams: Arc::default() };
        state.watches.clear();
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }
}

fn stamps(settings: &Settings, identity: Option<&Identity>) -> Vec<Option<Stamp>> {
    let pems = settings.authority.iter().chain(identity.into_iter().flat_map(|i| [&i.certificate, &i.key]));
    pems.filter_map(|pem| match pem {
        Pem::File(path) => Some(std::fs::metadata(path).ok().map(Stamp::from)),
        Pem::Data(_) => None,
    })
    .collect()
}

/// The server's address, with the host that TLS is to verify.
fn base_url(settings: &Settings) -> Result<Url, ApiError> {
    let bad = |problem: &str| ApiError::Server { server: settings.server.clone(), problem: problem.to_owned() };
    let text = match settings.server.contains("://") {
        true => settings.server.clone(),
        // client-go's default for an address without a scheme and with TLS settings.
        false => format!("https://{}", settings.server),
    };
    let mut url = Url::parse(&text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad("must be http://HOST:PORT or https://HOST:PORT"));
    }
    if let Some(name) = &settings.server_name {
        if settings.proxy.is_some() {
            return Err(bad("tls-server-name together with proxy-url is not supported"));
        }
        if name.parse::<IpAddr>().is_ok() && url.host_str() != Some(name) {
            return Err(bad("a tls-server-name that is an IP address is not supported"));
        }
        url.set_host(Some(name)).map_err(|_| bad("tls-server-name is no host name"))?;
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn setup(what: impl Into<String>) -> impl FnOnce(reqwest::Error) -> ApiError {
    let what = what.into();
    move |source| ApiError::Setup { what, source: source.into() }
}

fn build(settings: &Settings, base: &Url, identity: Option<&Identity>) -> Result<reqwest::Client, ApiError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(user_agent())
        .connect_timeout(settings.connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .http2_keep_alive_interval(settings.ping_every)
        .http2_keep_alive_timeout(settings.ping_timeout)
        .http2_keep_alive_while_idle(true)
        .tcp_keepalive(TCP_DEAD_AFTER / 3)
        .tcp_keepalive_interval(TCP_DEAD_AFTER / 3)
        .tcp_keepalive_retries(2)
        .tcp_user_timeout(TCP_DEAD_AFTER)
        .tls_danger_accept_invalid_certs(settings.insecure);
    if let Some(authority) = &settings.authority {
        let pem = authority.read()?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(setup("read the certificate authority"))?;
        if certificates.is_empty() {
            return Err(ApiError::Setup {
                what: "read the certificate authority".to_owned(),
                source: "there is no certificate in it".into(),
            });
        }
        builder = builder.tls_certs_only(certificates);
    } else if base.scheme() == "http" {
        // The system's authorities are not needed, and need not be there.
        builder = builder.tls_certs_only([]);
    }
    if let Some(identity) = identity {
        builder = builder.identity(read_identity(identity)?);
    }
    if let Some(name) = &settings.server_name {
        let host = Url::parse(&settings.server).ok().and_then(|url| url.host_str().map(str::to_owned));
        builder = builder.no_proxy().dns_resolver(Elsewhere { name: name.clone(), host: host.unwrap_or_default() });
    }
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(Proxy::all(proxy).map_err(setup(format!("use the proxy {proxy}")))?);
    } else if is_loopback(base) {
        // As Go's ProxyFromEnvironment: never through a proxy to oneself.
        builder = builder.no_proxy();
    }
    builder.build().map_err(setup("build the HTTP client"))
}

fn read_identity(identity: &Identity) -> Result<reqwest::Identity, ApiError> {
    let mut pem = identity.certificate.read()?;
    // The kubelet's rotated files hold both in one.
    if identity.key != identity.certificate {
        pem.push(b'\n');
        pem.extend(identity.key.read()?);
    }
    reqwest::Identity::from_pem(&pem).map_err(setup("read the client certificate and its key"))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn user_agent() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("orlop/{} (linux/{arch}) kubernetes/v1.36", env!("CARGO_PKG_VERSION"))
}

/// `tls-server-name`: the URL carries the name that is verified, and it is found at another host's address.
struct Elsewhere {
    name: String,
    host: String,
}

impl Resolve for Elsewhere {
    fn resolve(&self, name: Name) -> Resolving {
        let host = if name.as_str() == self.name { self.host.clone() } else { name.as_str().to_owned() };
        Box::pin(async move {
            // The port is the URL's; an address in brackets is looked up without them.
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |server: &str, name: Option<&str>, want: &str| {
            let settings = Settings { server_name: name.map(str::to_owned), ..Settings::new(server) };
            let got = base_url(&settings).map(|url| url.to_string()).unwrap_or_else(|error| error.to_string());
            assert!(got.contains(want), "{got}");
        };
        check("https://10.0.0.1:6443", None, "https://10.0.0.1:6443/");
        check("10.0.0.1:6443", None, "https://10.0.0.1:6443/");
        check("https://10.0.0.1:6443/k8s/c-1", Some("kubernetes"), "https://kubernetes:6443/k8s/c-1");
        check("ftp://h", None, "must be http");
        check("https://a b", None, "invalid");
        check("https://h", Some("10.0.0.1"), "is an IP address");
    }

    #[tokio::test]
    async fn watches_spread_over_connections_and_calls_have_their_own() {
        let connections = Connections::new(Settings::new("http://127.0.0.1:1")).unwrap();
        let mut held = Vec::new();
        for _ in 0..2 * STREAMS_PER_CONNECTION_MAX + 1 {
            held.push(connections.lease(Length::Watch).await.unwrap());
        }
        assert_eq!(connections.state().watches.len(), 3);
        held.push(connections.lease(Length::Call).await.unwrap());
        assert_eq!(connections.state().call.busy(), 1);
        held.clear();
        held.push(connections.lease(Length::Watch).await.unwrap());
        assert_eq!(connections.state().watches.len(), 2);
    }
}
