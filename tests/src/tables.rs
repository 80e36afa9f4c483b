//! What `orlop counters` and `orlop services` say.

use crate::World;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// Packets, bytes and new connections one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet headers included.
    pub bytes: u64,
    /// New connections and UDP flows.
    pub connections: u64,
}

/// A pod's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct PodCounters {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Into the pod.
    pub received: Traffic,
    /// Out of the pod.
    pub sent: Traffic,
    /// Dropped on the way in, by reason.
    pub drops_in: BTreeMap<String, u64>,
    /// Dropped on the way out, by reason.
    pub drops_out: BTreeMap<String, u64>,
}

/// Counters of a backend of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct BackendCounters {
    /// `namespace/name:port`.
    pub service: String,
    /// `addr:port`.
    pub backend: String,
    /// The pod behind it.
    pub pod: Option<String>,
    /// Connections and flows given to it.
    pub connections: u64,
    /// Packets to it.
    pub packets_to: u64,
    /// Bytes to it.
    pub bytes_to: u64,
    /// Packets from it.
    pub packets_from: u64,
    /// Bytes from it.
    pub bytes_from: u64,
}

/// `orlop counters -o json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Counters {
    /// By pod.
    pub pods: Vec<PodCounters>,
    /// By Service and backend.
    pub backends: Vec<BackendCounters>,
    /// Dropped where no pod is, by reason.
    pub node_drops: BTreeMap<String, u64>,
    /// Pods without counters, and why.
    pub not_counted: Vec<String>,
}

/// A Service, as in `orlop services -o json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: String,
    /// Addresses.
    pub cluster_ips: Vec<String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServicePort {
    /// Name.
    pub name: Option<String>,
    /// `TCP`, `UDP`.
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// NodePort.
    pub node_port: Option<u16>,
    /// Backends.
    pub backends: Vec<Backend>,
}

/// A backend of a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Backend {
    /// Address.
    pub addr: String,
    /// Port.
    pub port: u16,
    /// `active`, `draining`, `not-ready`.
    pub state: String,
    /// The pod behind it.
    pub pod: Option<String>,
}

impl Service {
    /// Pods of the namespace `default` that take new connections on the first port.
    #[must_use]
    pub fn active(&self) -> Vec<String> {
        let active = self.ports[0].backends.iter().filter(|backend| backend.state == "active");
        let mut names: Vec<String> =
            active.filter_map(|one| one.pod.as_deref()?.strip_prefix("default/").map(str::to_owned)).collect();
        names.sort();
        names
    }
}

impl Counters {
    /// A pod's; all 0 when it has none.
    #[must_use]
    pub fn pod(&self, name: &str) -> PodCounters {
        self.pods.iter().find(|pod| pod.name == name).cloned().unwrap_or_default()
    }

    /// A backend's by Service port, `name:port`, and pod; all 0 when it has none.
    #[must_use]
    pub fn backend(&self, service: &str, pod: &str) -> BackendCounters {
        let (service, pod) = (format!("default/{service}"), format!("default/{pod}"));
        let own = |one: &&BackendCounters| one.service == service && one.pod.as_deref() == Some(&pod);
        self.backends.iter().find(own).cloned().unwrap_or_default()
    }
}

impl World {
    /// All counters.
    ///
    /// # Panics
    /// The agent does not answer.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let text = self.orlop(&["counters", "-o", "json"]).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// All Services, by name.
    ///
    /// # Panics
    /// The agent does not answer.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        let answer = self.ask("services").unwrap_or_else(|| panic!("no answer:\n{}", self.agent_log()));
        list(&answer, "services")
    }

    /// A Service of the namespace `default`, if it is there.
    #[must_use]
    pub fn find_service(&self, name: &str) -> Option<Service> {
        self.services().into_iter().find(|service| service.name == name)
    }

    /// Waits until just these pods, in the order of their names, take new connections.
    ///
    /// # Panics
    /// It does not come true.
    pub fn wait_active(&self, service: &str, pods: &[&str]) {
        self.wait_until(&format!("service {service} has {pods:?}"), || {
            self.find_service(service).filter(|found| found.active() == pods)
        });
    }
}

fn list<T: DeserializeOwned>(answer: &Value, key: &str) -> Vec<T> {
    serde_json::from_value(answer[key].clone()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
