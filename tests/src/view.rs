//! What the agent answers on its socket, as far as tests look at it.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A pod, as in `orlop ps -o json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; empty for a refused manifest.
    pub uid: String,
    /// STATUS.
    pub status: String,
    /// Phase.
    pub phase: String,
    /// Ready condition.
    pub ready: bool,
    /// Addresses, primary first.
    pub ips: Vec<String>,
    /// QoS class.
    pub qos: String,
    /// Init containers, then main ones.
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Id of the newest attempt.
    pub id: Option<String>,
    /// `waiting`, `running`, `terminated`.
    pub state: String,
    /// Reason.
    pub reason: Option<String>,
    /// Message.
    pub message: Option<String>,
    /// Exit code.
    pub exit_code: Option<i32>,
    /// The attempt before, in words.
    pub last: Option<String>,
    /// Ready.
    pub ready: bool,
    /// Restarts.
    pub restarts: u32,
    /// `imageID`.
    pub image_id: Option<String>,
    /// Process id on the node.
    pub pid: Option<u32>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// `Normal` or `Warning`, as the agent writes it.
    pub kind: String,
    /// Reason.
    pub reason: String,
    /// Message.
    pub message: String,
    /// How often.
    pub count: u32,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Condition {
    /// Type.
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Reason.
    pub reason: Option<String>,
    /// Message.
    pub message: Option<String>,
}

/// A pod with its events, as in `orlop describe -o json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Detail {
    /// The row.
    pub pod: Pod,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// The pod's cgroup below the hierarchies' mounts.
    pub cgroup: String,
    /// How long each phase of its start took, in microseconds.
    pub start_phases: Vec<(String, u64)>,
    /// Events, oldest first.
    pub events: Vec<Event>,
}

impl Pod {
    /// A container by name.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn container(&self, name: &str) -> &Container {
        let found = self.containers.iter().find(|container| container.name == name);
        found.unwrap_or_else(|| panic!("pod {} has no container {name}: {self:#?}", self.name))
    }
}

impl Detail {
    /// The events with this reason.
    #[must_use]
    pub fn events(&self, reason: &str) -> Vec<&Event> {
        self.events.iter().filter(|event| event.reason == reason).collect()
    }
}
