//! Mirror pods: what shows static pods to the API server.

use super::Cluster;
use crate::node::Node;
use crate::pod::{Origin, PodSource};
use k8s_openapi::api::core::v1::Pod;
use orlop_apiclient::{DeleteOptions, PODS};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// After something could not be written.
const RETRY: Duration = Duration::from_secs(2);

/// What is to be done about one mirror.
enum Action<'a> {
    Create(&'a PodSource),
    Delete(Arc<Pod>),
}

/// Keeps one mirror for each static pod, for ever.
pub(super) async fn follow(node: Arc<Node>, cluster: Arc<Cluster>) {
    let mut changes = cluster.pods.changes();
    let mut registered = cluster.registered.subscribe();
    let mut static_pods = node.static_pods.subscribe();
    loop {
        changes.borrow_and_update();
        let uid = registered.borrow_and_update().as_ref().and_then(|node| node.metadata.uid.clone());
        let wanted = static_pods.borrow_and_update().clone();
        let mut failed = false;
        if let Some(uid) = uid.filter(|_| cluster.pods.known()) {
            for action in plan(&wanted, &cluster.pods.mirrors()) {
                failed |= !carry_out(&node, &cluster, &uid, action).await;
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = registered.changed() => {}
            _ = static_pods.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// Pure: a mirror of another state goes first, and comes back by the change that this makes.
fn plan<'a>(wanted: &'a BTreeMap<String, Arc<PodSource>>, mirrors: &BTreeMap<String, Arc<Pod>>) -> Vec<Action<'a>> {
    let mut actions = Vec::new();
    for (key, mirror) in mirrors {
        // One that somebody deletes goes at once, as it would with the kubelet.
        let going = mirror.metadata.deletion_timestamp.is_some();
        if going || wanted.get(key).is_none_or(|source| !orlop_pod::is_mirror_of(mirror, &source.pod)) {
            actions.push(Action::Delete(Arc::clone(mirror)));
        }
    }
    actions
        .extend(wanted.iter().filter(|(key, _)| !mirrors.contains_key(*key)).map(|(_, source)| Action::Create(source)));
    actions
}

/// Whether it is done, or does not have to be any more.
async fn carry_out(node: &Node, cluster: &Cluster, node_uid: &str, action: Action<'_>) -> bool {
    match action {
        Action::Create(source) => {
            debug_assert!(matches!(source.origin, Origin::File(_)));
            let mirror = orlop_pod::mirror_pod(&source.pod, &node.config.node_name, node_uid);
            let namespace = mirror.metadata.namespace.clone().unwrap_or_default();
            match cluster.client.create::<serde::de::IgnoredAny>(&PODS.within(namespace), &mirror).await {
                Ok(_) => true,
                Err(error) if error.is_already_exists() => true,
                Err(error) => {
                    let name = mirror.metadata.name.as_deref().unwrap_or_default();
                    tracing::warn!(pod = name, err = %crate::pod::chain(&error), "mirror pod not created, trying again");
                    false
                }
            }
        }
        Action::Delete(mirror) => {
            let meta = &mirror.metadata;
            let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            let options = DeleteOptions::at_once(meta.uid.clone().unwrap_or_default());
            match cluster.client.delete(&PODS.within(namespace).named(&name), &options).await {
                Ok(()) => true,
                Err(error) if error.is_not_found() || error.is_conflict() => true,
                Err(error) => {
                    tracing::warn!(pod = name, err = %crate::pod::chain(&error), "mirror pod not deleted, trying again");
                    false
                }
            }
        }
    }
}
