//! What the command line asks the agent on its Unix socket, and the answers.
//!
//! One connection carries one [`Request`] frame (`orlop_wire::frame`) and one
//! [`Response`] frame. [`Request::Exec`] is answered twice, by
//! [`Response::ExecStarted`] and, when the process has ended,
//! [`Response::ExecExited`]; [`Request::Pull`] by any number of
//! [`Response::PullProgress`] and one [`Response::Pulled`]. The same structures are what `-o json` and `-o yaml`
//! print.

use jiff::Timestamp;
use orlop_model::Event;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// [`Response::Node`].
    Node,
    /// [`Response::Pods`].
    Pods,
    /// [`Response::Pod`].
    Pod {
        /// Which.
        pod: PodName,
    },
    /// [`Response::Log`].
    Log {
        /// Which pod.
        pod: PodName,
        /// Which container; `None` is the only one, or an error that lists them.
        container: Option<String>,
    },
    /// Run a process; the frame carries stdin, stdout and stderr unless `tty`.
    Exec {
        /// Which pod.
        pod: PodName,
        /// Which container; `None` is the first.
        container: Option<String>,
        /// Argument vector.
        command: Vec<String>,
        /// A terminal: [`Response::ExecStarted`] then carries its master.
        tty: bool,
    },
    /// [`Response::Images`].
    Images,
    /// Load an OCI layout or archive; [`Response::Images`] lists what was loaded.
    Load {
        /// Absolute path on the node.
        path: PathBuf,
        /// Name for an image that carries none.
        name: Option<String>,
    },
    /// Pull an image from its registry; ends with the connection.
    Pull {
        /// As in a pod.
        image: String,
        /// Tried before the node's own credentials.
        credential: Option<PullCredential>,
    },
    /// [`Response::Services`].
    Services,
    /// [`Response::HostPorts`].
    HostPorts,
    /// [`Response::Tables`].
    Tables,
    /// [`Response::Counters`].
    Counters {
        /// Only this pod's.
        pod: Option<PodName>,
    },
}

/// A pod as a user names it: `web`, `web -n prod` or `prod/web`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Namespace; `default` when nothing was said.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Who may pull. Its `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullCredential {
    /// User name.
    pub username: String,
    /// Password, or a token that stands for one.
    pub password: String,
}

impl fmt::Debug for PullCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullCredential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The node.
    Node(NodeView),
    /// All pods, by namespace and name.
    Pods(Vec<PodView>),
    /// One pod with its events.
    Pod(Box<PodDetail>),
    /// Where a container's log is.
    Log(LogView),
    /// The process runs.
    ExecStarted,
    /// The process ended.
    ExecExited {
        /// Exit code, or 128 plus the signal.
        code: i32,
    },
    /// Images.
    Images(Vec<ImageView>),
    /// How far a pull is, layer by layer, lowest first; empty while the manifest is not there.
    PullProgress(Vec<PullLayerView>),
    /// It is pulled.
    Pulled(PulledView),
    /// Services.
    Services(Vec<ServiceView>),
    /// Ports of the node that lead to pods.
    HostPorts(Vec<HostPortView>),
    /// Tables of the eBPF programs.
    Tables(Vec<TableView>),
    /// Counters.
    Counters(CountersView),
    /// It could not be done.
    Error(ErrorView),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The object named does not exist.
    NotFound,
    /// The request makes no sense as it is.
    Invalid,
    /// It was tried and failed.
    Failed,
}

/// An error for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// What was tried, what happened, what to do.
    pub message: String,
}

/// The node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Node name.
    pub name: String,
    /// Agent version.
    pub version: String,
    /// Since when this agent runs.
    pub started: Timestamp,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Pod address ranges.
    pub pod_cidrs: Vec<String>,
    /// Service address range.
    pub service_cidr: Option<String>,
    /// The manifests folder.
    pub manifests: Option<PathBuf>,
    /// How it goes with the API server; `None` without one.
    pub cluster: Option<ClusterView>,
    /// Trouble with manifests that belongs to no pod: file, object, field.
    pub problems: Vec<Event>,
    /// Events of objects other than pods, by object (`Service default/web`).
    pub events: BTreeMap<String, Vec<Event>>,
}

/// What was written to the API server since the agent started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The Node object is there.
    pub registered: bool,
    /// Pods that the API server wants here; `None` until it has said so.
    pub pods: Option<usize>,
    /// Pod status patches that it took.
    pub pod_status_patches: u64,
    /// Pod status patches that failed.
    pub pod_status_failures: u64,
    /// Node status patches that it took.
    pub node_status_patches: u64,
    /// Node status patches that failed.
    pub node_status_failures: u64,
    /// Renewals of the Lease.
    pub lease_renewals: u64,
    /// Renewals of the Lease that failed.
    pub lease_failures: u64,
    /// Events created.
    pub events_created: u64,
    /// Events counted up.
    pub events_patched: u64,
    /// Events that were not sent: too many of one object, a full queue, a refusal.
    pub events_dropped: u64,
}

/// One row of `orlop ps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// What `kubectl get pods` shows under STATUS: the phase, or the most telling reason.
    pub status: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
    /// The Ready condition.
    pub ready: bool,
    /// Addresses, primary first.
    pub ips: Vec<IpAddr>,
    /// When the agent first saw it.
    pub started: Option<Timestamp>,
    /// Quality of service.
    pub qos: String,
    /// Host network.
    pub host_network: bool,
    /// Init containers, then main ones.
    pub containers: Vec<ContainerView>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerView {
    /// Name.
    pub name: String,
    /// Init container.
    pub init: bool,
    /// Image as written.
    pub image: String,
    /// Image id, once it ran.
    pub image_id: Option<String>,
    /// Id of the newest attempt.
    pub id: Option<String>,
    /// `waiting`, `running`, `terminated`.
    pub state: String,
    /// Reason of a waiting or terminated state.
    pub reason: Option<String>,
    /// Its message.
    pub message: Option<String>,
    /// Exit code of a terminated state.
    pub exit_code: Option<i32>,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The attempt before, in one line: reason, exit code, when.
    pub last: Option<String>,
    /// Passes its readiness probe, or has none and runs.
    pub ready: bool,
    /// Restarts.
    pub restarts: u32,
    /// Process id of its init on the node.
    pub pid: Option<u32>,
    /// Declared ports, `80/TCP`.
    pub ports: Vec<String>,
    /// Requests and limits in words, `cpu 100m/500m`.
    pub resources: Vec<String>,
    /// Mounts in words, `/etc/config from config (ro)`.
    pub mounts: Vec<String>,
    /// Probes in words, as `kubectl describe` has them.
    pub probes: Vec<String>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionView {
    /// Type.
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Reason.
    pub reason: Option<String>,
    /// Message.
    pub message: Option<String>,
    /// Since.
    pub since: Option<Timestamp>,
}

/// What `orlop describe` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDetail {
    /// The row.
    pub pod: PodView,
    /// Where it came from: the manifest's path.
    pub source: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Conditions.
    pub conditions: Vec<ConditionView>,
    /// Volumes in words, `config: ConfigMap web-config`.
    pub volumes: Vec<String>,
    /// Services whose endpoints it is among.
    pub services: Vec<String>,
    /// Ports of the node that lead to it.
    #[serde(default)]
    pub host_ports: Vec<HostPortView>,
    /// The pod's cgroup, relative to the hierarchies' roots.
    pub cgroup: String,
    /// How long each phase of its start took, in order: name and microseconds.
    pub start_phases: Vec<(String, u64)>,
    /// Events, oldest first.
    pub events: Vec<Event>,
}

/// Where a container's log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The container's folder; each attempt has `ATTEMPT.log` and rotated files beside it.
    pub dir: PathBuf,
    /// Newest attempt.
    pub attempt: u32,
    /// It still runs or will run again, so that `-f` goes on.
    pub live: bool,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    /// Names.
    pub names: Vec<String>,
    /// Config digest.
    pub id: String,
    /// Bytes of its extracted layers.
    pub size: u64,
    /// How many layers.
    pub layers: usize,
    /// When it was built, if it says.
    pub created: Option<String>,
    /// Pods that use it.
    pub used_by: usize,
}

/// One layer of a pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullLayerView {
    /// Digest of the packed layer.
    pub digest: String,
    /// `waiting`, `downloading`, `verifying`, `unpacking`, `done`, or `exists` when it was here before.
    pub phase: String,
    /// Bytes that came.
    pub done_bytes: u64,
    /// Bytes of the packed layer.
    pub total_bytes: u64,
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledView {
    /// Name.
    pub name: String,
    /// `REGISTRY/REPOSITORY@DIGEST`: what the name stands for in the registry.
    pub image_id: String,
    /// Config digest.
    pub id: String,
    /// Bytes as they are packed.
    pub size_bytes: u64,
    /// How many layers.
    pub layers: usize,
    /// How long it took, in milliseconds, with waiting for other pulls.
    pub took_ms: u64,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `ClusterIP`, `NodePort`, …
    pub kind: String,
    /// Addresses; `None` in words when headless.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    #[serde(default)]
    pub external_ips: Vec<IpAddr>,
    /// Addresses of its load balancer that this node serves.
    #[serde(default)]
    pub load_balancer_ips: Vec<IpAddr>,
    /// Clients outside get backends of this node only, and keep their address.
    #[serde(default)]
    pub external_local: bool,
    /// Clients inside get backends of this node only.
    #[serde(default)]
    pub internal_local: bool,
    /// Seconds that a client keeps its backend; `None` without session affinity.
    #[serde(default)]
    pub session_affinity_s: Option<u32>,
    /// Networks whose clients the load balancer's addresses serve; empty for all.
    #[serde(default)]
    pub source_ranges: Vec<String>,
    /// Where a load balancer asks whether this node has backends.
    #[serde(default)]
    pub health_check_node_port: Option<u16>,
    /// Another proxy serves it (`service.kubernetes.io/service-proxy-name`).
    #[serde(default)]
    pub other_proxy: bool,
    /// Ports.
    pub ports: Vec<ServicePortView>,
    /// Since when it is known.
    pub created: Option<Timestamp>,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePortView {
    /// Name.
    pub name: Option<String>,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// NodePort.
    pub node_port: Option<u16>,
    /// Backends.
    pub backends: Vec<BackendView>,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendView {
    /// Address.
    pub addr: IpAddr,
    /// Port.
    pub port: u16,
    /// `active`, `active-terminating`, `standby` (ready, and not used here), `draining`, `not-ready`.
    pub state: String,
    /// The pod behind it.
    pub pod: Option<String>,
}

/// A port of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPortView {
    /// The pod, `namespace/name`.
    pub pod: String,
    /// `192.0.2.7:8080/TCP`; `0.0.0.0` or `[::]` for every address of the node.
    pub address: String,
    /// Where connections go, `10.244.0.7:80`.
    pub target: String,
    /// Who has this port instead: a Service, or `Pod namespace/name`.
    pub taken_by: Option<String>,
}

/// One table of the eBPF programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableView {
    /// Name of the map.
    pub map: String,
    /// Entries that it holds.
    pub entries: u32,
    /// Entries that it has room for.
    pub max_entries: u32,
    /// What the programs could not put into it since it was made.
    pub failed_inserts: u64,
    /// What it is for.
    pub purpose: String,
}

/// Packets and bytes one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets, as the interface counts them.
    pub packets: u64,
    /// Bytes with Ethernet headers, as the interface counts them.
    pub bytes: u64,
    /// New connections (TCP) and flows (UDP).
    pub connections: u64,
}

/// One pod's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCountersView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Into the pod.
    pub received: Traffic,
    /// Out of the pod.
    pub sent: Traffic,
    /// Dropped on the way in, by reason; reasons with 0 are left out.
    pub drops_in: BTreeMap<String, u64>,
    /// Dropped on the way out, by reason.
    pub drops_out: BTreeMap<String, u64>,
}

/// Counters of one backend of one service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendCountersView {
    /// Service, `namespace/name:port`.
    pub service: String,
    /// Backend, `addr:port`.
    pub backend: String,
    /// The pod behind it.
    pub pod: Option<String>,
    /// Connections (TCP) and flows (UDP) sent to it.
    pub connections: u64,
    /// Packets from clients to it.
    pub packets_to: u64,
    /// Bytes from clients to it.
    pub bytes_to: u64,
    /// Packets back.
    pub packets_from: u64,
    /// Bytes back.
    pub bytes_from: u64,
}

/// All counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersView {
    /// By pod.
    pub pods: Vec<PodCountersView>,
    /// By service and backend.
    pub backends: Vec<BackendCountersView>,
    /// Packets that never belonged to a pod (uplinks), dropped, by reason.
    pub node_drops: BTreeMap<String, u64>,
    /// Pods without counters and why (host network).
    pub not_counted: Vec<String>,
}
