//! A pod as wanted, after admission: names checked, defaults filled in, ports
//! resolved, pod and container security merged.

use crate::{
    ContainerName, ContainerResources, ContainerSecurity, ImageRef, PodKey, PodResources, PodSecurity, PodUid, Probe,
    Protocol, QosClass, Toleration, VolumeDesired, VolumeMount,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// What happens when a container of the pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// It runs again.
    Always,
    /// It runs again unless it exited 0.
    OnFailure,
    /// It stays ended.
    Never,
}

/// When to fetch the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every start; what `:latest` means when nothing is said.
    Always,
    /// When it is not there.
    IfNotPresent,
    /// Never; a missing image is `ErrImageNeverPull`.
    Never,
}

/// How a termination message is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminationMessagePolicy {
    /// The file only.
    File,
    /// The end of the log when the file is empty and the container failed.
    FallbackToLogsOnError,
}

/// A key of a ConfigMap or Secret in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Object name.
    pub name: String,
    /// Key inside it.
    pub key: String,
    /// A missing object or key leaves the variable out.
    pub optional: bool,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvSource {
    /// A text in which `$(NAME)` is expanded.
    Value(String),
    /// `fieldRef`: a downward-API path such as `status.podIP`.
    Field(String),
    /// `resourceFieldRef`.
    Resource {
        /// `None` is the container itself.
        container: Option<ContainerName>,
        /// For example `limits.memory`.
        resource: String,
        /// Unit to divide by and round up to, in the resource's base unit
        /// (thousandths of a CPU or bytes).
        divisor: u64,
    },
    /// A ConfigMap's key.
    ConfigMap(ObjectKey),
    /// A Secret's key.
    Secret(ObjectKey),
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Name, without '='.
    pub name: String,
    /// Value or where it is.
    pub source: EnvSource,
}

/// All keys of an object as variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFrom {
    /// Put before each key.
    pub prefix: String,
    /// `true` reads a Secret, `false` a ConfigMap.
    pub secret: bool,
    /// Object name.
    pub name: String,
    /// A missing object adds nothing.
    pub optional: bool,
}

/// A port that a container says it listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Name that Services and probes may use.
    pub name: Option<String>,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the node, if any.
    pub host_port: Option<u16>,
    /// Address on the node; `None` is all.
    pub host_ip: Option<IpAddr>,
    /// Transport.
    pub protocol: Protocol,
}

/// Whether a container runs before the pod's own or with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerRole {
    /// Runs to success before the next one starts.
    Init,
    /// One of the pod's own.
    Main,
}

/// One container as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerDesired {
    /// Unique in the pod.
    pub name: ContainerName,
    /// Init or main.
    pub role: ContainerRole,
    /// Image as written.
    pub image: ImageRef,
    /// When to fetch it.
    pub pull_policy: PullPolicy,
    /// Replaces the image's entrypoint when not empty; `$(VAR)` not yet expanded.
    pub command: Vec<String>,
    /// Replaces the image's cmd when not empty; `$(VAR)` not yet expanded.
    pub args: Vec<String>,
    /// `None` takes the image's.
    pub working_dir: Option<PathBuf>,
    /// Whole objects as variables, first to last; `env` wins.
    pub env_from: Vec<EnvFrom>,
    /// Variables, first to last.
    pub env: Vec<EnvVar>,
    /// Declared ports.
    pub ports: Vec<ContainerPort>,
    /// Mounted volumes.
    pub mounts: Vec<VolumeMount>,
    /// Requests and limits.
    pub resources: ContainerResources,
    /// Effective security context.
    pub security: ContainerSecurity,
    /// Startup probe.
    pub startup: Option<Probe>,
    /// Liveness probe.
    pub liveness: Option<Probe>,
    /// Readiness probe.
    pub readiness: Option<Probe>,
    /// A terminal for the main process.
    pub tty: bool,
    /// Standard input is kept open.
    pub stdin: bool,
    /// Path in the container, default `/dev/termination-log`.
    pub termination_message_path: PathBuf,
    /// Where the message comes from.
    pub termination_message_policy: TerminationMessagePolicy,
}

impl ContainerDesired {
    /// A main container of which only the name and image are said.
    #[must_use]
    pub fn new(name: ContainerName, image: ImageRef) -> Self {
        Self {
            name,
            role: ContainerRole::Main,
            image,
            pull_policy: PullPolicy::IfNotPresent,
            command: Vec::new(),
            args: Vec::new(),
            working_dir: None,
            env_from: Vec::new(),
            env: Vec::new(),
            ports: Vec::new(),
            mounts: Vec::new(),
            resources: ContainerResources::default(),
            security: ContainerSecurity::default(),
            startup: None,
            liveness: None,
            readiness: None,
            tty: false,
            stdin: false,
            termination_message_path: PathBuf::from("/dev/termination-log"),
            termination_message_policy: TerminationMessagePolicy::File,
        }
    }
}

/// `/etc/resolv.conf` of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsDesired {
    /// The node's file is taken first (`dnsPolicy: Default`).
    pub from_node: bool,
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, `name` or `name:value`.
    pub options: Vec<String>,
}

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// Address.
    pub ip: IpAddr,
    /// Names for it.
    pub hostnames: Vec<String>,
}

/// A pod as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDesired {
    /// Unique over time. In standalone mode it is derived from the manifest, so
    /// that a changed spec is another pod and an unchanged one the same.
    pub uid: PodUid,
    /// Namespace and name.
    pub key: PodKey,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec.nodeName`, for the downward API.
    pub node_name: String,
    /// `spec.serviceAccountName`, for the downward API.
    pub service_account: String,
    /// Uses the node's network namespace.
    pub host_network: bool,
    /// Uses the node's PID namespace.
    pub host_pid: bool,
    /// Uses the node's IPC namespace.
    pub host_ipc: bool,
    /// Containers see each other's processes.
    pub share_process_namespace: bool,
    /// Host name inside the pod without its domain, at most 63 characters; see
    /// [`PodDesired::kernel_hostname`].
    pub hostname: String,
    /// Fully qualified name's remainder, `SUBDOMAIN.NAMESPACE.svc.DOMAIN`, if any.
    pub domain: Option<String>,
    /// The kernel's host name is the fully qualified one (`setHostnameAsFQDN`).
    pub hostname_as_fqdn: bool,
    /// Restart policy.
    pub restart_policy: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL; default 30.
    pub termination_grace_secs: u64,
    /// Seconds the whole pod may be active.
    pub active_deadline_secs: Option<u64>,
    /// Init containers first, in order, then main ones.
    pub containers: Vec<ContainerDesired>,
    /// Volumes.
    pub volumes: Vec<VolumeDesired>,
    /// Quality of service.
    pub qos: QosClass,
    /// What the pod's cgroup is given.
    pub resources: PodResources,
    /// Pod-level security.
    pub security: PodSecurity,
    /// Name resolution.
    pub dns: DnsDesired,
    /// Extra lines of `/etc/hosts`.
    pub host_aliases: Vec<HostAlias>,
    /// Secrets to pull images with, in order, by name in the pod's namespace.
    pub pull_secrets: Vec<String>,
    /// Services of the pod's namespace become variables (`enableServiceLinks`).
    pub service_links: bool,
    /// Conditions that others set and that `Ready` waits for.
    pub readiness_gates: Vec<String>,
    /// Taints that the pod bears.
    pub tolerations: Vec<Toleration>,
    /// More is more important; 0 when nothing is said.
    pub priority: i32,
    /// Name of the PriorityClass the priority came from, if any.
    pub priority_class: Option<String>,
    /// `metadata.generation`: the API server's count of changes of the spec. `None`
    /// for a pod that is in no API server.
    pub generation: Option<i64>,
    /// When the source asked for it to end, and by when it must have.
    pub deletion: Option<Deletion>,
    /// Fingerprint of the spec, for the plan and for `describe`.
    pub spec_hash: u64,
}

/// A pod that is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When it was asked for.
    pub at: Timestamp,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_secs: u64,
}

/// The host name of the pod does not fit into the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({HOSTNAME_CHARS_MAX} characters is the max, {} characters requested)",
    .fqdn.len()
)]
pub struct HostnameTooLong {
    /// What it would be.
    pub fqdn: String,
}

/// The kernel's `__NEW_UTS_LEN`.
const HOSTNAME_CHARS_MAX: usize = 64;

impl PodDesired {
    /// A pod without containers or volumes, with everything else as the API server
    /// has it when nothing is said.
    #[must_use]
    pub fn new(uid: PodUid, key: PodKey) -> Self {
        Self {
            hostname: key.name().chars().take(63).collect(),
            uid,
            key,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            node_name: String::new(),
            service_account: "default".to_owned(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            domain: None,
            hostname_as_fqdn: false,
            restart_policy: RestartPolicy::Always,
            termination_grace_secs: 30,
            active_deadline_secs: None,
            containers: Vec::new(),
            volumes: Vec::new(),
            qos: QosClass::BestEffort,
            resources: PodResources::default(),
            security: PodSecurity::default(),
            dns: DnsDesired::default(),
            host_aliases: Vec::new(),
            pull_secrets: Vec::new(),
            service_links: true,
            readiness_gates: Vec::new(),
            tolerations: Vec::new(),
            priority: 0,
            priority_class: None,
            generation: None,
            deletion: None,
            spec_hash: 0,
        }
    }

    /// What the pod's `uname -n` says: the fully qualified name with `setHostnameAsFQDN`.
    ///
    /// # Errors
    /// That name has more than 64 characters; the sandbox cannot be made
    /// (`FailedCreatePodSandBox`), as with the kubelet.
    pub fn kernel_hostname(&self) -> Result<String, HostnameTooLong> {
        let domain = self.domain.as_deref().filter(|domain| self.hostname_as_fqdn && !domain.is_empty());
        let Some(domain) = domain else { return Ok(self.hostname.clone()) };
        let fqdn = format!("{}.{domain}", self.hostname);
        if fqdn.len() > HOSTNAME_CHARS_MAX { Err(HostnameTooLong { fqdn }) } else { Ok(fqdn) }
    }

    /// Init containers in order.
    pub fn init_containers(&self) -> impl Iterator<Item = &ContainerDesired> {
        self.containers.iter().filter(|c| c.role == ContainerRole::Init)
    }
    /// The pod's own containers in order.
    pub fn main_containers(&self) -> impl Iterator<Item = &ContainerDesired> {
        self.containers.iter().filter(|c| c.role == ContainerRole::Main)
    }
    /// A container by name.
    #[must_use]
    pub fn container(&self, name: &ContainerName) -> Option<&ContainerDesired> {
        self.containers.iter().find(|c| &c.name == name)
    }
}
