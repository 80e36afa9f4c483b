//! The server as a test holds it: started, stopped, asked for credentials.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::socket::{Backlog, Shutdown, SockaddrStorage};
use serde_json::json;
use tokio::sync::watch;

use crate::auth::User;
use crate::cluster::Core;
use crate::connection::{self, Door};
use crate::controllers;
use crate::faults::Faults;
use crate::options::Options;
use crate::requests::Request;
use crate::store::Snapshot;

/// The accepting task lets go of its listener at once, unless it is not there any more.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);

/// A running API server. It ends with this value.
pub struct ApiServer {
    pub(crate) core: Arc<Core>,
    listener: TcpListener,
    address: SocketAddr,
    /// The listener to accept from, or nothing while stopped; the sender's end ends it all.
    door: Option<watch::Sender<Option<Arc<TcpListener>>>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(options: Options) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).expect("listen on 127.0.0.1"), options)
    }

    /// Starts on a listener, which may be inside another network namespace: the sockets
    /// stay in the one in which the listener was made.
    ///
    /// # Panics
    /// When the listener has no address or no thread can be made.
    #[must_use]
    pub fn on(listener: TcpListener, options: Options) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let core = Arc::new(Core::new(options));
        controllers::seed(&core);
        let (door, opened) = watch::channel(None);
        let tls = core.options.tls.then(|| connection::tls(&core, address));
        let shared = Arc::clone(&core);
        let thread = std::thread::Builder::new()
            .name("apiserver".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let runtime = runtime.expect("a runtime for the API server");
                runtime.block_on(connection::serve(Door { core: shared, opened, tls }));
                runtime.shutdown_background();
            })
            .expect("a thread for the API server");
        let server = Self { core, listener, address, door: Some(door), thread: Some(thread) };
        server.open();
        server
    }

    fn open(&self) {
        let listener = self.listener.try_clone().expect("duplicate the listener");
        listener.set_nonblocking(true).expect("a listener that does not block");
        if let Some(door) = &self.door {
            door.send_replace(Some(Arc::new(listener)));
        }
    }

    /// `https://ADDRESS:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.core.options.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the cluster's authority.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.core.authority.pem().to_owned()
    }

    /// A kubeconfig (JSON, which is YAML too) of a member of `system:masters`.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> String {
        self.kubeconfig_for("kubernetes-admin", &["system:masters"])
    }

    /// A kubeconfig with a client certificate for a user and groups. A node is
    /// `system:node:NAME` in `system:nodes`. Without TLS it has a token instead.
    ///
    /// # Panics
    /// When the name cannot stand in a certificate.
    #[must_use]
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> String {
        if !self.core.options.tls {
            return self.kubeconfig_with_token(&self.token_for(user, groups));
        }
        let (certificate, key) = self.client_certificate(user, groups);
        self.kubeconfig(&json!({
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }))
    }

    /// A kubeconfig with a bearer token.
    #[must_use]
    pub fn kubeconfig_with_token(&self, token: &str) -> String {
        self.kubeconfig(&json!({ "token": token }))
    }

    /// A client certificate and its key, in PEM.
    ///
    /// # Panics
    /// When the name cannot stand in a certificate.
    #[must_use]
    pub fn client_certificate(&self, user: &str, groups: &[&str]) -> (String, String) {
        let issued = self.core.authority.client(user, groups).expect("a client certificate");
        (issued.certificate, issued.key)
    }

    /// A new bearer token for a user and groups. A bootstrap token is
    /// `system:bootstrap:ID` in `system:bootstrappers`.
    #[must_use]
    pub fn token_for(&self, user: &str, groups: &[&str]) -> String {
        let token = format!("{}.{}", crate::auth::suffix(6), crate::auth::suffix(16));
        self.accept_token(&token, user, groups);
        token
    }

    /// Lets a given token stand for a user and groups.
    pub fn accept_token(&self, token: &str, user: &str, groups: &[&str]) {
        self.core.tokens.add(token, User::new(user, groups));
        self.core.tokens.refuse(token, false);
    }

    /// Answers 401 to a token from now on, also to one that a TokenRequest gave.
    pub fn refuse_token(&self, token: &str) {
        self.core.tokens.refuse(token, true);
    }

    fn kubeconfig(&self, user: &serde_json::Value) -> String {
        let mut cluster = json!({ "server": self.url() });
        if self.core.options.tls {
            cluster["certificate-authority-data"] = json!(STANDARD.encode(self.core.authority.pem()));
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        });
        format!("{config:#}\n")
    }

    /// Faults on demand.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.core.faults
    }

    /// Every request that came over a socket, oldest first, the last 100,000.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.core.requests.all()
    }

    /// How many of them `matches` says yes to.
    #[must_use]
    pub fn count(&self, matches: impl Fn(&Request) -> bool) -> usize {
        self.requests().iter().filter(|request| matches(request)).count()
    }

    /// Requests of a verb on `pods` or `pods/status`.
    #[must_use]
    pub fn count_of(&self, verb: &str, resource: &str) -> usize {
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        self.count(|one| one.verb == verb && one.resource == resource && one.subresource == sub)
    }

    /// Forgets the requests until now.
    pub fn forget_requests(&self) {
        self.core.requests.clear();
    }

    /// Forgets the history: a watch from before, and a page of a list from before, get 410.
    pub fn compact(&self) {
        self.core.store.compact();
    }

    /// Sends a bookmark to every watch that allows them.
    pub fn send_bookmarks(&self) {
        self.core.bookmarks_due.send_modify(|count| *count += 1);
    }

    /// The current resource version.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.core.store.read(|state| state.revision)
    }

    /// All objects as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.core.store.snapshot()
    }

    /// Comes back with an earlier state: resource versions go back too, and watches end.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.core.restore(snapshot);
    }

    /// Stops: connections are closed and new ones refused. Objects stay, and the direct
    /// access of tests and the controllers go on.
    ///
    /// # Panics
    /// When the socket cannot be shut down.
    pub fn stop(&self) {
        if let Some(door) = &self.door {
            let before = door.send_replace(None).map(|listener| Arc::downgrade(&listener));
            // A tokio listener that hears of the shutdown and is then listened on again finds
            // itself readable for ever and accepts without a pause. So it has to be gone first.
            let end = Instant::now() + LET_GO_WITHIN;
            while before.as_ref().is_some_and(|listener| listener.strong_count() > 0) && Instant::now() < end {
                std::thread::yield_now();
            }
        }
        nix::sys::socket::shutdown(self.listener.as_raw_fd(), Shutdown::Both).expect("shut the listener down");
        self.core.faults.close_connections();
    }

    /// Listens again on the same port after `stop`, in the same network namespace.
    ///
    /// # Panics
    /// When the port was taken meanwhile.
    pub fn start_again(&self) {
        // A socket that was bound to port 0 has lost its port; one bound by number kept it
        // and says EINVAL.
        match nix::sys::socket::bind(self.listener.as_raw_fd(), &SockaddrStorage::from(self.address)) {
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(err) => panic!("bind {} again: {err}", self.address),
        }
        nix::sys::socket::listen(&self.listener, Backlog::MAXCONN).expect("listen again");
        self.open();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.core.faults.thaw();
        self.door = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by itself; a second one here would abort.
            let _ = thread.join();
        }
    }
}
