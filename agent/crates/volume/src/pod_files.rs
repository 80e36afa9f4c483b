//! The files that every container of a pod gets: hosts, hostname, resolv.conf, and
//! each container's termination log.

use crate::roots::parent;
use crate::setup::{make_private, pod_folder};
use crate::{ResolvConf, Roots, VolumeError, hosts, node_hosts, resolv_conf};
use orlop_model::{ContainerName, PodDesired, PodUid};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The node's own files that pods take from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFiles {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/resolv.conf`, or the file with the real servers behind a local stub.
    pub resolv_conf: PathBuf,
}

impl NodeFiles {
    /// This machine's. With systemd-resolved, whose stub at 127.0.0.53 a pod cannot
    /// reach, the file with its upstream servers (as kubeadm chooses).
    #[must_use]
    pub fn of_this_machine() -> Self {
        let plain = PathBuf::from("/etc/resolv.conf");
        let upstream = PathBuf::from("/run/systemd/resolve/resolv.conf");
        let is_stub = fs::read_to_string(&plain).is_ok_and(|text| text.contains("nameserver 127.0.0.53"));
        let resolv_conf = if is_stub && upstream.is_file() { upstream } else { plain };
        Self { hosts: PathBuf::from("/etc/hosts"), resolv_conf }
    }
}

/// Paths on the node of a pod's files, to be bind-mounted into its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFiles {
    /// For `/etc/hosts`.
    pub hosts: PathBuf,
    /// For `/etc/hostname`.
    pub hostname: PathBuf,
    /// For `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// What did not fit into resolv.conf: sentences for an event `DNSConfigForming`.
    pub left_out: Vec<String>,
}

/// Writes the pod's hosts, hostname and resolv.conf. A file whose content changes is
/// written in place, because containers have it bind-mounted. `ips` are the pod's
/// addresses, primary first; unused with host network. A node's file that is
/// missing counts as empty.
///
/// # Errors
/// Names the file.
pub fn write_pod_files(
    pod: &PodDesired,
    roots: &Roots,
    ips: &[IpAddr],
    node: &NodeFiles,
) -> Result<PodFiles, VolumeError> {
    pod_folder(pod, roots)?;
    let hosts_text = if pod.host_network {
        node_hosts(&read_or_empty(&node.hosts)?, &pod.host_aliases)
    } else {
        hosts(ips, &pod.hostname, pod.domain.as_deref(), &pod.host_aliases)
    };
    let node_resolv = if pod.dns.from_node { read_or_empty(&node.resolv_conf)? } else { String::new() };
    let ResolvConf { text: resolv_text, left_out } = resolv_conf(&pod.dns, &node_resolv);
    let files = PodFiles {
        hosts: roots.etc_hosts(&pod.uid),
        hostname: roots.etc_hostname(&pod.uid),
        resolv_conf: roots.resolv_conf(&pod.uid),
        left_out,
    };
    write_in_place(&files.hosts, &hosts_text)?;
    // A name too long for the kernel stops the sandbox, before this.
    let hostname = pod.kernel_hostname().unwrap_or_else(|_| pod.hostname.clone());
    write_in_place(&files.hostname, &format!("{hostname}\n"))?;
    write_in_place(&files.resolv_conf, &resolv_text)?;
    Ok(files)
}

/// Makes the termination log of one attempt at a container, empty and writable by
/// any user in it (0666), and gives its path.
///
/// # Errors
/// Names the file.
pub fn make_termination_log(
    uid: &PodUid,
    container: &ContainerName,
    attempt: u32,
    roots: &Roots,
) -> Result<PathBuf, VolumeError> {
    let path = roots.termination_log(uid, container, attempt);
    make_private(parent(&path))?;
    let file = File::options().create(true).append(true).open(&path).map_err(VolumeError::io("make", &path))?;
    file.set_permissions(fs::Permissions::from_mode(0o666)).map_err(VolumeError::io("chmod", &path))?;
    Ok(path)
}

fn read_or_empty(path: &Path) -> Result<String, VolumeError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(VolumeError::io("read", path)(error)),
    }
}

fn write_in_place(path: &Path, text: &str) -> Result<(), VolumeError> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())
    };
    write().map_err(VolumeError::io("write", path))
}
