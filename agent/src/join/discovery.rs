//! How a machine with nothing but a token comes to trust an API server, as kubeadm does it.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use orlop_apiclient::{ApiError, CONFIG_MAPS, Client, Pem, Settings};
use orlop_pki::{BootstrapToken, CaPins, ClusterInfo, PkiError, verify_cluster_info};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Between two tries (kubeadm `DiscoveryRetryInterval`).
const RETRY: Duration = Duration::from_secs(5);
/// How long to try (kubeadm `timeouts.discovery`).
const WITHIN: Duration = Duration::from_secs(5 * 60);
/// One try.
const TRY: Duration = Duration::from_secs(10);

/// What is wrong with one try.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("read kube-public/cluster-info from {server}")]
    Ask {
        server: String,
        #[source]
        source: ApiError,
    },
    #[error("trust {server}")]
    Trust {
        server: String,
        #[source]
        source: PkiError,
    },
}

impl Trouble {
    /// Whether trying again can help: a server that is starting, a signature that is not made yet.
    fn heals_with_time(&self) -> bool {
        match self {
            Self::Ask { source, .. } => !source.is_unauthorized() && !source.is_forbidden(),
            Self::Trust { source, .. } => source.heals_with_time(),
        }
    }
}

/// Reads cluster-info from a server that nobody vouches for; what is signed with the token and has a pinned CA is read again
/// over TLS that the pinned CA vouches for.
pub(super) async fn discover(server: &str, token: &BootstrapToken, pins: &CaPins) -> Result<ClusterInfo> {
    let server = address(server)?;
    let mut settings = Settings::new(&server);
    settings.insecure = true;
    settings.timeout = TRY;
    println!("asking {server} who it is");
    let end = Instant::now() + WITHIN;
    let mut said = String::new();
    let info = loop {
        // A client of its own each time: a connection that failed is not tried again.
        let trouble = match first(&settings, token, pins).await {
            Ok(info) => break info,
            Err(trouble) => trouble,
        };
        let heals = trouble.heals_with_time();
        let message = advised(&trouble);
        if !heals || Instant::now() + RETRY > end {
            bail!(message);
        }
        if message != said {
            println!("not yet, trying for {} minutes: {message}", WITHIN.as_secs() / 60);
            said = message;
        }
        tokio::time::sleep(RETRY).await;
    };
    if !pins.is_empty() {
        let mut pinned = Settings::new(&server);
        pinned.authority = Some(Pem::Data(info.pinned_ca_pem.clone().into_bytes()));
        let again = cluster_info(&Client::new(pinned)?).await.with_context(|| {
            format!("read kube-public/cluster-info again from {server}, verified with the pinned CA")
        })?;
        info.confirm(&again)?;
    }
    println!("{} is trusted", info.server);
    Ok(info)
}

/// The trouble with its causes, and what to do where that is known.
fn advised(trouble: &Trouble) -> String {
    let message = crate::pod::chain(trouble);
    let Trouble::Ask { source, .. } = trouble else { return message };
    let advice = if source.is_unauthorized() || source.is_forbidden() {
        "nobody may read it without a credential there, so this cluster takes no nodes by token: \
         give the agent a --kubeconfig or a --bootstrap-kubeconfig instead"
    } else if source.is_not_found() {
        "kubeadm makes it with `kubeadm init phase bootstrap-token`"
    } else {
        return message;
    };
    format!("{message}; {advice}")
}

async fn first(settings: &Settings, token: &BootstrapToken, pins: &CaPins) -> Result<ClusterInfo, Trouble> {
    let server = settings.server.clone();
    let read = async { cluster_info(&Client::new(settings.clone())?).await };
    let data = read.await.map_err(|source| Trouble::Ask { server: server.clone(), source })?;
    verify_cluster_info(&data, token, pins).map_err(|source| Trouble::Trust { server, source })
}

async fn cluster_info(client: &Client) -> Result<BTreeMap<String, String>, ApiError> {
    let map: ConfigMap = client.get(&CONFIG_MAPS.within("kube-public").named("cluster-info")).await?;
    Ok(map.data.unwrap_or_default())
}

/// `HOST:PORT` as kubeadm takes it, or an https URL.
fn address(text: &str) -> Result<String> {
    let host = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let port = host.rsplit_once(':').map(|(_, port)| port);
    if host.contains("://") || host.contains('/') {
        bail!("{text:?} is no address of an API server: give HOST:PORT, such as 10.0.0.1:6443");
    }
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(format!("https://{host}")),
        _ if host.starts_with('[') || !host.contains(':') => Ok(format!("https://{host}:6443")),
        _ => bail!("{text:?} is no address of an API server: give HOST:PORT, such as 10.0.0.1:6443"),
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses() {
        #[track_caller]
        fn check(text: &str, want: Option<&str>) {
            assert_eq!(address(text).ok().as_deref(), want, "{text}");
        }
        check("10.0.0.1:6443", Some("https://10.0.0.1:6443"));
        check("https://api.example:443", Some("https://api.example:443"));
        check("https://api.example:443/", Some("https://api.example:443"));
        check("api.example", Some("https://api.example:6443"));
        check("[fd00::1]:6443", Some("https://[fd00::1]:6443"));
        check("[fd00::1]", Some("https://[fd00::1]:6443"));
        check("http://api.example:80", None);
        check("api.example:https", None);
        check("api.example:6443/path", None);
    }
}
