//! The peer of a pod's start: `crun run` of the bundle that Orlop wrote for it.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::statfs;
use orlop_tests::{Role, World};
use serde_json::{Value, json};
use std::ffi::CStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why there is no peer.
pub const NO_CRUN: &str = "crun is not installed: `apt-get install crun` and run it again";

/// Whether there is a crun.
pub fn have_crun() -> bool {
    Command::new("crun")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// A bundle for crun, from that of a pod which runs.
pub struct Bundle {
    dir: PathBuf,
    root: PathBuf,
    id: String,
}

impl Bundle {
    /// Copies the bundle of the pod's only container. The namespaces become new ones, the cgroup
    /// one beside the pods, and the command makes `mark` and ends; all else stays,
    /// the mounted root filesystem too.
    ///
    /// # Panics
    /// The pod has no bundle or another one than expected.
    pub fn of_pod(world: &World, uid: &str, id: &str, mark: &str, cgroup_root: &str) -> Self {
        let bundles = world.folder("run").join("pods").join(uid).join("bundles");
        let entry = fs::read_dir(&bundles).expect("the pod's bundles").flatten().next().expect("a bundle");
        let text = fs::read(entry.path().join("config.json")).expect("read config.json");
        let mut spec: Value = serde_json::from_slice(&text).expect("config.json");
        for namespace in spec["linux"]["namespaces"].as_array_mut().expect("namespaces") {
            namespace.as_object_mut().expect("a namespace").remove("path");
        }
        spec["linux"]["cgroupsPath"] = json!(format!("{cgroup_root}/{id}"));
        spec["process"]["args"] = json!(["/bin/busybox", "sh", "-c", format!(": > /mark/{mark}")]);
        let dir = world.folder("crun").join(id);
        fs::create_dir_all(&dir).expect("make the bundle");
        fs::write(dir.join("config.json"), spec.to_string()).expect("write config.json");
        Self { dir, root: world.folder("crun").join("state"), id: id.to_owned() }
    }

    /// `crun run`, ready to start in the node's namespaces.
    pub fn run(&self, world: &World) -> Command {
        let mut command = world.node_command("crun");
        command.arg("--root").arg(&self.root).args(["--cgroup-manager=cgroupfs", "run", "--bundle"]);
        command.arg(&self.dir).arg(&self.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: between fork and exec only two system calls are made.
        unsafe { command.pre_exec(hide_unified) };
        command
    }
}

/// crun does not work beside a cgroup2 mount that has controllers of its own next to
/// v1 hierarchies: it sees none there, and makes its cgroups in the others.
fn hide_unified() -> std::io::Result<()> {
    let unified = c"/sys/fs/cgroup/unified";
    let none: Option<&CStr> = None;
    if statfs(unified).is_ok() {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(Some(c"none"), unified, Some(c"tmpfs"), MsFlags::empty(), none)?;
    }
    Ok(())
}

/// Removes what crun left in the node's cgroups.
pub fn clean(world: &World, cgroup_root: &str) {
    world.run(Role::Node, || {
        let mounts = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for mount in mounts.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let cgroup = mount.join(cgroup_root.trim_start_matches('/'));
            remove(&cgroup);
            // crun goes into systemd's hierarchy, too, where the node has nothing. Where it
            // has, its cgroup is not empty and stays.
            let _ = cgroup.parent().map(fs::remove_dir);
        }
    });
}

fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(cgroup);
}
