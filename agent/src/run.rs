//! `orlop agent`: sets the node up, finds what is there, and runs until it is told
//! to stop. Pods go on without it.

use crate::cli::{AgentArgs, LogFormat};
use crate::cluster::{Cluster, NodeSettings, leases_file, remembered};
use crate::config::Config;
use crate::events::EventLog;
use crate::identity;
use crate::manifest::{ManifestSet, watch_folder};
use crate::node::Node;
use crate::nodes::Nodes;
use crate::pod::{Pods, recover};
use crate::server;
use crate::services::Services;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::SigSet;
use orlop_cni::{Ipam, PodNetwork};
use orlop_datapath::Datapath;
use orlop_image::{ImageStore, Keyring, PullOptions, Puller, node_credential_files};
use orlop_kernel::{CgroupMounts, CgroupRoot, Netns, NodeFacts};
use orlop_runtime::HostCapabilities;
use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Folders of `hosts.toml` files: mirrors, plain http and certificates of registries. The
/// second is containerd's own.
const CERTS_DIRS: [&str; 2] = ["/etc/orlop/certs.d", "/etc/containerd/certs.d"];

/// How often freed memory is given back to the kernel.
const TRIM_EVERY: Duration = Duration::from_secs(30);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, and what to do about it.
pub(crate) fn run_agent(args: AgentArgs) -> Result<()> {
    log_to_stderr(args.log_level.as_deref(), args.log_format)?;
    let config = Config::load(args)?;
    // Whoever starts the agent may have signals blocked, and the mask is inherited.
    SigSet::all().thread_unblock().context("unblock signals")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(run(config))
}

fn log_to_stderr(level: Option<&str>, format: Option<LogFormat>) -> Result<()> {
    let filter = EnvFilter::try_new(level.unwrap_or("info")).context("understand --log-level")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format.unwrap_or(LogFormat::Text) {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn run(config: Config) -> Result<()> {
    let mut stop = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    for dir in [&config.root_dir, &config.state_dir, &config.run_dir, &config.log_dir] {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    let _lock = lock(&config)?;
    let listener = server::bind(&config.socket()).await?;
    let node_name = config.node_name.clone();
    make_static_pod_folder(&config)?;
    let mut source = match &config.manifests {
        Some(folder) => watch_folder(folder, &node_name, config.state_dir.join("manifests"))?,
        // Its other end goes at once: nothing ever comes.
        None => watch::Sender::new(ManifestSet::default()).subscribe(),
    };
    let (cluster, identity) = match identity::connect(&config, Timestamp::now())? {
        Some((client, identity)) => (Some(Cluster::new(client)), Some(identity)),
        None => (None, None),
    };
    let node = Arc::new(set_up(config, cluster).await?);
    let nodes = crate::nodes::begin(Arc::clone(&node)).await;
    let uplinks = crate::uplinks::begin(&node);
    let first = source.borrow_and_update().clone();
    take(&node, first, false);
    recover(&node).await;
    node.pods.reconcile(&node);
    match node.cluster.clone().zip(identity) {
        Some((cluster, identity)) => {
            tokio::spawn(identity.keep(Arc::clone(&node), cluster));
            tracing::info!(node = %node_name, "the node runs");
        }
        None => {
            let set = node.manifests();
            let changes = node.services.open(&node.events).context("read the service tables")?;
            tracing::info!(node = %node_name, services = set.services.len(), pods = set.pods.len(), map_operations = changes, "the node runs");
        }
    }
    tokio::spawn(server::serve(Arc::clone(&node), listener));
    crate::upkeep::begin(&node);
    tokio::spawn(crate::health::serve_proxy(Arc::clone(&node)));
    tokio::spawn(crate::health::follow_ports(Arc::clone(&node)));
    tokio::spawn(uplinks.follow(Arc::clone(&node)));
    tokio::spawn(crate::nodes::follow(nodes));
    tokio::spawn(crate::counters::collect(Arc::clone(&node)));
    tokio::spawn(trim());
    follow(&node, source, &mut stop).await;
    tracing::info!("the agent stops; pods go on");
    let _ = fs::remove_file(node.config.socket());
    Ok(())
}

/// What a burst of work took is given back a while after.
async fn trim() {
    let mut tick = tokio::time::interval(TRIM_EVERY);
    loop {
        tick.tick().await;
        let _ = tokio::task::spawn_blocking(orlop_kernel::trim_heap).await;
    }
}

type Stop = (tokio::signal::unix::Signal, tokio::signal::unix::Signal);

async fn follow(node: &Arc<Node>, mut source: watch::Receiver<ManifestSet>, stop: &mut Stop) {
    let mut watched = true;
    loop {
        tokio::select! {
            changed = source.changed(), if watched => {
                watched = changed.is_ok();
                if watched {
                    let set = source.borrow_and_update().clone();
                    take(node, set, true);
                } else if node.config.manifests.is_some() {
                    tracing::error!("the manifests folder is no longer watched; restart the agent");
                }
            }
            () = node.pods.some_ended() => {
                node.pods.reconcile(node);
            }
            _ = stop.0.recv() => return,
            _ = stop.1.recv() => return,
        }
    }
}

/// Makes the node be what the manifests say. Before recovery only Services are taken.
fn take(node: &Arc<Node>, set: ManifestSet, pods: bool) {
    let before = node.manifests();
    for problem in set.problems.iter().filter(|problem| !before.problems.contains(problem)) {
        tracing::warn!(file = %problem.file.display(), object = problem.object.as_deref(), problem = problem.message, "manifest");
        // What is wrong with pods is told where they are judged.
        if let Some(object) = problem.object.as_ref().filter(|object| !object.starts_with("Pod ")) {
            let message = format!("{}: {}", problem.file.display(), problem.message);
            node.events.record(object, orlop_model::EventKind::Warning, "InvalidManifest", message);
        }
    }
    let set = Arc::new(set);
    node.manifests.send_replace(Arc::clone(&set));
    node.services.reconcile(&set, &[node.service_cidr], &node.events);
    if pods {
        node.pods.reconcile(node);
        if !before.same_objects(&set) {
            node.pods.objects_changed();
        }
    }
}

/// One agent a state folder: the lock goes with the process, however it ends.
fn lock(config: &Config) -> Result<Flock<File>> {
    let path = config.state_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => {
            bail!("another agent works in {}: stop it or give this one its own --state-dir", config.state_dir.display())
        }
    }
}

async fn set_up(config: Config, cluster: Option<Arc<Cluster>>) -> Result<Node> {
    let images = ImageStore::open(config.state_dir.join("images")).context("open the image store")?;
    let events = Arc::new(EventLog::default());
    let puller = puller(&config, &images);
    if let Some(folder) = &config.images {
        crate::node::import_images(&images, folder, &events);
    }
    let cgroups = CgroupRoot::open(CgroupMounts::detect()?, &config.cgroup_root).context("open the cgroup root")?;
    cgroups.make_kubepods().context("make the pods' cgroups")?;
    let monitor_procs = cgroups.monitors().context("make the monitors' cgroup")?;
    let ranges = match config.pod_cidrs.as_slice() {
        [] => remembered(&config.state_dir),
        told => told.to_vec(),
    };
    let ipam = Ipam::open(&leases_file(&config.state_dir), &ranges).context("open the address leases")?;
    let network = PodNetwork::open(Netns::current()?).context("open the pod network")?;
    let network = network.with_node_ips(config.node_ips.clone());
    network.prepare_node().await.context("prepare the node's network namespace")?;
    let datapath = open_datapath(&config, &cgroups)?;
    let datapath = Arc::new(datapath);
    Ok(Node {
        started: Timestamp::now(),
        settings: NodeSettings::of(&config),
        facts: NodeFacts::read()?,
        events,
        images,
        capabilities: HostCapabilities::read()?,
        cgroups,
        monitor_procs,
        ipam: Mutex::new(ipam),
        network,
        nodes: Nodes::new(Netns::current()?),
        services: Services::new(
            Arc::clone(&datapath),
            config.state_dir.join("services.json"),
            config.services.compiler(),
        )?
        .for_node(&config.node_name),
        service_cidr: config.service_cidr.to_string().parse()?,
        datapath,
        pods: Pods::default(),
        manifests: watch::Sender::new(Arc::new(ManifestSet::default())),
        static_pods: watch::Sender::default(),
        cluster,
        puller,
        files: config.node_files(),
        config,
    })
}

/// A cluster's nodes have a folder of static pods by their configuration; where nobody put one, it is empty.
fn make_static_pod_folder(config: &Config) -> Result<()> {
    let Some(folder) = config.manifests.as_ref().filter(|_| config.kubeconfig.is_some()) else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| format!("make the folder of static pods {}", folder.display()))
}

fn puller(config: &Config, images: &ImageStore) -> Puller {
    let credential_files = node_credential_files(&config.root_dir);
    // Read again at every pull, where a file that does not parse is passed over in silence.
    for problem in Keyring::new().add_files(&credential_files) {
        tracing::warn!(err = problem.chain(), "credentials for pulling images are not used");
    }
    let options = PullOptions {
        certs_dirs: CERTS_DIRS.map(PathBuf::from).to_vec(),
        credential_files,
        parallel_images: config.parallel_pulls(),
        ..PullOptions::default()
    };
    Puller::new(images.clone(), options)
}

fn open_datapath(config: &Config, cgroups: &CgroupRoot) -> Result<Datapath> {
    let settings = orlop_datapath::Config {
        bpf_dir: config.bpf_dir.clone(),
        cgroup: cgroups.unified(),
        map_entries: config.services.map_entries.clone(),
    };
    Datapath::open(&settings).context("load the eBPF programs")
}
