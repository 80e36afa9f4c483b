//! What a server is started with.

use std::time::Duration;

use crate::auth::Rule;

/// How the server behaves. `Options::default()` is a server of v1.36 as upstream ships it,
/// with the controllers that no node can do without.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether it speaks TLS; without it there are no client certificates.
    pub tls: bool,
    /// Names and addresses in its certificate, besides the one it listens on and
    /// `localhost`, `kubernetes`, `kubernetes.default.svc`.
    pub names: Vec<String>,
    /// Where the counter of resource versions starts.
    pub first_resource_version: u64,
    /// How many changes it remembers for watches.
    pub history_max: usize,
    /// Whether it answers streaming lists (`sendInitialEvents`).
    pub watch_list: bool,
    /// How often a watch that allows bookmarks gets one.
    pub bookmark_period: Duration,
    /// How long a request waits for a resource version that is not there yet.
    pub future_version_wait: Duration,
    /// Addresses of Services, as `A.B.C.D/LENGTH`.
    pub service_cidr: String,
    /// Ports of NodePort Services, both ends included.
    pub node_ports: (u16, u16),
    /// Who issues service accounts' tokens.
    pub issuer: String,
    /// What users who are neither administrators nor nodes may do.
    pub rules: Vec<Rule>,
    /// The controllers that run.
    pub controllers: Controllers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: true,
            names: Vec::new(),
            first_resource_version: 41_317,
            history_max: 20_000,
            watch_list: true,
            bookmark_period: Duration::from_secs(60),
            future_version_wait: Duration::from_secs(3),
            service_cidr: "10.96.0.0/12".into(),
            node_ports: (30_000, 32_767),
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            rules: Vec::new(),
            controllers: Controllers::default(),
        }
    }
}

/// The small controllers.
#[derive(Debug, Clone)]
pub struct Controllers {
    /// Binds pods to nodes.
    pub bind: Bind,
    /// Makes EndpointSlices of Services' selectors and pods.
    pub endpoint_slices: bool,
    /// Approves and signs certificate requests.
    pub sign: Signing,
    /// Gives each node a part of this range (`10.244.0.0/16`): a /24 each.
    pub pod_cidr: Option<String>,
    /// Gives each namespace its default service account and `kube-root-ca.crt`, and
    /// empties deleted namespaces.
    pub namespaces: bool,
}

impl Default for Controllers {
    fn default() -> Self {
        Self { bind: Bind::Off, endpoint_slices: false, sign: Signing::Automatic, pod_cidr: None, namespaces: true }
    }
}

impl Controllers {
    /// All of them: what a test of Deployments wants.
    #[must_use]
    pub fn all() -> Self {
        Self {
            bind: Bind::RoundRobin,
            endpoint_slices: true,
            pod_cidr: Some("10.244.0.0/16".into()),
            ..Self::default()
        }
    }
}

/// Where pending pods go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Nowhere: tests call `ApiServer::bind`.
    Off,
    /// To the nodes that are ready, schedulable and tolerated, in turn.
    RoundRobin,
    /// To this node, ready or not.
    To(String),
}

/// What happens to certificate requests of the kubelet's two signers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// Nothing.
    Off,
    /// They are approved and signed.
    Automatic,
    /// They are signed when somebody (`ApiServer::approve`) approved them.
    Manual,
}
