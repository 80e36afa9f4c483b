//! What a pod needs from the API server besides itself.

use orlop_model::{EnvFrom, EnvSource, PodDesired, Projection, TokenAsk, VolumeSource};
use std::collections::{BTreeMap, BTreeSet};

/// Whether the pod waits for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The pod goes on without it.
    Optional,
    /// A volume or a container waits for it.
    Required,
}

/// Objects of the pod's namespace, each to be watched while the pod lives, and the
/// tokens of its service account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// By name.
    pub config_maps: BTreeMap<String, Need>,
    /// By name; those for pulling images are optional: an image may be there or public.
    pub secrets: BTreeMap<String, Need>,
    /// Each token once, however many volumes ask for it.
    pub tokens: BTreeSet<TokenAsk>,
}

/// Everything that volumes, variables and images of the pod refer to.
#[must_use]
pub fn needs(pod: &PodDesired) -> Needs {
    let mut needs = Needs::default();
    for volume in &pod.volumes {
        match &volume.source {
            VolumeSource::ConfigMap { name, optional, .. } => needs.config_map(name, *optional),
            VolumeSource::Secret { name, optional, .. } => needs.secret(name, *optional),
            VolumeSource::Projected { sources, default_mode: _ } => sources.iter().for_each(|one| needs.projected(one)),
            VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } | VolumeSource::Downward { .. } => {}
        }
    }
    for container in &pod.containers {
        for EnvFrom { prefix: _, secret, name, optional } in &container.env_from {
            if *secret { needs.secret(name, *optional) } else { needs.config_map(name, *optional) }
        }
        for var in &container.env {
            match &var.source {
                EnvSource::ConfigMap(key) => needs.config_map(&key.name, key.optional),
                EnvSource::Secret(key) => needs.secret(&key.name, key.optional),
                EnvSource::Value(_) | EnvSource::Field(_) | EnvSource::Resource { .. } => {}
            }
        }
    }
    pod.pull_secrets.iter().for_each(|name| needs.secret(name, true));
    needs
}

impl Needs {
    fn config_map(&mut self, name: &str, optional: bool) {
        take(&mut self.config_maps, name, optional);
    }
    fn secret(&mut self, name: &str, optional: bool) {
        take(&mut self.secrets, name, optional);
    }
    fn projected(&mut self, source: &Projection) {
        match source {
            Projection::ConfigMap { name, items: _, optional } => self.config_map(name, *optional),
            Projection::Secret { name, items: _, optional } => self.secret(name, *optional),
            Projection::Token { path: _, ask } => drop(self.tokens.insert(ask.clone())),
            Projection::Downward { items: _ } => {}
        }
    }
}

/// Required somewhere is required.
fn take(list: &mut BTreeMap<String, Need>, name: &str, optional: bool) {
    let need = if optional { Need::Optional } else { Need::Required };
    let known = list.entry(name.to_owned()).or_insert(need);
    *known = need.max(*known);
}
