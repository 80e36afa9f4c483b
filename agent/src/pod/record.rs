//! What the agent must find again after its own restart, and how attempts that
//! monitors remember become facts for the plan.
//!
//! Nearly everything is observed from the monitors. The record in the state folder is
//! written before anything else is made of a pod and removed after everything else;
//! it holds what no monitor knows: the manifest itself (its file may be broken
//! or gone), when the pod was accepted and told to end, and the last state of a pod
//! that has been torn down but is still wanted.

use super::source::{Origin, PodSource};
use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use orlop_model::{ContainerId, ContainerName, Deletion};
use orlop_pod::{Backoff, ContainerObserved, Lifecycle, ObservedUser, ProbeResults, Termination};
use orlop_wire::{AttemptRecord, ContainerStatus};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    /// UID.
    pub uid: String,
    /// Who wants it.
    pub origin: Origin,
    /// The pod as it was accepted.
    pub pod: Pod,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it was told to end.
    pub deletion: Option<Deletion>,
    /// It failed for good: reason and message.
    pub failed: Option<(String, String)>,
    /// The newest attempts of each container. The monitor's own records are newer
    /// while there is a monitor, but they go with it, or with a reboot.
    pub attempts: Vec<AttemptRecord>,
    /// It ran to its end and was torn down; it stays to be looked at.
    pub finished: bool,
    /// Probe results, so that a restart of the agent takes no ready pod out of its
    /// Services.
    pub probes: BTreeMap<ContainerName, SavedProbes>,
}

/// Probe results of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedProbes {
    /// Of which attempt.
    pub attempt: u32,
    /// Startup probe has succeeded.
    pub started: bool,
    /// Readiness.
    pub ready: bool,
}

impl PodRecord {
    /// Of a pod that is accepted now.
    pub fn new(source: &PodSource) -> Self {
        Self {
            uid: source.uid.clone(),
            origin: source.origin.clone(),
            pod: source.pod.clone(),
            accepted: Timestamp::now(),
            deletion: None,
            failed: None,
            attempts: Vec::new(),
            finished: false,
            probes: BTreeMap::new(),
        }
    }

    /// Takes what is new of an attempt; an ended one does not run again.
    pub fn note(&mut self, attempt: &AttemptRecord) {
        match self.attempts.iter_mut().find(|known| known.id == attempt.id) {
            // Its end may be heard before the answer to its start.
            Some(known) if matches!(known.status, ContainerStatus::Running { .. }) => *known = attempt.clone(),
            Some(_) => {}
            None => self.attempts.push(attempt.clone()),
        }
    }

    /// Attempts older than the one before `attempt`: nobody asks for them any more.
    pub fn take_outdated(&mut self, name: &ContainerName, attempt: u32) -> Vec<ContainerId> {
        let old = |known: &AttemptRecord| known.name == *name && known.attempt + 1 < attempt;
        let ids = self.attempts.iter().filter(|known| old(known)).map(|known| known.id.clone()).collect();
        self.attempts.retain(|known| !old(known));
        ids
    }

    /// Process ids of running containers' inits, by container.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let running = self.attempts.iter().filter_map(|attempt| match &attempt.status {
            ContainerStatus::Running { pid, .. } => Some((attempt.name.to_string(), *pid)),
            ContainerStatus::Exited { .. } | ContainerStatus::Failed(_) => None,
        });
        running.collect()
    }

    /// Containers as the plan wants to see them. Attempts that are not in `present`,
    /// the living sandbox's, belong to an earlier sandbox; what ran in it is lost.
    pub fn containers(
        &self,
        present: &BTreeSet<ContainerId>,
        now: Timestamp,
    ) -> BTreeMap<ContainerName, ContainerObserved> {
        let mut attempts: Vec<&AttemptRecord> = self.attempts.iter().collect();
        attempts.sort_by_key(|record| record.attempt);
        let mut containers = BTreeMap::<ContainerName, ContainerObserved>::new();
        for record in attempts {
            let note: AttemptNote = serde_json::from_value(record.meta.clone()).unwrap_or_default();
            let seen = containers.entry(record.name.clone()).or_default();
            if let Lifecycle::Ended(ended) = &seen.life {
                seen.last = Some(ended.clone());
            }
            seen.life = lifecycle(record);
            seen.attempt = Some(record.attempt);
            seen.backoff = note.backoff;
            (seen.image_id, seen.user) = (note.image_id, note.user);
            seen.earlier_sandbox = !present.contains(&record.id);
            if seen.earlier_sandbox {
                super::facts::lose(seen, now);
            }
            if let Some(saved) = self.probes.get(&record.name).filter(|saved| saved.attempt == record.attempt) {
                seen.probes = ProbeResults { started: saved.started, ready: saved.ready, kill: None };
            }
        }
        containers
    }

    /// Writes it, atomically.
    ///
    /// # Errors
    /// Names the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let temporary = path.with_extension("new");
        let bytes = serde_json::to_vec(self).context("encode the pod's record")?;
        fs::create_dir_all(path.parent().unwrap_or(path))
            .and_then(|()| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Reads it.
    ///
    /// # Errors
    /// Names the file; it is missing or damaged.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("understand {}", path.display()))
    }
}

/// The agent's note on an attempt ([`orlop_wire::CreateContainer::meta`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AttemptNote {
    /// Image id (`sha256:…`).
    pub image_id: Option<String>,
    /// Back-off it was started under.
    pub backoff: Option<Backoff>,
    /// Whom its first process runs as.
    pub user: Option<ObservedUser>,
}

/// How an attempt that no longer runs ended; `None` while it runs.
pub(crate) fn termination(record: &AttemptRecord) -> Option<Termination> {
    let (started, code, signal, reason, message, finished) = match &record.status {
        ContainerStatus::Running { .. } => return None,
        ContainerStatus::Exited { started, exit } => {
            let reason = match (exit.oom_killed, exit.code) {
                (true, _) => "OOMKilled",
                (false, 0) => "Completed",
                (false, _) => "Error",
            };
            (Some(*started), exit.code, exit.signal, reason.to_owned(), exit.message.clone(), exit.at)
        }
        ContainerStatus::Failed(why) => (None, why.code, None, why.reason.clone(), why.message.clone(), why.at),
    };
    let (id, attempt) = (record.id.clone(), record.attempt);
    Some(Termination { id, attempt, code, signal, reason, message, started, finished })
}

/// The state of one attempt.
pub(crate) fn lifecycle(record: &AttemptRecord) -> Lifecycle {
    match (&record.status, termination(record)) {
        (ContainerStatus::Running { started, .. }, _) => {
            Lifecycle::Running { id: record.id.clone(), started: *started }
        }
        (_, Some(ended)) => Lifecycle::Ended(ended),
        (ContainerStatus::Exited { .. } | ContainerStatus::Failed(_), None) => Lifecycle::Absent,
    }
}
