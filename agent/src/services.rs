//! The Services of the node: Services and endpoints in, map operations out. They
//! come from manifests and the node's own pods, or from an API server.
//!
//! Every change is worked out and written at once under one lock, so that who
//! tells a pod to end knows that no new connection reaches it any more.

mod cluster;
mod view;

pub(crate) use cluster::{ServiceEvent, SliceEvent};

use crate::events::EventLog;
use crate::manifest::ManifestSet;
use crate::pod::chain;
use anyhow::{Context, Result};
use jiff::Timestamp;
use orlop_datapath::Datapath;
use orlop_lb::{
    Assignment, Cluster, Compiler, Input, LbPlan, LbTables, PodEndpoint, Service, ServiceCidr, assign,
    endpoints_from_pods,
};
use orlop_model::{EventKind, PodUid, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// See the module's text.
pub(crate) struct Services {
    inner: Mutex<Inner>,
    datapath: Arc<Datapath>,
    file: PathBuf,
    repair: Notify,
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
    assignment: Assignment,
    /// What an API server says; empty without one.
    cluster: Cluster,
}

impl Services {
    /// Nothing is known yet but the addresses that `file` remembers.
    ///
    /// # Errors
    /// The file is damaged: Services would get other addresses.
    pub fn new(datapath: Arc<Datapath>, file: PathBuf) -> Result<Self> {
        let assignment = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("understand {}: remove it to give the Services new addresses", file.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Assignment::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let inner = Mutex::new(Inner { assignment, ..Inner::default() });
        Ok(Self { inner, datapath, file, repair: Notify::new() })
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
        let (compiler, plan) = Compiler::restore(dump, inner.inputs());
        inner.compiler = compiler;
        inner.open = true;
        let changes = plan.0.len();
        self.write(&plan, events);
        Ok(changes)
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

    /// Makes the Services be what the manifests say.
    pub fn reconcile(&self, set: &ManifestSet, cidrs: &[ServiceCidr], events: &EventLog) {
        let mut inner = self.lock();
        for object in events.starting_with("Service ").keys() {
            let told = set.problems.iter().any(|problem| problem.object.as_ref() == Some(object));
            if !told && !set.services.contains_key(object.trim_start_matches("Service ")) {
                events.forget(object);
            }
        }
        let mut valid = Vec::new();
        for (key, (file, manifest)) in &set.services {
            let object = format!("Service {key}");
            match manifest.clone().validate() {
                Err(error) => {
                    let message = format!("{}: {error}", file.display());
                    events.record(&object, EventKind::Warning, "FailedValidation", message);
                }
                Ok(validated) => {
                    for warning in validated.warnings {
                        events.record(&object, EventKind::Warning, "UnsupportedField", warning);
                    }
                    valid.push(validated.service);
                }
            }
        }
        let (services, errors) = assign(valid, cidrs, &mut inner.assignment);
        for error in errors {
            events.record("Node", EventKind::Warning, "ServiceNotAssigned", error.to_string());
        }
        self.save(&inner.assignment, events);
        let wanted: BTreeMap<ServiceKey, Service> = services.into_iter().map(|s| (s.key.clone(), s)).collect();
        self.replace(&mut inner, wanted, events);
        for conflict in inner.compiler.conflicts() {
            events.record("Node", EventKind::Warning, "FrontendConflict", conflict.to_string());
        }
    }

    fn replace(&self, inner: &mut Inner, wanted: BTreeMap<ServiceKey, Service>, events: &EventLog) {
        let gone: Vec<ServiceKey> = inner.wanted.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for key in gone {
            inner.wanted.remove(&key);
            inner.since.remove(&key);
            let plan = inner.compiler.remove_service(&key);
            self.write(&plan, events);
            events.forget(&format!("Service {key}"));
        }
        for (key, service) in wanted {
            if inner.wanted.get(&key) == Some(&service) {
                continue;
            }
            inner.since.entry(key.clone()).or_insert_with(Timestamp::now);
            if inner.open {
                let input = inner.input(&service);
                let plan = inner.compiler.set_service(&input);
                self.write(&plan, events);
            }
            inner.wanted.insert(key, service);
        }
    }

    /// Addresses that were given stay given, over restarts.
    fn save(&self, assignment: &Assignment, events: &EventLog) {
        let temporary = self.file.with_extension("new");
        let written = serde_json::to_vec(assignment)
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, &self.file));
        if let Err(error) = written {
            let message = format!("write {}: {error}", self.file.display());
            events.record("Node", EventKind::Warning, "FailedSaveServices", message);
        }
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
            let plan = inner.compiler.set_service(&input);
            self.write(&plan, events);
        }
        self.follow(&mut inner, &touched, events);
    }

    fn write(&self, plan: &LbPlan, events: &EventLog) {
        if plan.0.is_empty() {
            return;
        }
        let Err(error) = self.datapath.apply(&plan.0) else { return };
        let problem = chain(&error);
        let message = format!("service map operations failed and are repaired from what the maps hold: {problem}");
        events.record("Node", EventKind::Warning, "ServiceMapWriteFailed", message);
        self.repair.notify_one();
    }

    /// Repairs the maps after a failed write, from what they hold, until it holds.
    pub async fn keep_repaired(&self, events: &EventLog) {
        loop {
            self.repair.notified().await;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            let mut inner = self.lock();
            let dump = self.datapath.dump();
            match dump {
                Ok(dump) => {
                    let plan = inner.compiler.resync(dump);
                    self.write(&plan, events);
                }
                Err(error) => {
                    events.record("Node", EventKind::Warning, "ServiceMapReadFailed", chain(&error));
                    self.repair.notify_one();
                }
            }
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
