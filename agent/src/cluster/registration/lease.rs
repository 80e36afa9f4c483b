//! The node's Lease: as long as it is renewed, the control plane believes the node alive.
//! A task of its own, which nothing that the node does else can hold up.

use super::{RETRY_MAX, RETRY_MIN, chance, count};
use crate::cluster::Cluster;
use crate::node::Node;
use crate::pod::chain;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use orlop_apiclient::{ApiError, Client, LEASES, Object};
use orlop_node::{LEASE_NAMESPACE, LeaseHolder, lease};
use std::sync::Arc;

/// Tries in a row, one right after the other (client-go's lease controller).
const TRIES: u32 = 5;
/// Nodes that started together drift apart (the kubelet's `leaseRenewIntervalFraction` jitter).
const JITTER: f64 = 0.04;

struct Renewer {
    cluster: Arc<Cluster>,
    client: Client,
    object: Object,
    holder: LeaseHolder,
    /// As the API server has it, as far as is known.
    latest: Option<Lease>,
}

/// Renews the Lease for ever.
pub(super) async fn renew(node: Arc<Node>, cluster: Arc<Cluster>) {
    let name = node.config.node_name.clone();
    let holder = LeaseHolder { node: name.clone(), uid: None, seconds: node.settings.lease_seconds };
    let every = holder.renew_every().unsigned_abs();
    let object = LEASES.within(LEASE_NAMESPACE).named(name);
    let client = cluster.client.with_timeout(every);
    let mut registered = cluster.registered.subscribe();
    let mut renewer = Renewer { cluster, client, object, holder, latest: None };
    let (mut wait, mut failing) = (RETRY_MIN, false);
    loop {
        renewer.holder.uid = registered.borrow_and_update().as_ref().and_then(|node| node.metadata.uid.clone());
        match renewer.renew().await {
            Ok(true) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(node = %renewer.holder.node, "the node's Lease is renewed again");
                }
                wait = RETRY_MIN;
                tokio::time::sleep(every.mul_f64(1.0 + JITTER * chance())).await;
            }
            // The Node is registered soon, and with it the Lease has an owner.
            Ok(false) => drop(tokio::time::timeout(every, registered.changed()).await),
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(node = %renewer.holder.node, err = %chain(&error), "the node's Lease could not be renewed, trying on");
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

impl Renewer {
    /// Renews it, or makes it; whether it is there now. It is not made without an owner:
    /// it would outlive its Node.
    async fn renew(&mut self) -> Result<bool, ApiError> {
        let mut tried = 0;
        loop {
            let error = match self.attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            count(&self.cluster.registration.counters.lease_failures);
            // Somebody else may have written or deleted it, for which the server has no clear
            // word: it takes a PUT for a POST then, and 500 is its answer. Read it again.
            self.latest = None;
            tried += 1;
            if tried == TRIES {
                return Err(error);
            }
        }
    }

    async fn attempt(&mut self) -> Result<bool, ApiError> {
        if self.latest.is_none() {
            self.latest = match self.client.get(&self.object).await {
                Ok(found) => Some(found),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
        }
        let body = lease(self.latest.as_ref(), &self.holder, Timestamp::now());
        let stored = match &self.latest {
            Some(_) => self.client.replace(&self.object, &body).await?,
            None if self.holder.uid.is_none() => return Ok(false),
            None => self.client.create(self.object.collection(), &body).await?,
        };
        self.latest = Some(stored);
        count(&self.cluster.registration.counters.lease_renewals);
        Ok(true)
    }
}
