//! Flags of `orlop join`.

use clap::Args;
use orlop_pki::{BootstrapToken, CaPins};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// kubeadm's folder.
const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// The kubelet's root.
const ROOT_DIR: &str = "/var/lib/kubelet";

/// `orlop join`; names are kubeadm's.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Address of an API server of the cluster, as HOST:PORT.
    #[arg(value_name = "SERVER")]
    pub server: String,
    /// Token that the cluster knows, from `kubeadm token create`.
    #[arg(long, value_name = "TOKEN")]
    pub token: BootstrapToken,
    /// Public key of the cluster's CA, as sha256:HEX; may be repeated.
    #[arg(
        long,
        value_name = "HASH",
        value_parser = pin,
        required_unless_present = "discovery_token_unsafe_skip_ca_verification"
    )]
    pub discovery_token_ca_cert_hash: Vec<String>,
    /// Trust whoever knows the token: others who know it can stand in the API server's place.
    #[arg(long)]
    pub discovery_token_unsafe_skip_ca_verification: bool,
    /// Name of the node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    #[command(flatten)]
    pub flags: JoinFlags,
    /// Name servers of pods, for a cluster that has no kube-system/kubelet-config.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub cluster_dns: Vec<IpAddr>,
    /// Where kubeconfigs and the cluster's CA go.
    #[arg(long, value_name = "DIR", default_value = KUBERNETES_DIR)]
    pub kubernetes_dir: PathBuf,
    /// Where the configuration goes.
    #[arg(long, value_name = "DIR", default_value = ROOT_DIR)]
    pub root_dir: PathBuf,
    /// Write the files, and start nothing.
    #[arg(long)]
    pub no_start: bool,
    /// Ask the cluster and show what would be written and done.
    #[arg(long)]
    pub dry_run: bool,
}

/// What the agent is to say of the new Node.
#[derive(Debug, Args)]
pub struct JoinFlags {
    /// Address of the node; again for the other family [default: that of the interface with the default route]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels of the new Node.
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub node_labels: Option<String>,
    /// Taints of the new Node.
    #[arg(long, value_name = "KEY=VALUE:EFFECT,…")]
    pub register_with_taints: Option<String>,
}

impl JoinArgs {
    /// The service finds its files only there.
    pub fn has_usual_folders(&self) -> bool {
        self.kubernetes_dir == Path::new(KUBERNETES_DIR) && self.root_dir == Path::new(ROOT_DIR)
    }
}

/// Checked here, so that a mistake in it is one of the command line.
fn pin(text: &str) -> Result<String, orlop_pki::PkiError> {
    CaPins::parse(&[text]).map(|_| text.to_owned())
}
