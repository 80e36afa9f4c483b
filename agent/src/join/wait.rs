//! Watches the agent become a node.

use super::preflight::is_ready;
use super::service;
use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Node;
use orlop_apiclient::{Client, Kubeconfig, NODES};
use orlop_pki::JoinFiles;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// For the certificate (kubeadm `timeouts.tlsBootstrap`).
const CERTIFICATE_WITHIN: Duration = Duration::from_secs(5 * 60);
/// For the Node, once there is a certificate.
const NODE_WITHIN: Duration = Duration::from_secs(60);

/// Until the node has its certificate and is registered.
pub(super) async fn for_node(files: &JoinFiles, name: &str) -> Result<()> {
    println!("waiting for the node's certificate");
    let end = Instant::now() + CERTIFICATE_WITHIN;
    // Written last, when certificate and key are stored.
    while !files.joined() {
        if let Some(error) = service::failing() {
            bail!("the service orlop does not stay up: {error}. Mend it, then `systemctl restart orlop`");
        }
        if Instant::now() > end {
            bail!(
                "no certificate within {} minutes. Is its request approved? `kubectl get csr`. Does the agent run? \
                 `journalctl -u orlop`. It goes on asking: nothing has to be done again here",
                CERTIFICATE_WITHIN.as_secs() / 60
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    println!("the certificate is there, waiting for the node to be registered");
    let client = Client::new(Kubeconfig::read(&files.kubeconfig)?.settings()?)?;
    let end = Instant::now() + NODE_WITHIN;
    loop {
        let said = match client.get::<Node>(&NODES.everywhere().named(name)).await {
            Ok(node) => {
                let state = if is_ready(&node) { "Ready" } else { "registered, and Ready in a moment" };
                println!("node {name} is {state}: see `kubectl get node {name}`, and here `orlop node`");
                return Ok(());
            }
            Err(error) => error,
        };
        if Instant::now() > end {
            bail!(
                "node {name} is not registered within {} s: {}; see `journalctl -u orlop`",
                NODE_WITHIN.as_secs(),
                crate::pod::chain(&said)
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}
