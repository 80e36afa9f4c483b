//! The certificate that the node shows to those who connect to it.
//!
//! `tlsCertFile` is the administrator's business. Else it comes from the cluster
//! (`serverTLSBootstrap`), by a request that somebody approves, or is one of the node's own.

use super::ask::{Patience, ask, clock_checked, random};
use super::{advice, told};
use crate::cluster::Cluster;
use crate::node::Node;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as NodeObject;
use orlop_apiclient::CERTIFICATE_WAIT;
use orlop_model::EventKind;
use orlop_pki::{CertificateRequest, CertificateState, CertificateStore, Identity, Purpose, SelfSigned, state};
use std::sync::Arc;

/// Keeps it, for ever.
pub(super) async fn keep(node: Arc<Node>, cluster: Arc<Cluster>) {
    let kubelet = &node.config.kubelet;
    let given = kubelet.tls_cert_file.is_some() || kubelet.tls_private_key_file.is_some();
    match (kubelet.server_tls_bootstrap, given || !kubelet.enable_server) {
        (_, true) => {}
        (true, false) => by_request(&node, &cluster).await,
        (false, false) => self_signed(&node).await,
    }
}

async fn self_signed(node: &Node) {
    let config = &node.config;
    let own = SelfSigned { folder: &config.cert_dir, host: &config.hostname, ips: &config.node_ips };
    let (mut random_now, mut patience) = (random(), Patience::default());
    loop {
        let held = own.current().unwrap_or_else(|error| {
            tracing::warn!(err = %crate::pod::chain(&error), "the self-signed certificate is damaged, making another");
            None
        });
        let judged = own.state(Timestamp::now(), held.as_ref().map(Identity::facts), random_now);
        if let CertificateState::Good { rotate_at } = judged {
            clock_checked(rotate_at).await;
            continue;
        }
        match own.renew(Timestamp::now()) {
            Ok(made) => {
                tracing::info!(until = %made.facts().not_after, "a self-signed serving certificate was made");
                (random_now, patience) = (random(), Patience::default());
            }
            Err(error) => {
                let message = format!("no serving certificate: {}", crate::pod::chain(&error));
                told(node, EventKind::Warning, "ServingCertificateNotMade", &message);
                patience.pause().await;
            }
        }
    }
}

async fn by_request(node: &Node, cluster: &Cluster) {
    let store = CertificateStore::new(&node.config.cert_dir, Purpose::Serving);
    let mut registered = cluster.registered.subscribe();
    let (mut random_now, mut patience) = (random(), Patience::default());
    loop {
        // Approvers compare with the Node's addresses: nothing is asked before it has some.
        let want = registered.borrow_and_update().as_deref().and_then(|it| wanted(&node.config.node_name, it));
        let Some(want) = want else {
            let _ = registered.changed().await;
            continue;
        };
        let held = store.current().unwrap_or_else(|error| {
            tracing::warn!(err = %crate::pod::chain(&error), "the serving certificate is damaged, asking for another");
            None
        });
        if let CertificateState::Good { rotate_at } =
            state(Timestamp::now(), held.as_ref().map(Identity::facts), &want, random_now)
        {
            tokio::select! {
                _ = registered.changed() => {}
                () = clock_checked(rotate_at) => {}
            }
            continue;
        }
        match ask(&cluster.client, &store, &want, CERTIFICATE_WAIT).await {
            Ok(issued) => {
                let message = format!("the cluster vouches for this node until {}", issued.facts().not_after);
                told(node, EventKind::Normal, "ServingCertificateIssued", &message);
                (random_now, patience) = (random(), Patience::default());
            }
            Err(error) => {
                let message = format!("no serving certificate: {}", advice::in_words(&error));
                told(node, EventKind::Warning, "ServingCertificateNotIssued", &message);
                patience.pause().await;
            }
        }
    }
}

/// The names and addresses that the Node has in the cluster.
fn wanted(name: &str, node: &NodeObject) -> Option<CertificateRequest> {
    let addresses = node.status.as_ref()?.addresses.as_deref().unwrap_or_default();
    let of = |types: &'static [&'static str]| {
        addresses.iter().filter(move |it| types.contains(&it.type_.as_str())).map(|it| it.address.clone())
    };
    let ips: Vec<_> = of(&["InternalIP", "ExternalIP"]).filter_map(|ip| ip.parse().ok()).collect();
    let names: Vec<_> = of(&["Hostname", "InternalDNS", "ExternalDNS"]).filter(|it| !it.is_empty()).collect();
    let (more, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    let ips: Vec<_> = ips.into_iter().chain(more.iter().filter_map(|ip| ip.parse().ok())).collect();
    CertificateRequest::serving(name, &names, &ips)
}
