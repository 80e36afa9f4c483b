//! The Services of the node: Services and endpoints in, map operations out. They
//! come from manifests and the node's own pods, or from an API server; the pods' host
//! ports come beside them.
//!
//! Every change is worked out and written at once under one lock, so that who
//! tells a pod to end knows that no new connection reaches it any more.

mod audit;
mod checks;
mod cluster;
mod manifests;
mod partial;
mod tables;
mod view;

pub(crate) use cluster::{ServiceEvent, SliceEvent};

use crate::events::EventLog;
use crate::health::{HealthChecks, TableHealth};
use anyhow::{Context, Result};
use jiff::Timestamp;
use orlop_datapath::Datapath;
use orlop_lb::{
    Assignment, Cluster, Compiler, HostPorts, Input, LbTables, PodEndpoint, Service, ServiceSettings,
    endpoints_from_pods,
};
use orlop_model::{PodUid, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use tables::WriteProblem;
use tokio::sync::{Notify, watch};

/// See the module's text.
pub(crate) struct Services {
    inner: Mutex<Inner>,
    datapath: Arc<Datapath>,
    file: PathBuf,
    settings: ServiceSettings,
    repair: Notify,
    /// Whether the tables were written.
    health: Mutex<TableHealth>,
    /// Problems that there is an event of.
    told: Mutex<BTreeSet<WriteProblem>>,
    /// What load balancers may ask of this node.
    checks: watch::Sender<Arc<HealthChecks>>,
    /// UDP backends that answer no more, until their clients' sockets were seen to.
    dead: Mutex<BTreeSet<SocketAddr>>,
    died: Notify,
}

#[derive(Default)]
struct Inner {
    compiler: Compiler,
    /// Before this nothing is written: the pods have not all been observed yet, and
    /// what the maps hold is better than half of it.
    open: bool,
    wanted: BTreeMap<ServiceKey, Service>,
    since: BTreeMap<ServiceKey, Timestamp>,
    pods: BTreeMap<PodUid, PodEndpoint>,
    host_ports: BTreeMap<PodUid, HostPorts>,
    assignment: Assignment,
    /// What an API server says; empty without one.
    cluster: Cluster,
    /// Conflicts that there is an event of.
    conflicts: BTreeSet<String>,
}

impl Services {
    /// Nothing is known yet but the addresses that `file` remembers.
    ///
    /// # Errors
    /// The file is damaged: Services would get other addresses.
    pub fn new(datapath: Arc<Datapath>, file: PathBuf, settings: ServiceSettings) -> Result<Self> {
        let assignment = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("understand {}: remove it to give the Services new addresses", file.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Assignment::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        Ok(Self {
            inner: Mutex::new(Inner { assignment, ..Inner::default() }),
            datapath,
            file,
            settings,
            repair: Notify::new(),
            health: Mutex::default(),
            told: Mutex::default(),
            checks: watch::Sender::default(),
            dead: Mutex::default(),
            died: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while services are held")
    }

    /// Takes the maps as they are and makes them what is wanted: after this every
    /// change is written at once. What is not known by now is removed: the lists of
    /// an API server must be whole, and the pods observed.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn open(&self, events: &EventLog) -> Result<usize, orlop_datapath::Error> {
        let mut inner = self.lock();
        let dump = self.datapath.dump()?;
        self.forget_counters_of_none(&dump)?;
        let host_ports = inner.host_ports.values().cloned();
        let (compiler, plan) = Compiler::restore_with(self.settings, dump, inner.inputs(), host_ports);
        inner.compiler = compiler;
        inner.open = true;
        self.write(&plan, events);
        self.check_all(&inner.compiler);
        inner.tell_conflicts(events);
        Ok(plan.len())
    }

    /// Makes the tables follow one Service.
    fn put(&self, inner: &mut Inner, input: &Input, events: &EventLog) {
        let plan = inner.compiler.set_service(input);
        self.write(&plan, events);
        self.check(&inner.compiler, &input.service.key);
    }

    /// Takes a Service out of the tables.
    fn remove(&self, inner: &mut Inner, key: &ServiceKey, events: &EventLog) {
        let plan = inner.compiler.remove_service(key);
        self.write(&plan, events);
        self.check(&inner.compiler, key);
    }

    /// Drops counters whose numbers the tables do not hold: who went while no agent
    /// swept up left them, and the numbers are about to be given out again.
    fn forget_counters_of_none(&self, dump: &LbTables) -> Result<(), orlop_datapath::Error> {
        let services: BTreeSet<u32> = dump.frontends.values().map(|frontend| frontend.service).collect();
        for ((service, backend), _) in self.datapath.service_counters()? {
            // Backend 0 stands for refusals.
            let known = services.contains(&service) && (backend == 0 || dump.backends.contains_key(&backend));
            if !known {
                self.datapath.forget_service_counters(service, backend)?;
            }
        }
        Ok(())
    }

    /// A pod's part in the Services changed; `None` when it is gone.
    pub fn set_pod(&self, uid: &PodUid, pod: Option<PodEndpoint>, events: &EventLog) {
        let mut inner = self.lock();
        let old = match pod.clone() {
            Some(new) if inner.pods.get(uid) == Some(&new) => return,
            Some(new) => inner.pods.insert(uid.clone(), new),
            None => inner.pods.remove(uid),
        };
        let touched = inner.cluster.set_local_pod(uid, pod.as_ref());
        if !inner.open {
            return;
        }
        let concerned = |service: &Service| [&old, &pod].into_iter().flatten().any(|pod| service.selects(pod));
        let services: Vec<Service> = inner.wanted.values().filter(|service| concerned(service)).cloned().collect();
        for service in services {
            let input = inner.input(&service);
            self.put(&mut inner, &input, events);
        }
        self.follow(&mut inner, &touched, events);
    }

    /// Ports of the node that lead to a pod; `None` when it has none (any more).
    pub fn set_host_ports(&self, uid: &PodUid, ports: Option<HostPorts>, events: &EventLog) {
        let mut inner = self.lock();
        if inner.host_ports.get(uid) == ports.as_ref() {
            return;
        }
        let plan = match (&ports, inner.open) {
            (_, false) => None,
            (Some(ports), true) => Some(inner.compiler.set_host_ports(ports)),
            (None, true) => Some(inner.compiler.remove_host_ports(uid)),
        };
        match ports {
            Some(ports) => inner.host_ports.insert(uid.clone(), ports),
            None => inner.host_ports.remove(uid),
        };
        if let Some(plan) = plan {
            self.write(&plan, events);
            inner.tell_conflicts(events);
        }
    }
}

impl Inner {
    fn input(&self, service: &Service) -> Input {
        let pods: Vec<PodEndpoint> = self.pods.values().filter(|pod| service.selects(pod)).cloned().collect();
        Input { service: service.clone(), endpoints: endpoints_from_pods(service, &pods) }
    }

    /// The Service of this name with its endpoints: of the manifests, of the API
    /// server, or nothing.
    fn inputs_of(&self, key: &ServiceKey) -> impl Iterator<Item = Input> {
        let manifest = self.wanted.get(key).map(|service| self.input(service));
        manifest.or_else(|| self.cluster.input(key)).into_iter()
    }

    /// All Services with their endpoints, one made at a time.
    fn inputs(&self) -> impl Iterator<Item = Input> {
        self.wanted.values().map(|service| self.input(service)).chain(self.cluster.inputs())
    }
}
