//! One container as an OCI runtime spec: a pure function of the pod, the container,
//! the image and what the agent has prepared for it.

use crate::capability::{HostCapabilities, capabilities_for};
use crate::error::Error;
use crate::resources::resources;
use crate::seccomp::{for_libcontainer, runtime_default};
use crate::user::ResolvedUser;
use oci_spec::runtime::{
    Capabilities, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDevice, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxSeccomp, Mount as OciMount, MountBuilder, PosixRlimit, Process, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use orlop_kernel::CgroupLayout;
use orlop_model::{ContainerDesired, MountPropagation, PodDesired, SeccompProfile};
use std::path::{Path, PathBuf};

/// What is visible of the node in `/proc` and `/sys` and is hidden (containerd's list).
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// What can be read but not written.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Search path of an image that has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image says about how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageRun {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, `NAME=value`.
    pub env: Vec<String>,
    /// `User`: `""`, `uid`, `name`, each with `:group` or without.
    pub user: String,
    /// `WorkingDir`.
    pub working_dir: Option<PathBuf>,
}

/// A bind mount of the node into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Path on the node.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// Mounted read-only.
    pub read_only: bool,
    /// How mounts below it travel.
    pub propagation: MountPropagation,
}

/// The PID namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidNamespace {
    /// Its own.
    Own,
    /// One to join: `DIR/ns/pid` of the monitor.
    Join(PathBuf),
    /// The node's.
    Host,
}

/// Namespaces to join; `None` is the node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespacePaths {
    /// Network.
    pub net: Option<PathBuf>,
    /// IPC.
    pub ipc: Option<PathBuf>,
    /// UTS.
    pub uts: Option<PathBuf>,
    /// PID.
    pub pid: PidNamespace,
}

impl NamespacePaths {
    /// Those that the monitor of `dir` has pinned for this pod.
    #[must_use]
    pub fn of_pod(dir: &Path, pod: &PodDesired) -> Self {
        let pin = |name: &str| dir.join("ns").join(name);
        Self {
            net: (!pod.host_network).then(|| pin("net")),
            ipc: (!pod.host_ipc).then(|| pin("ipc")),
            uts: (!pod.host_network).then(|| pin("uts")),
            pid: match (pod.host_pid, pod.share_process_namespace) {
                (true, _) => PidNamespace::Host,
                (false, true) => PidNamespace::Join(pin("pid")),
                (false, false) => PidNamespace::Own,
            },
        }
    }
}

/// All that the spec of a container depends on.
#[derive(Debug, Clone)]
pub struct SpecInput<'a> {
    /// The pod.
    pub pod: &'a PodDesired,
    /// The container.
    pub container: &'a ContainerDesired,
    /// Its image.
    pub image: &'a ImageRun,
    /// The container's own variables, resolved; they win over the image's.
    pub env: &'a [(String, String)],
    /// `command` with `$(VAR)` expanded.
    pub command: &'a [String],
    /// `args` with `$(VAR)` expanded.
    pub args: &'a [String],
    /// Who it runs as.
    pub user: &'a ResolvedUser,
    /// The mounted root filesystem, absolute.
    pub rootfs: &'a Path,
    /// Volumes, `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`, the termination log.
    pub mounts: &'a [Mount],
    /// A tmpfs of the pod that is every container's `/dev/shm`; `None` gives each its
    /// own of 64 MiB.
    pub shm: Option<&'a Path>,
    /// Namespaces.
    pub namespaces: &'a NamespacePaths,
    /// `linux.cgroupsPath` (`orlop_kernel::PodCgroup::oci_path`).
    pub cgroup: &'a Path,
    /// The host's cgroups.
    pub cgroup_layout: CgroupLayout,
    /// Processes at most.
    pub pids_limit: Option<u64>,
    /// Parsed profile of `SeccompProfile::Localhost` ([`crate::localhost_seccomp`]).
    pub localhost_seccomp: Option<LinuxSeccomp>,
    /// What this node can give at all.
    pub host_capabilities: HostCapabilities,
    /// Devices of the node for a privileged container ([`crate::host_devices`]).
    pub devices: &'a [LinuxDevice],
    /// Resource limits of the process; empty takes the monitor's.
    pub rlimits: &'a [PosixRlimit],
}

/// Builds the spec. `oom_score_adj` is not in it: it goes to the monitor beside it.
///
/// # Errors
/// [`Error::Config`]: no command, an unknown capability, a mount that is not absolute.
pub fn build_spec(input: &SpecInput<'_>) -> Result<Spec, Error> {
    let security = &input.container.security;
    let capabilities = capabilities_for(security, input.host_capabilities)?;
    let root = RootBuilder::default().path(input.rootfs).readonly(security.read_only_root);
    let seccomp = match (&security.seccomp, security.privileged) {
        (_, true) | (SeccompProfile::Unconfined, _) => None,
        (SeccompProfile::RuntimeDefault, false) => Some(runtime_default(&capabilities, std::env::consts::ARCH)?),
        (SeccompProfile::Localhost(path), false) => Some(
            input
                .localhost_seccomp
                .clone()
                .ok_or_else(|| Error::Config(format!("seccomp profile {} has not been read", path.display())))?,
        ),
    };
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(input)?)
        .cgroups_path(input.cgroup)
        .resources(resources(&input.container.resources, input.pids_limit, security.privileged, input.cgroup_layout)?);
    if let Some(propagation) = propagation_of_root(input.mounts) {
        linux = linux.rootfs_propagation(propagation);
    }
    if let Some(filter) = seccomp {
        linux = linux.seccomp(for_libcontainer(filter)?);
    }
    if security.privileged {
        linux = linux.devices(input.devices.to_vec()).masked_paths(Vec::new()).readonly_paths(Vec::new());
    } else {
        linux = linux.masked_paths(MASKED_PATHS.map(str::to_owned)).readonly_paths(READONLY_PATHS.map(str::to_owned));
    }
    let mut spec = SpecBuilder::default()
        .version("1.1.0")
        .root(root.build().map_err(spec_error)?)
        .process(process(input, &capabilities)?)
        .mounts(mounts(input)?)
        .linux(linux.build().map_err(spec_error)?)
        .build()
        .map_err(spec_error)?;
    // The builder's default is "youki". The pod's name is in the namespace that the
    // monitor made; on the host's none may be set.
    spec.set_hostname(None);
    Ok(spec)
}

fn process(input: &SpecInput<'_>, capabilities: &Capabilities) -> Result<Process, Error> {
    let user = UserBuilder::default()
        .uid(input.user.uid)
        .gid(input.user.gid)
        .additional_gids(input.user.groups.clone())
        .build()
        .map_err(spec_error)?;
    // No inheritable or ambient ones (CVE-2022-24769): a process that is not root
    // gets capabilities only from files.
    let sets = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities.clone())
        .effective(capabilities.clone())
        .permitted(capabilities.clone())
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()
        .map_err(spec_error)?;
    let cwd = input.container.working_dir.as_ref().or(input.image.working_dir.as_ref());
    let cwd = cwd.filter(|path| !path.as_os_str().is_empty()).map_or(Path::new("/"), PathBuf::as_path);
    let mut process = ProcessBuilder::default()
        .terminal(input.container.tty)
        .user(user)
        .args(command_line(input)?)
        .env(environment(input))
        .cwd(Path::new("/").join(cwd))
        .capabilities(sets)
        .build()
        .map_err(spec_error)?;
    // Set or left out: libcontainer takes an explicit false for a reason to install
    // the seccomp filter after the capabilities are gone, which the kernel refuses.
    process.set_no_new_privileges((!input.container.security.allow_privilege_escalation).then_some(true));
    process.set_rlimits((!input.rlimits.is_empty()).then(|| input.rlimits.to_vec()));
    Ok(process)
}

/// `command` replaces the image's entrypoint and, without `args`, its cmd as well.
fn command_line(input: &SpecInput<'_>) -> Result<Vec<String>, Error> {
    let (entrypoint, cmd) = match (input.command, input.args) {
        ([], []) => (&input.image.entrypoint[..], &input.image.cmd[..]),
        ([], args) => (&input.image.entrypoint[..], args),
        (command, args) => (command, args),
    };
    let line: Vec<String> = entrypoint.iter().chain(cmd).cloned().collect();
    if line.is_empty() {
        return Err(Error::Config("no command specified: neither the container nor its image has one".into()));
    }
    Ok(line)
}

fn environment(input: &SpecInput<'_>) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str, replace: bool| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) if replace => value.clone_into(old),
        Some(_) => {}
        None => env.push((name.to_owned(), value.to_owned())),
    };
    for variable in &input.image.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        set(name, value, true);
    }
    set("HOSTNAME", &input.pod.kernel_hostname().unwrap_or_else(|_| input.pod.hostname.clone()), true);
    for (name, value) in input.env {
        set(name, value, true);
    }
    set("PATH", DEFAULT_PATH, false);
    set("HOME", &input.user.home.to_string_lossy(), false);
    if input.container.tty {
        set("TERM", "xterm", false);
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn namespaces(input: &SpecInput<'_>) -> Result<Vec<LinuxNamespace>, Error> {
    let new = |typ| LinuxNamespaceBuilder::default().typ(typ).build().map_err(spec_error);
    let join =
        |typ, path: &PathBuf| LinuxNamespaceBuilder::default().typ(typ).path(path.clone()).build().map_err(spec_error);
    let paths = input.namespaces;
    let mut list = vec![new(LinuxNamespaceType::Mount)?];
    match &paths.pid {
        PidNamespace::Own => list.push(new(LinuxNamespaceType::Pid)?),
        PidNamespace::Join(path) => list.push(join(LinuxNamespaceType::Pid, path)?),
        PidNamespace::Host => {}
    }
    let joined = [
        (LinuxNamespaceType::Network, &paths.net),
        (LinuxNamespaceType::Ipc, &paths.ipc),
        (LinuxNamespaceType::Uts, &paths.uts),
    ];
    for (typ, path) in joined {
        if let Some(path) = path {
            list.push(join(typ, path)?);
        }
    }
    if input.cgroup_layout == CgroupLayout::V2 {
        list.push(new(LinuxNamespaceType::Cgroup)?);
    }
    Ok(list)
}

fn mounts(input: &SpecInput<'_>) -> Result<Vec<OciMount>, Error> {
    let security = &input.container.security;
    let sys = if security.privileged { "rw" } else { "ro" };
    let mut list = vec![
        special("proc", "/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        special("tmpfs", "/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        special(
            "devpts",
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        special("mqueue", "/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        special("sysfs", "/sys", "sysfs", &["nosuid", "noexec", "nodev", sys])?,
    ];
    // Each container's own cgroup, in a cgroup namespace. On v1 it would be one more
    // mount for each controller, at every start, of files that name the node's
    // paths: left out there.
    if input.cgroup_layout == CgroupLayout::V2 {
        list.push(special("cgroup", "/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys])?);
    }
    list.push(match input.shm {
        Some(source) => bind(source, Path::new("/dev/shm"), &["rprivate", "rw"])?,
        None => special("shm", "/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])?,
    });
    for mount in input.mounts {
        let propagation = match mount.propagation {
            MountPropagation::None => "rprivate",
            MountPropagation::HostToContainer => "rslave",
            MountPropagation::Bidirectional => "rshared",
        };
        let access = if mount.read_only { "ro" } else { "rw" };
        list.retain(|other| other.destination() != &mount.destination);
        list.push(bind(&mount.source, &mount.destination, &[propagation, access])?);
    }
    Ok(list)
}

fn special(source: &str, destination: &str, typ: &str, options: &[&str]) -> Result<OciMount, Error> {
    MountBuilder::default()
        .source(source)
        .destination(destination)
        .typ(typ)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
        .map_err(spec_error)
}

fn bind(source: &Path, destination: &Path, options: &[&str]) -> Result<OciMount, Error> {
    if !destination.is_absolute() || !source.is_absolute() {
        let (from, to) = (source.display(), destination.display());
        return Err(Error::Config(format!("mount of {from} at {to}: both paths must be absolute")));
    }
    MountBuilder::default()
        .source(source)
        .destination(destination)
        .typ("bind")
        .options(["rbind"].iter().chain(options).map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
        .map_err(spec_error)
}

/// The root must take part in what its mounts do, or they would be cut off. Left
/// out, it is recursively a slave; libcontainer knows no names that begin with "r".
fn propagation_of_root(mounts: &[Mount]) -> Option<&'static str> {
    let bidirectional = mounts.iter().any(|m| m.propagation == MountPropagation::Bidirectional);
    bidirectional.then_some("shared")
}

fn spec_error(error: oci_spec::OciSpecError) -> Error {
    Error::Config(error.to_string())
}
