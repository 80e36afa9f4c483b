//! Copies of a pod template, as a Deployment's ReplicaSets keep them.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::{all, call, make, text};
use crate::cluster::Core;
use crate::removal::{self, DeleteOptions};

/// How pods of an older template are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// They stay.
    Keep,
    /// One more is made, and when it is ready an old one goes, until all are new.
    Rolling,
}

/// Keeps `count` pods of a template: see `ApiServer::replicas`.
#[derive(Debug, Clone)]
pub struct ReplicaSet {
    /// The namespace of its pods.
    pub namespace: String,
    /// Its pods are named after it.
    pub name: String,
    /// How many.
    pub count: usize,
    /// `metadata` (labels, annotations) and `spec` of a pod.
    pub template: Value,
    /// What happens to pods of an older template.
    pub update: Update,
}

/// Says which set a pod is of, and of which template.
const SET: &str = "orlop.test/replica-set";
const TEMPLATE: &str = "orlop.test/template";

pub(super) fn reconcile(core: &Core) {
    let sets: Vec<ReplicaSet> =
        core.replicas.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
    if sets.is_empty() {
        return;
    }
    let pods = all(core, "pods");
    for set in sets {
        keep(core, &set, &pods);
    }
}

fn keep(core: &Core, set: &ReplicaSet, pods: &[Arc<Value>]) {
    let template = set.template.to_string();
    let live: Vec<&Arc<Value>> = pods
        .iter()
        .filter(|pod| {
            let ended = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
            text(pod, "/metadata/namespace") == set.namespace
                && pod["metadata"]["annotations"][SET] == *set.name
                && pod["metadata"]["deletionTimestamp"].is_null()
                && !ended
        })
        .collect();
    let current =
        |pod: &&Arc<Value>| set.update == Update::Keep || pod["metadata"]["annotations"][TEMPLATE] == *template;
    let (new, old): (Vec<&Arc<Value>>, Vec<&Arc<Value>>) = live.into_iter().partition(current);
    let ready = new.iter().filter(|pod| super::endpoints::is_ready(pod)).count();
    // One pod over the count at a time, one old pod for each new one that is ready.
    let room = (set.count + usize::from(!old.is_empty())).saturating_sub(new.len() + old.len());
    for _ in 0..room.min(set.count.saturating_sub(new.len())) {
        create(core, set, &template);
    }
    let surplus_old = (old.len() + ready).saturating_sub(set.count).min(old.len());
    let surplus_new = new.len().saturating_sub(set.count);
    for pod in old.iter().take(surplus_old).chain(new.iter().take(surplus_new)) {
        let name = text(pod, "/metadata/name");
        let _ = removal::delete(core, &call("pods", &set.namespace, name), &DeleteOptions::default());
    }
}

fn create(core: &Core, set: &ReplicaSet, template: &str) {
    let mut pod = set.template.clone();
    pod["metadata"]["generateName"] = json!(format!("{}-", set.name));
    pod["metadata"]["annotations"][SET] = json!(set.name);
    pod["metadata"]["annotations"][TEMPLATE] = json!(template);
    make(core, "pods", &set.namespace, pod);
}
