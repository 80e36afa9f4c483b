//! Counters in words: devices become pods, numbers become Services.

use crate::api::{BackendCountersView, CountersView, PodCountersView, Traffic};
use crate::node::Node;
use crate::pod::PodSnapshot;
use anyhow::{Context, Result};
use orlop_cni::LinkNames;
use orlop_datapath::{DropReason, PodCounters};
use orlop_model::Ifindex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often counters of backends that are gone are dropped from the map.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// Drops counters that no Service has a name for any more, for ever.
pub(crate) async fn collect(node: Arc<Node>) {
    loop {
        tokio::time::sleep(COLLECT_EVERY).await;
        // Before the names: a backend that comes in between has no counters to lose.
        let counted = node.datapath.service_counters().unwrap_or_default();
        let names = node.services.names();
        for ((service, backend), _) in counted.iter().filter(|(ids, _)| !names.contains_key(ids)) {
            if let Err(error) = node.datapath.forget_service_counters(*service, *backend) {
                tracing::warn!(err = %crate::pod::chain(&error), "old counters not dropped");
            }
        }
    }
}

impl Node {
    /// All counters, or one pod's.
    ///
    /// # Errors
    /// A map or the links cannot be read.
    pub async fn counters(&self, only: Option<&PodSnapshot>) -> Result<CountersView> {
        let links = self.network.list().await.context("list the pods' links")?;
        let mut by_device: BTreeMap<Ifindex, PodCounters> =
            self.datapath.pod_counters().context("read the devices' counters")?.into_iter().collect();
        let mut view = CountersView::default();
        for pod in self.pods.snapshots() {
            let chosen = only.is_none_or(|only| only.want.uid == pod.want.uid);
            let name = LinkNames::of(&pod.want.uid).host;
            let device = links.iter().find(|link| link.name == name).map(|link| link.index);
            let counters = device.and_then(|device| by_device.remove(&device));
            match counters {
                Some(counters) if chosen => view.pods.push(pod_view(&pod, &counters)),
                None if chosen && pod.want.host_network => {
                    view.not_counted
                        .push(format!("{}: it is on the host network and has no device of its own", pod.want.key));
                }
                Some(_) | None => {}
            }
        }
        if only.is_none() {
            // What is left are the uplinks and devices of pods that are just ending.
            for counters in by_device.values() {
                for (reason, count) in counters.drops_from.iter().chain(&counters.drops_to) {
                    *view.node_drops.entry(reason.name().to_owned()).or_default() += count;
                }
            }
        }
        view.backends = self.backend_counters(only)?;
        Ok(view)
    }

    fn backend_counters(&self, only: Option<&PodSnapshot>) -> Result<Vec<BackendCountersView>> {
        let names = self.services.names();
        let counters = self.datapath.service_counters().context("read the services' counters")?;
        let mut rows: BTreeMap<(String, String), BackendCountersView> = BTreeMap::new();
        for (ids, counted) in counters {
            let Some(name) = names.get(&ids) else { continue };
            if only.is_some_and(|only| name.pod.as_deref() != Some(&only.want.key.to_string())) {
                continue;
            }
            let key = (name.service.clone(), name.backend.clone());
            let row = rows.entry(key).or_insert_with(|| BackendCountersView {
                service: name.service.clone(),
                backend: name.backend.clone(),
                pod: name.pod.clone(),
                connections: 0,
                packets_to: 0,
                bytes_to: 0,
                packets_from: 0,
                bytes_from: 0,
            });
            row.connections += counted.connections;
            row.packets_to += counted.packets_to;
            row.bytes_to += counted.bytes_to;
            row.packets_from += counted.packets_from;
            row.bytes_from += counted.bytes_from;
        }
        Ok(rows.into_values().collect())
    }
}

fn pod_view(pod: &Arc<PodSnapshot>, counters: &PodCounters) -> PodCountersView {
    let traffic =
        |t: &orlop_datapath::Traffic| Traffic { packets: t.packets, bytes: t.bytes, connections: t.connections };
    let drops = |drops: &BTreeMap<DropReason, u64>| drops.iter().map(|(r, n)| (r.name().to_owned(), *n)).collect();
    PodCountersView {
        namespace: pod.want.key.namespace().to_owned(),
        name: pod.want.key.name().to_owned(),
        received: traffic(&counters.to),
        sent: traffic(&counters.from),
        drops_in: drops(&counters.drops_to),
        drops_out: drops(&counters.drops_from),
    }
}
