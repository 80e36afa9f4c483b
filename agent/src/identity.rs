//! Whom the node is to the API server, from the first token to the last rotation.
//!
//! ```text
//!   kubeconfig ── stand ──▶ Given: a token, a plugin, somebody else's certificate ──▶ follow the cluster
//!                    ├────▶ Own: the node's certificate ──▶ follow ──▶ renew at 70–90 % of its life ◄─┐
//!                    └────▶ Nobody ──▶ bootstrap: the token asks, somebody signs ── kubeconfig ───────┘
//! ```
//!
//! Static pods, recovered pods and their Services do not wait for any of it: the cluster is
//! followed as soon as the node is somebody, and nothing is asked of the API server before.

mod advice;
mod ask;
mod serving;
mod standing;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::node::Node;
use anyhow::{Context, Result, bail};
use ask::{Patience, ask, clock_checked, random};
use jiff::Timestamp;
use orlop_apiclient::{
    Bearer, CERTIFICATE_WAIT, Client, Identity as Shown, Kubeconfig, Pem, Settings, write_kubeconfig,
};
use orlop_model::EventKind;
use orlop_pki::{CertificateRequest, CertificateState, CertificateStore, Identity, Purpose, state};
use standing::Standing;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// So long one try of the bootstrap waits for somebody to approve; the next goes on with the same request.
const APPROVAL_WAIT: Duration = Duration::from_secs(60 * 60);

/// The node's client certificate, and how it comes by the next one.
pub(crate) struct NodeIdentity {
    kubeconfig: PathBuf,
    bootstrap_kubeconfig: Option<PathBuf>,
    store: CertificateStore,
    want: CertificateRequest,
    rotate: bool,
    /// The API server that the cluster's client talks to.
    server: String,
    standing: Standing,
}

/// How to reach the API server that the configuration names, and as whom. Nothing is sent.
///
/// # Errors
/// A file is not there, damaged or asks for what Orlop does not do.
pub(crate) fn connect(config: &Config, now: Timestamp) -> Result<Option<(Client, NodeIdentity)>> {
    let Some(kubeconfig) = config.kubeconfig.clone() else { return Ok(None) };
    let store = CertificateStore::new(&config.cert_dir, Purpose::Client);
    let want = CertificateRequest::client(&config.node_name);
    let bootstrap_kubeconfig = config.bootstrap_kubeconfig.clone();
    let begin = bootstrap_kubeconfig.as_deref().filter(|path| path.is_file());
    let (mut settings, standing) = if kubeconfig.is_file() {
        let settings = read(&kubeconfig)?;
        let standing = standing::judge(now, &settings, &store, &want);
        match (&standing, begin) {
            (Standing::Nobody { .. }, Some(path)) => (read(path)?, standing),
            _ => (settings, standing),
        }
    } else if let Some(path) = begin {
        (read(path)?, Standing::Nobody { why: format!("{} is not there", kubeconfig.display()) })
    } else {
        bail!("{}", nothing_to_begin_with(&kubeconfig, bootstrap_kubeconfig.as_deref()));
    };
    match &standing {
        Standing::Given => {}
        Standing::Own { in_store: false, .. } => {}
        Standing::Own { in_store: true, .. } => settings.identity = Some(shown(&store)),
        Standing::Nobody { .. } => (settings.identity, settings.bearer) = (None, Bearer::None),
    }
    let server = settings.server.clone();
    let rotate = config.kubelet.rotate_certificates;
    let identity = NodeIdentity { kubeconfig, bootstrap_kubeconfig, store, want, rotate, server, standing };
    Ok(Some((Client::new(settings)?, identity)))
}

fn nothing_to_begin_with(kubeconfig: &Path, bootstrap: Option<&Path>) -> String {
    let there = kubeconfig.display();
    match bootstrap {
        None => format!("{there} is not there: run `orlop join`, or name another file with --kubeconfig"),
        Some(bootstrap) => {
            let begin = bootstrap.display();
            format!("neither {there} nor {begin} is there: run `orlop join`, or name other files with --kubeconfig")
        }
    }
}

fn read(path: &Path) -> Result<Settings> {
    let kubeconfig = Kubeconfig::read(path)?;
    for warning in kubeconfig.warnings() {
        tracing::warn!(file = %path.display(), warning, "kubeconfig");
    }
    Ok(kubeconfig.settings()?)
}

/// The certificate that the store's link points to, whichever that is by then.
fn shown(store: &CertificateStore) -> Shown {
    let current = Pem::File(store.current_path());
    Shown { certificate: current.clone(), key: current }
}

impl NodeIdentity {
    /// Makes the node somebody, has it follow the cluster, and keeps its certificates from running out; for ever.
    pub async fn keep(self, node: Arc<Node>, cluster: Arc<Cluster>) {
        tokio::spawn(serving::keep(Arc::clone(&node), Arc::clone(&cluster)));
        let mut held = match &self.standing {
            Standing::Given => return cluster.follow(&node),
            Standing::Own { identity, .. } => Some(identity.clone()),
            Standing::Nobody { .. } => None,
        };
        let mut follows = false;
        loop {
            let identity = match held {
                Some(identity) => identity,
                None => self.bootstrap(&node, &cluster.client).await,
            };
            if !follows {
                cluster.follow(&node);
                follows = true;
            }
            held = self.renew(&node, &cluster.client, identity).await;
        }
    }

    /// Asks with the bootstrap kubeconfig until there is a certificate.
    async fn bootstrap(&self, node: &Node, client: &Client) -> Identity {
        let mut patience = Patience::default();
        if let Standing::Nobody { why } = &self.standing {
            tracing::info!(node = node.config.node_name, why, "the node has no certificate, asking for one");
        }
        loop {
            match self.bootstrap_once(client).await {
                Ok(identity) => {
                    told(node, EventKind::Normal, "CertificateIssued", &self.issued(&identity));
                    return identity;
                }
                Err(error) => {
                    let message = format!("the node has no certificate of the cluster: {}", advice::in_words(&error));
                    told(node, EventKind::Warning, "CertificateNotIssued", &message);
                }
            }
            patience.pause().await;
        }
    }

    /// The token is read each time: somebody may have brought a newer one.
    async fn bootstrap_once(&self, client: &Client) -> Result<Identity> {
        if let Some(held) = self.renewed_elsewhere(client)? {
            return Ok(held);
        }
        let Some(path) = self.bootstrap_kubeconfig.as_deref().filter(|path| path.is_file()) else {
            bail!(advice::NO_BOOTSTRAP)
        };
        let reach = Kubeconfig::read(path)?.settings()?;
        if reach.server != self.server {
            bail!("{} names another API server, {}: restart the agent", path.display(), reach.server);
        }
        let issued = ask(&Client::new(reach.clone())?, &self.store, &self.want, APPROVAL_WAIT).await?;
        let current = self.store.current_path();
        write_kubeconfig(&self.kubeconfig, &reach, &current, &current)?;
        // The token has done its work; with it gone nobody else can use it.
        std::fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
        client.replace_identity(shown(&self.store))?;
        Ok(issued)
    }

    /// Somebody may have renewed it beside us.
    fn renewed_elsewhere(&self, client: &Client) -> Result<Option<Identity>> {
        if !self.kubeconfig.is_file() {
            return Ok(None);
        }
        let settings = Kubeconfig::read(&self.kubeconfig)?.settings()?;
        let Standing::Own { identity, in_store } =
            standing::judge(Timestamp::now(), &settings, &self.store, &self.want)
        else {
            return Ok(None);
        };
        let named = settings.identity.filter(|_| !in_store);
        client.replace_identity(named.unwrap_or_else(|| shown(&self.store)))?;
        Ok(Some(identity))
    }

    fn state(&self, held: &Identity, random: f64) -> CertificateState {
        state(Timestamp::now(), Some(held.facts()), &self.want, random)
    }

    fn issued(&self, identity: &Identity) -> String {
        let facts = identity.facts();
        format!("the API server knows this node as {} until {}", facts.common_name, facts.not_after)
    }

    /// Waits until the certificate is due and gives the next one; `None` when it ran out before there was one.
    async fn renew(&self, node: &Node, client: &Client, held: Identity) -> Option<Identity> {
        let (random, mut patience) = (random(), Patience::default());
        loop {
            match self.state(&held, random) {
                CertificateState::Good { rotate_at } => clock_checked(rotate_at).await,
                CertificateState::Unusable { why } => {
                    let message = format!("the node's certificate cannot be used any more: {why}");
                    told(node, EventKind::Warning, "CertificateExpired", &message);
                    return None;
                }
                CertificateState::Due | CertificateState::Lacking { .. } if !self.rotate => {
                    clock_checked(held.facts().not_after).await;
                }
                CertificateState::Due | CertificateState::Lacking { .. } => {
                    match self.rotated(client).await {
                        Ok(identity) => {
                            told(node, EventKind::Normal, "CertificateRotated", &self.issued(&identity));
                            return Some(identity);
                        }
                        Err(error) => {
                            let (until, why) = (held.facts().not_after, advice::in_words(&error));
                            let message = format!("the node's certificate, good until {until}, is not renewed: {why}");
                            told(node, EventKind::Warning, "CertificateNotRotated", &message);
                        }
                    }
                    patience.pause().await;
                }
            }
        }
    }

    async fn rotated(&self, client: &Client) -> Result<Identity> {
        let issued = ask(client, &self.store, &self.want, CERTIFICATE_WAIT).await?;
        client.replace_identity(shown(&self.store))?;
        Ok(issued)
    }
}

/// Files outside the node's own folders that a join left, for who takes the node away. A kubeconfig that does not show
/// the node's own certificate is somebody else's, and so is the CA of a machine that holds its key.
pub(crate) fn left_by_join(config: &Config) -> Vec<PathBuf> {
    let current = Pem::File(CertificateStore::new(&config.cert_dir, Purpose::Client).current_path());
    let is_ours = |path: &PathBuf| {
        let settings = Kubeconfig::read(path).and_then(|kubeconfig| kubeconfig.settings());
        settings.is_ok_and(|settings| settings.identity.is_some_and(|identity| identity.certificate == current))
    };
    let kubeconfig = config.kubeconfig.clone().filter(is_ours);
    let bootstrap = config.bootstrap_kubeconfig.clone();
    let ca = config.kubelet.authentication.x509.client_ca_file.clone();
    // Beside the kubeconfig, where a join puts it: another folder's is not this node's.
    let folder = kubeconfig.as_ref().or(bootstrap.as_ref()).and_then(|path| path.parent());
    let ca = ca.filter(|path| folder.is_some_and(|folder| path.starts_with(folder)));
    let ca = ca.filter(|path| !path.with_extension("key").exists());
    [kubeconfig, bootstrap, ca].into_iter().flatten().filter(|path| path.is_file()).collect()
}

/// Into the node's events, which log it the first time.
fn told(node: &Node, kind: EventKind, reason: &str, message: &str) {
    node.events.record("Node", kind, reason, message);
}
