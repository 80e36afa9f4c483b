//! `orlop reset`: takes everything of a node away again.

use crate::cli::AgentArgs;
use crate::config::Config;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use orlop_cni::{PeerNetwork, PodNetwork};
use orlop_kernel::{CgroupMounts, CgroupRoot, Netns, detach_below};
use orlop_runtime::Monitor;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long killed processes may take to go.
const REAP_WITHIN: Duration = Duration::from_secs(10);

/// Ends all pods of the node and removes its cgroups, links, programs, mounts and
/// folders. Goes on after an error; says what it did.
///
/// # Errors
/// The agent still runs, or something is left: each is named.
pub(crate) fn reset(args: AgentArgs) -> Result<()> {
    let config = Config::read(args)?;
    let _lock = nobody_works_there(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let problems = runtime.block_on(remove(&config));
    if problems.is_empty() {
        println!("nothing of the node is left");
        return Ok(());
    }
    bail!("left behind: {}", problems.join("; "))
}

fn nobody_works_there(config: &Config) -> Result<Option<Flock<File>>> {
    let path = config.state_dir.join("lock");
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(|| format!("open {}", path.display()))?,
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err(_) => bail!("an agent works in {}: stop it first (systemctl stop orlop)", config.state_dir.display()),
    }
}

async fn remove(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    end_pods(&config.run_dir.join("pods"), &mut problems).await;
    note(&mut problems, "cgroups", remove_cgroups(config));
    note(&mut problems, "links", remove_links().await);
    note(&mut problems, "eBPF", orlop_datapath::remove_all(&config.bpf_dir).map_err(Into::into));
    // First: what they are is seen from the folders.
    for file in crate::identity::left_by_join(config) {
        let removed = fs::remove_file(&file).with_context(|| format!("remove {}", file.display()));
        note(&mut problems, "file", removed.map(|()| println!("{} is gone", file.display())));
    }
    for dir in [&config.run_dir, &config.state_dir, &config.root_dir, &config.log_dir] {
        note(&mut problems, "folder", remove_folder(dir));
    }
    problems
}

fn note(problems: &mut Vec<String>, what: &str, result: Result<()>) {
    if let Err(error) = result {
        problems.push(format!("{what}: {error:#}"));
    }
}

async fn end_pods(dir: &Path, problems: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // A monitor that does not answer is killed with its cgroup.
        if let Ok((monitor, snapshot, _)) = Monitor::connect(&entry.path()).await {
            println!("pod {}: {} containers end", snapshot.config.uid, snapshot.containers.len());
            if let Err(error) = monitor.shutdown().await {
                problems.push(format!("pod {}: {error:#}", snapshot.config.uid));
            }
        }
    }
}

fn remove_cgroups(config: &Config) -> Result<()> {
    let root = CgroupRoot::open(CgroupMounts::detect()?, &config.cgroup_root)?;
    root.remove_pods(REAP_WITHIN)?;
    if config.cgroup_root != Path::new("/") {
        root.remove_all(REAP_WITHIN)?;
    }
    println!("cgroups below {} are gone", config.cgroup_root.display());
    Ok(())
}

async fn remove_links() -> Result<()> {
    let network = PodNetwork::open(Netns::current()?)?;
    for link in network.list().await? {
        network.remove(&link).await?;
        println!("link {} is gone", link.name);
    }
    for what in PeerNetwork::new(Netns::current()?).remove_all()? {
        println!("{what} is gone");
    }
    Ok(())
}

fn remove_folder(dir: &PathBuf) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let report = detach_below(dir)?;
    if let Some(error) = report.errors.into_iter().next() {
        return Err(error.into());
    }
    fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    println!("{} is gone", dir.display());
    Ok(())
}
