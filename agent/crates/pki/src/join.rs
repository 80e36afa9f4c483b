//! The files that a join leaves for the agent, where kubeadm leaves them for the kubelet.

use crate::{BootstrapToken, ClusterInfo, PkiError, bootstrap_kubeconfig, certificates_in, file};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The key of the KubeletConfiguration in the ConfigMap kube-system/kubelet-config.
const KUBELET: &str = "kubelet";
/// What the document has to be.
const KUBELET_API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// Where a joining node's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinFiles {
    /// `/etc/kubernetes/bootstrap-kubelet.conf`, 0600: holds the token until the node has its certificate.
    pub bootstrap_kubeconfig: PathBuf,
    /// `/etc/kubernetes/kubelet.conf`, 0600: the agent writes it when it has its certificate.
    pub kubeconfig: PathBuf,
    /// `/etc/kubernetes/pki/ca.crt`, 0644.
    pub ca: PathBuf,
    /// `/var/lib/kubelet/config.yaml`, 0644: the KubeletConfiguration.
    pub configuration: PathBuf,
}

impl JoinFiles {
    /// kubeadm's names in its two folders, `/etc/kubernetes` and `/var/lib/kubelet`.
    pub fn new(kubernetes: &Path, kubelet: &Path) -> Self {
        Self {
            bootstrap_kubeconfig: kubernetes.join("bootstrap-kubelet.conf"),
            kubeconfig: kubernetes.join("kubelet.conf"),
            ca: kubernetes.join("pki/ca.crt"),
            configuration: kubelet.join("config.yaml"),
        }
    }

    /// Writes what the agent needs to bootstrap. Each file whole or not at all, and the bootstrap
    /// kubeconfig last: an agent that finds it finds the others too, and a join that was cut short is
    /// simply run again. A CA file that holds the cluster's CAs, and perhaps more, stays.
    ///
    /// # Errors
    /// The CA file is another cluster's, or a file cannot be written.
    pub fn write(&self, info: &ClusterInfo, token: &BootstrapToken, configuration: &str) -> Result<(), PkiError> {
        if !self.has_ca(&info.ca_pem)? {
            file::write(&self.ca, 0o644, info.ca_pem.as_bytes())?;
        }
        file::write(&self.configuration, 0o644, configuration.as_bytes())?;
        let bootstrap = bootstrap_kubeconfig(&info.server, &info.ca_pem, token)?;
        file::write(&self.bootstrap_kubeconfig, 0o600, bootstrap.as_bytes())
    }

    /// Whoever connects to the node is checked against this file: another cluster's must not stay, and one that
    /// somebody put there is not ours to replace.
    fn has_ca(&self, ca_pem: &str) -> Result<bool, PkiError> {
        let Some(found) = file::read(&self.ca)? else { return Ok(false) };
        let other = || PkiError::OtherCluster { path: self.ca.clone() };
        let found = certificates_in(&found, &self.ca.display().to_string()).map_err(|_| other())?;
        let wanted = certificates_in(ca_pem, "the cluster's CA")?;
        if wanted.iter().all(|ca| found.contains(ca)) { Ok(true) } else { Err(other()) }
    }

    /// Removes the bootstrap kubeconfig, and the token with it: the node has its certificate.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn drop_bootstrap(&self) -> Result<(), PkiError> {
        file::remove(&self.bootstrap_kubeconfig)
            .map_err(|source| PkiError::Write { path: self.bootstrap_kubeconfig.clone(), source })
    }

    /// Whether this machine is a node already: its kubeconfig is there. A join then refuses, as kubeadm does:
    /// the agent would go on with the old cluster. The bootstrap kubeconfig alone is a join to be repeated.
    pub fn joined(&self) -> bool {
        fs::symlink_metadata(&self.kubeconfig).is_ok()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    resolv_conf: Option<PathBuf>,
}

impl Head {
    fn of(text: &str) -> Result<Self, PkiError> {
        serde_saphyr::from_str(text).map_err(|err| PkiError::KubeletConfig { problem: err.to_string() })
    }
}

/// The KubeletConfiguration out of `data` of kubeadm's ConfigMap kube-system/kubelet-config. `resolv_conf` goes into
/// it when it names none, as with kubeadm: `/run/systemd/resolve/resolv.conf` where systemd-resolved runs,
/// whose `/etc/resolv.conf` names a server on loopback that no pod reaches.
///
/// # Errors
/// It has no key `kubelet`, or what is there is another document.
pub fn kubelet_configuration(data: &BTreeMap<String, String>, resolv_conf: Option<&Path>) -> Result<String, PkiError> {
    let failed = |problem: String| PkiError::KubeletConfig { problem };
    let text = data.get(KUBELET).ok_or_else(|| failed(format!("it has no key {KUBELET}")))?;
    let Head { api_version, kind, resolv_conf: named } = Head::of(text)?;
    if kind != "KubeletConfiguration" || api_version != KUBELET_API_VERSION {
        return Err(failed(format!("it is {api_version} {kind}, not {KUBELET_API_VERSION} KubeletConfiguration")));
    }
    let Some(resolv_conf) = resolv_conf.filter(|_| named.is_none()) else { return Ok(text.clone()) };
    let more = format!("{}\nresolvConf: {resolv_conf:?}\n", text.trim_end());
    // kubeadm writes block style; in another one a line more is no key more.
    match Head::of(&more) {
        Ok(head) if head.resolv_conf.as_deref() == Some(resolv_conf) => Ok(more),
        _ => Err(failed("resolvConf cannot be added to it: it is not YAML in block style".into())),
    }
}

/// The KubeletConfiguration for a cluster that has none to give (it was not made by kubeadm): what kubeadm writes
/// for a node, less the cluster DNS, which nobody can guess. `ca` is where the cluster's CA is,
/// `cluster_dns` what the user says, `resolv_conf` as for [`kubelet_configuration`].
pub fn default_kubelet_configuration(ca: &Path, cluster_dns: &[IpAddr], resolv_conf: Option<&Path>) -> String {
    let mut text = format!(
        "apiVersion: {KUBELET_API_VERSION}\n\
         kind: KubeletConfiguration\n\
         authentication:\n  anonymous:\n    enabled: false\n  webhook:\n    enabled: true\n  x509:\n    clientCAFile: {ca:?}\n\
         authorization:\n  mode: Webhook\n\
         clusterDomain: cluster.local\n"
    );
    if !cluster_dns.is_empty() {
        text.push_str("clusterDNS:\n");
        text.extend(cluster_dns.iter().map(|ip| format!("- \"{ip}\"\n")));
    }
    if let Some(path) = resolv_conf {
        text.push_str(&format!("resolvConf: {path:?}\n"));
    }
    text.push_str("rotateCertificates: true\nstaticPodPath: /etc/kubernetes/manifests\n");
    text
}
