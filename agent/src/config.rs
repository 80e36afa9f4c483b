//! What the agent was told: flags over files over defaults.

mod defaults;
mod services;
mod told;

use crate::cli::AgentArgs;
use anyhow::{Result, ensure};
pub(crate) use defaults::default_node_name;
use defaults::{default_monitor, default_net, default_node_ips};
use ipnet::IpNet;
use orlop_cni::PeerSettings;
use orlop_config::{Grade, KubeletConfiguration, Warning};
use orlop_volume::NodeFiles;
pub(crate) use services::ServiceConfig;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use told::Told;

/// Where a machine's own kubeconfig is when only the one to begin with is named.
const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";

/// What the agent works with.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Folder of manifests, if there is one: all that the node runs, or a cluster's static pods.
    pub manifests: Option<PathBuf>,
    /// How to reach the API server, if the node is part of a cluster. May not be there yet.
    pub kubeconfig: Option<PathBuf>,
    /// What to ask for the node's certificate with, while there is no kubeconfig.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// The node's keys and certificates.
    pub cert_dir: PathBuf,
    /// Node name.
    pub node_name: String,
    /// The node's host name: the label `kubernetes.io/hostname`, and what pods on the host network see.
    pub hostname: String,
    /// The node's addresses, primary first.
    pub node_ips: Vec<IpAddr>,
    /// Somebody said them; they were not found.
    pub node_ip_given: bool,
    /// `--node-labels` of a new Node.
    pub node_labels: BTreeMap<String, String>,
    /// `--cloud-provider=external`: a controller outside gives the Node its addresses.
    pub cloud_external: bool,
    /// The kubelet's part of the configuration, defaults filled in.
    pub kubelet: KubeletConfiguration,
    /// Ranges of pod addresses, at most one a family.
    pub pod_cidrs: Vec<IpNet>,
    /// Range of service addresses.
    pub service_cidr: IpNet,
    /// How pods of other nodes are reached.
    pub peers: PeerSettings,
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
    /// How Services are served, and what leaves the cluster.
    pub services: ServiceConfig,
    /// Name servers for `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain for it.
    pub cluster_domain: String,
    /// Bytes a container's log file may reach.
    pub log_max_bytes: u64,
    /// Log files kept a container.
    pub log_max_files: u32,
    /// What of the configuration is not acted on.
    warnings: Vec<Warning>,
}

impl Config {
    /// [`Config::read`], and everything is there to run pods. What is not acted on is logged.
    ///
    /// # Errors
    /// Names the file and key, or the flag, and what is wrong with it.
    pub fn load(args: AgentArgs) -> Result<Self> {
        let config = Self::read(args)?;
        ensure!(
            config.manifests.is_some() || config.kubeconfig.is_some(),
            "nothing to run: make this machine part of a cluster with `orlop join`, \
             or name a folder of manifests with --manifests DIR or an API server with --kubeconfig FILE"
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
        for Warning { grade, origin, field, instead } in &config.warnings {
            let file = origin.display();
            match grade {
                Grade::Warning => tracing::warn!(%file, field, instead, "configuration that is not acted on"),
                Grade::Note => tracing::info!(%file, field, instead, "configuration without a meaning here"),
            }
        }
        Ok(config)
    }

    /// Reads the files that are named, or those that kubeadm left when none is, and puts flags over them.
    ///
    /// # Errors
    /// Names the file and key, or the flag, and what is wrong with it.
    pub fn read(args: AgentArgs) -> Result<Self> {
        let told = Told::gather(&args, Path::new("/"))?;
        Self::from_told(args, told)
    }

    fn from_told(args: AgentArgs, told: Told) -> Result<Self> {
        let Told { orlop: file, kubelet, proxy, flags, warnings } = told;
        let or = |flag: Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            flag.or(file).unwrap_or_else(|| PathBuf::from(default))
        };
        let bootstrap_kubeconfig = args.bootstrap_kubeconfig.or(flags.bootstrap_kubeconfig);
        let kubeconfig = args.kubeconfig.or_else(|| file.kubeconfig.clone()).or(flags.kubeconfig);
        let kubeconfig = kubeconfig.or_else(|| bootstrap_kubeconfig.is_some().then(|| KUBECONFIG.into()));
        let services = ServiceConfig::of(args.services, &file, &proxy, kubeconfig.is_some())?;
        let said_ips = defaults::first_said([args.node_ip, file.node_ips, flags.node_ips.clone()]);
        let (node_ip_given, node_ips) = defaults::node_ips(said_ips, default_node_ips);
        // In a cluster the Node says which range is its own.
        let default_cidrs = || if kubeconfig.is_some() { Vec::new() } else { defaults::pod_cidrs(&kubelet) };
        let pod_cidrs = defaults::first_said([args.pod_cidr, file.pod_cidrs]).unwrap_or_else(default_cidrs);
        let hostname = default_node_name();
        let node_name = args.node_name.or(file.node_name).or(flags.hostname_override);
        let node_name = node_name.map_or(hostname, Ok)?;
        let mut dns = [file.cluster_dns, kubelet.cluster_dns.clone()];
        if args.kubelet_flags.cluster_dns.is_some() {
            dns.reverse();
        }
        let usual = PeerSettings::default();
        let peers = PeerSettings {
            mode: args.node_routing.or(file.node_routing).map_or(usual.mode, defaults::peer_mode),
            vni: args.vxlan_vni.or(file.vxlan_vni).unwrap_or(usual.vni),
            port: args.vxlan_port.or(file.vxlan_port).unwrap_or(usual.port),
        };
        let root_dir = or(args.root_dir.or(file.root_dir), flags.root_dir, "/var/lib/kubelet");
        let config = Self {
            manifests: args.manifests.or(file.manifests).or_else(|| kubelet.static_pod_path.clone()),
            kubeconfig,
            bootstrap_kubeconfig,
            cert_dir: args.cert_dir.or(flags.cert_dir).unwrap_or_else(|| root_dir.join("pki")),
            hostname: node_name.clone(),
            node_name,
            node_ips,
            node_ip_given,
            node_labels: flags.node_labels,
            cloud_external: flags.cloud_provider.is_some(),
            pod_cidrs,
            service_cidr: args.service_cidr.or(file.service_cidr).unwrap_or_else(|| default_net("10.96.0.0/16")),
            peers,
            root_dir,
            state_dir: or(args.state_dir, file.state_dir, "/var/lib/orlop"),
            run_dir: or(args.run_dir, file.run_dir, "/run/orlop"),
            log_dir: args.log_dir.or(file.log_dir).unwrap_or_else(|| kubelet.pod_logs_dir.clone()),
            cgroup_root: or(args.cgroup_root.or(file.cgroup_root), kubelet.cgroup_root.clone(), "/"),
            bpf_dir: or(args.bpf_dir, file.bpf_dir, "/sys/fs/bpf/orlop"),
            images: args.images.or(file.images),
            services,
            monitor: args.monitor.or(file.monitor).map_or_else(default_monitor, Ok)?,
            cluster_dns: defaults::first_said(dns).unwrap_or_default(),
            cluster_domain: file
                .cluster_domain
                .filter(|_| args.kubelet_flags.cluster_domain.is_none())
                .or_else(|| kubelet.cluster_domain.clone())
                .unwrap_or_else(|| "cluster.local".to_owned()),
            log_max_bytes: file.container_log_max_size.unwrap_or(kubelet.container_log_max_size),
            log_max_files: file.container_log_max_files.unwrap_or(kubelet.container_log_max_files),
            kubelet,
            warnings,
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
        let PeerSettings { vni, port, .. } = self.peers;
        ensure!((1..1 << 24).contains(&vni), "--vxlan-vni {vni} is not a number from 1 to 16777215");
        ensure!(port != 0, "--vxlan-port 0 is no port");
        // sun_path holds 108 bytes; the longest socket is pods/UID/monitor.sock.
        let longest = self.run_dir.as_os_str().len() + "/pods/00000000-0000-0000-0000-000000000000/monitor.sock".len();
        ensure!(longest < 108, "--run-dir {} is too long for the sockets below it", self.run_dir.display());
        Ok(())
    }

    /// Images pulled at once; `None` without a limit.
    pub fn parallel_pulls(&self) -> Option<NonZeroUsize> {
        if self.kubelet.serialize_image_pulls {
            return Some(NonZeroUsize::MIN);
        }
        let most = self.kubelet.max_parallel_image_pulls?;
        NonZeroUsize::new(usize::try_from(most).ok()?)
    }

    /// Files of the node that pods' files are made from.
    pub fn node_files(&self) -> NodeFiles {
        let mut files = NodeFiles::of_this_machine();
        match &self.kubelet.resolv_conf {
            // The default: a stub that pods cannot reach is seen through.
            Some(path) if path == Path::new("/etc/resolv.conf") => {}
            Some(path) => files.resolv_conf.clone_from(path),
            None => files.resolv_conf = PathBuf::from("/dev/null"),
        }
        files
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

#[cfg(test)]
pub(crate) mod tests;
