//! What the agent was told: flags over the configuration file over defaults.

use crate::cli::AgentArgs;
use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// `apiVersion` of the configuration file.
const API_VERSION: &str = "orlop.dev/v1alpha1";
/// `kind` of the configuration file.
const KIND: &str = "OrlopConfiguration";

/// The configuration file: every key is optional, an unknown one is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigFile {
    api_version: Option<String>,
    kind: Option<String>,
    manifests: Option<PathBuf>,
    kubeconfig: Option<PathBuf>,
    node_name: Option<String>,
    #[serde(default, rename = "nodeIPs")]
    node_ips: Vec<IpAddr>,
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Vec<IpNet>,
    #[serde(rename = "serviceCIDR")]
    service_cidr: Option<IpNet>,
    root_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    log_dir: Option<PathBuf>,
    cgroup_root: Option<PathBuf>,
    bpf_dir: Option<PathBuf>,
    images: Option<PathBuf>,
    monitor: Option<PathBuf>,
    #[serde(default, rename = "clusterDNS")]
    cluster_dns: Vec<IpAddr>,
    cluster_domain: Option<String>,
    container_log_max_size: Option<u64>,
    container_log_max_files: Option<u32>,
}

/// What the agent works with.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Folder of manifests, if the node is fed from one.
    pub manifests: Option<PathBuf>,
    /// How to reach the API server, if the node is part of a cluster.
    pub kubeconfig: Option<PathBuf>,
    /// Node name.
    pub node_name: String,
    /// The node's addresses, primary first.
    pub node_ips: Vec<IpAddr>,
    /// Ranges of pod addresses, at most one a family.
    pub pod_cidrs: Vec<IpNet>,
    /// Range of service addresses.
    pub service_cidr: IpNet,
    /// The kubelet's root: pods' folders and volumes.
    pub root_dir: PathBuf,
    /// Images, leases.
    pub state_dir: PathBuf,
    /// Sockets, namespaces, bundles; gone after a boot.
    pub run_dir: PathBuf,
    /// Pods' logs.
    pub log_dir: PathBuf,
    /// Cgroup that holds `kubepods`, relative to each hierarchy's mount.
    pub cgroup_root: PathBuf,
    /// Pinned maps and links.
    pub bpf_dir: PathBuf,
    /// Folder of image layouts and archives to load at the start.
    pub images: Option<PathBuf>,
    /// The monitor's executable.
    pub monitor: PathBuf,
    /// Name servers for `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain for it.
    pub cluster_domain: String,
    /// Bytes a container's log file may reach.
    pub log_max_bytes: u64,
    /// Log files kept a container.
    pub log_max_files: u32,
}

impl Config {
    /// [`Config::read`], and everything is there to run pods.
    ///
    /// # Errors
    /// Names the file and key, or the flag, and what is wrong with it.
    pub fn load(args: AgentArgs) -> Result<Self> {
        let config = Self::read(args)?;
        ensure!(
            config.manifests.is_some() || config.kubeconfig.is_some(),
            "nothing to run: name a folder of manifests with --manifests DIR, or an API server with --kubeconfig FILE"
        );
        ensure!(
            !config.node_ips.is_empty(),
            "the node has no default route, so its address is unclear: give --node-ip"
        );
        let monitor = config.monitor.display();
        ensure!(
            config.monitor.is_file(),
            "the monitor {monitor} is not there: install orlop-monitor beside orlop or name it with --monitor"
        );
        Ok(config)
    }

    /// Reads the file, if one is named, and puts flags over it.
    ///
    /// # Errors
    /// Names the file and key, or the flag, and what is wrong with it.
    pub fn read(args: AgentArgs) -> Result<Self> {
        let file = args.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let or = |flag: Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            flag.or(file).unwrap_or_else(|| PathBuf::from(default))
        };
        let node_ips = first_said([args.node_ip, file.node_ips]).unwrap_or_else(default_node_ips);
        let kubeconfig = args.kubeconfig.or(file.kubeconfig);
        // In a cluster the Node says which range is its own.
        let default_cidrs = || if kubeconfig.is_some() { Vec::new() } else { vec![default_net("10.244.0.0/24")] };
        let pod_cidrs = first_said([args.pod_cidr, file.pod_cidrs]).unwrap_or_else(default_cidrs);
        let config = Self {
            manifests: args.manifests.or(file.manifests),
            kubeconfig,
            node_name: args.node_name.or(file.node_name).map_or_else(default_node_name, Ok)?,
            node_ips,
            pod_cidrs,
            service_cidr: args.service_cidr.or(file.service_cidr).unwrap_or_else(|| default_net("10.96.0.0/16")),
            root_dir: or(args.root_dir, file.root_dir, "/var/lib/kubelet"),
            state_dir: or(args.state_dir, file.state_dir, "/var/lib/orlop"),
            run_dir: or(args.run_dir, file.run_dir, "/run/orlop"),
            log_dir: or(args.log_dir, file.log_dir, "/var/log/pods"),
            cgroup_root: or(args.cgroup_root, file.cgroup_root, "/"),
            bpf_dir: or(args.bpf_dir, file.bpf_dir, "/sys/fs/bpf/orlop"),
            images: args.images.or(file.images),
            monitor: args.monitor.or(file.monitor).map_or_else(default_monitor, Ok)?,
            cluster_dns: file.cluster_dns,
            cluster_domain: file.cluster_domain.unwrap_or_else(|| "cluster.local".to_owned()),
            log_max_bytes: file.container_log_max_size.unwrap_or(10 << 20),
            log_max_files: file.container_log_max_files.unwrap_or(5),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        for (index, cidr) in self.pod_cidrs.iter().enumerate() {
            for other in &self.pod_cidrs[..index] {
                let same_family = cidr.addr().is_ipv4() == other.addr().is_ipv4();
                ensure!(!same_family, "--pod-cidr {other} and {cidr} are of one family: give at most one of each");
            }
            let overlap = cidr.contains(&self.service_cidr.network()) || self.service_cidr.contains(&cidr.network());
            ensure!(!overlap, "--pod-cidr {cidr} and --service-cidr {} overlap", self.service_cidr);
            for ip in &self.node_ips {
                ensure!(!cidr.contains(ip), "--node-ip {ip} lies inside --pod-cidr {cidr}");
            }
        }
        for (flag, path) in [
            ("--root-dir", &self.root_dir),
            ("--state-dir", &self.state_dir),
            ("--run-dir", &self.run_dir),
            ("--log-dir", &self.log_dir),
            ("--cgroup-root", &self.cgroup_root),
            ("--bpf-dir", &self.bpf_dir),
        ] {
            ensure!(path.is_absolute(), "{flag} {} is not an absolute path", path.display());
        }
        ensure!(
            self.log_max_bytes >= 4096 && self.log_max_files >= 2,
            "containerLogMaxSize must be at least 4096 bytes and containerLogMaxFiles at least 2"
        );
        // sun_path holds 108 bytes; the longest socket is pods/UID/monitor.sock.
        let longest = self.run_dir.as_os_str().len() + "/pods/00000000-0000-0000-0000-000000000000/monitor.sock".len();
        ensure!(longest < 108, "--run-dir {} is too long for the sockets below it", self.run_dir.display());
        Ok(())
    }

    /// Folder of pods' records.
    pub fn records(&self) -> PathBuf {
        self.state_dir.join("pods")
    }

    /// A pod's record.
    pub fn record(&self, uid: &str) -> PathBuf {
        self.records().join(format!("{uid}.json"))
    }

    /// A pod's folder with its socket, namespaces and bundles.
    pub fn pod_run(&self, uid: &str) -> PathBuf {
        self.run_dir.join("pods").join(uid)
    }

    /// The command line's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("orlop.sock")
    }
}

fn first_said<T>(lists: [Vec<T>; 2]) -> Option<Vec<T>> {
    lists.into_iter().find(|list| !list.is_empty())
}

fn default_net(text: &str) -> IpNet {
    text.parse().expect("a constant network")
}

fn read_file(path: &Path) -> Result<ConfigFile> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read configuration {}", path.display()))?;
    let file: ConfigFile =
        serde_saphyr::from_str(&text).with_context(|| format!("understand configuration {}", path.display()))?;
    for (key, found, wanted) in [("apiVersion", &file.api_version, API_VERSION), ("kind", &file.kind, KIND)] {
        if found.as_deref() != Some(wanted) {
            bail!("configuration {}: {key} must be {wanted:?}, it is {found:?}", path.display());
        }
    }
    Ok(file)
}

fn default_node_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("read the host name")?;
    let name = name.to_str().context("the host name is not UTF-8: give --node-name")?;
    Ok(name.to_lowercase())
}

/// The address that a packet to the world would leave from, found by connecting a
/// UDP socket, which sends nothing.
fn default_node_ips() -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (any, world) in [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")] {
        let local = UdpSocket::bind(any).and_then(|socket| {
            socket.connect(world)?;
            socket.local_addr()
        });
        if let Ok(local) = local {
            ips.push(local.ip());
        }
    }
    ips
}

fn default_monitor() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this executable, to find orlop-monitor beside it")?;
    Ok(own.with_file_name("orlop-monitor"))
}
