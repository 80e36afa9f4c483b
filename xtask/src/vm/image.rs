//! What the machine boots: a kernel out of a package, and a file system in memory.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::{TestProgram, run_in};
use crate::command::{ask, on_path};

/// What the machine says last.
pub const ENDED: &str = "orlop-vm: all tests ran";

/// Folders of a kernel's modules that the tests may need.
const MODULES: [&str; 3] = ["kernel/net", "kernel/drivers/net", "kernel/lib"];

/// Modules that the kernel does not load by itself when they are asked for.
const LOADED: &str = "veth bridge vxlan sch_ingress sch_fq cls_bpf act_bpf inet_diag tcp_diag udp_diag";

/// A kernel, unpacked.
pub struct Kernel {
    /// What boots.
    pub image: PathBuf,
    /// `lib/modules/VERSION`.
    modules: PathBuf,
}

/// Downloads and unpacks the kernel of this name below `folder`, once.
pub fn kernel(folder: &Path, name: &str) -> Result<Kernel> {
    let package = format!("linux-image-{name}");
    let hint = || format!("name another with --kernel: `apt-cache search linux-image` lists them (not {package})");
    if on_path("apt-get").is_none() || on_path("dpkg-deb").is_none() {
        bail!("no apt-get and dpkg-deb here to get {package} with");
    }
    // The name without a version leads to the newest: its one dependency that is an image.
    let depends = ask(Command::new("apt-cache").args(["depends", "--important", &package])).with_context(hint)?;
    let newest = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let package = newest.map_or_else(|| package.clone(), |name| format!("linux-image-{name}"));
    let unpacked = folder.join(&package);
    if !unpacked.join("boot").is_dir() {
        fs::create_dir_all(&unpacked).with_context(|| format!("create {}", unpacked.display()))?;
        run_in(&unpacked, "apt-get", &["-q", "download", &package]).with_context(hint)?;
        let file = entries(&unpacked)?.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
        let file = file.ok_or_else(|| anyhow!("apt-get downloaded no package of {package}"))?;
        run_in(&unpacked, "dpkg-deb", &["-x", &file.to_string_lossy(), "."])?;
    }
    let image = entries(&unpacked.join("boot"))?.into_iter().find(|path| named(path).starts_with("vmlinuz"));
    let libs = ["usr/lib/modules", "lib/modules"].map(|place| unpacked.join(place)).into_iter().find(|p| p.is_dir());
    let modules = libs.map(|libs| entries(&libs)).transpose()?.and_then(|all| all.into_iter().next());
    match (image, modules) {
        (Some(image), Some(modules)) => Ok(Kernel { image, modules }),
        _ => bail!("{package} holds no kernel with modules"),
    }
}

/// Makes the file system: busybox, `ip`, modules, test programs and what they link to.
pub fn initrd(folder: &Path, kernel: &Kernel, tests: &[TestProgram], filter: &str) -> Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    for name in ["bin", "dev", "proc", "sys", "tmp", "run", "etc", "tests"] {
        let path = root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    let busybox = on_path("busybox").ok_or_else(|| anyhow!("no busybox on PATH"))?;
    let ip = on_path("ip").ok_or_else(|| anyhow!("no ip on PATH"))?;
    copy(&busybox, &root.join("bin/busybox"))?;
    copy(&ip, &root.join("bin/ip"))?;
    let mut libraries = libraries(&ip)?;
    for test in tests {
        let target = root.join("tests").join(&test.name);
        copy(&test.path, &target)?;
        libraries.extend(self::libraries(&test.path)?);
        run_in(&root, "strip", &["--strip-debug", &target.to_string_lossy()])?;
    }
    for library in libraries {
        copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    modules(kernel, &root)?;
    let init = root.join("init");
    fs::write(&init, script(tests, filter)).with_context(|| format!("write {}", init.display()))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("make init executable")?;
    pack(&root, &folder.join("initrd"))
}

/// The machine's first and only process.
fn script(tests: &[TestProgram], filter: &str) -> String {
    let mut script = format!(
        "#!/bin/busybox sh\n\
         export PATH=/bin:/sbin\n\
         /bin/busybox --install -s /bin 2>/dev/null\n\
         mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys\n\
         mount -t tmpfs tmp /tmp; mount -t tmpfs run /run; mount -t bpf bpf /sys/fs/bpf\n\
         mount -t cgroup2 cgroup /sys/fs/cgroup\n\
         ln -sf /proc/self/fd /dev/fd\n\
         ip link set lo up\n\
         for module in {LOADED}; do modprobe $module 2>/dev/null; done\n\
         echo \"kernel $(uname -r)\"\n\
         export RUST_BACKTRACE=0\n"
    );
    for test in tests {
        let _ = writeln!(script, "echo; echo \"     Running {0}\"; /tests/{0} --color never '{filter}'", test.name);
    }
    let _ = writeln!(script, "echo '{ENDED}'\npoweroff -f");
    script
}

/// Copies the modules unpacked, as busybox reads them, with their index.
fn modules(kernel: &Kernel, root: &Path) -> Result<()> {
    let target = root.join("lib/modules").join(named(&kernel.modules));
    for folder in MODULES {
        copy_tree(&kernel.modules.join(folder), &target.join(folder))?;
    }
    for name in ["modules.order", "modules.builtin"] {
        copy(&kernel.modules.join(name), &target.join(name))?;
    }
    run_in(root, "busybox", &["sh", "-c", "find lib/modules -name '*.xz' | xargs -r xz -d"])?;
    run_in(root, "busybox", &["depmod", "-b", ".", &named(&kernel.modules)])
}

/// Writes all below `root` as a cpio archive, which the kernel takes as it is.
fn pack(root: &Path, archive: &Path) -> Result<PathBuf> {
    let mut names = Vec::new();
    list(root, Path::new(""), &mut names)?;
    let file = fs::File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut cpio = Command::new("busybox");
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(root);
    let mut child = cpio.stdin(Stdio::piped()).stdout(file).spawn().context("start busybox cpio")?;
    let mut input = child.stdin.take().context("cpio has no stdin")?;
    input.write_all(names.join("\n").as_bytes()).context("tell cpio the names")?;
    drop(input);
    if !child.wait().context("wait for cpio")?.success() {
        bail!("cpio could not write {}", archive.display());
    }
    Ok(archive.to_path_buf())
}

fn list(root: &Path, below: &Path, names: &mut Vec<String>) -> Result<()> {
    for path in entries(&root.join(below))? {
        let name = below.join(named(&path));
        names.push(name.to_string_lossy().into_owned());
        if path.is_dir() && !path.is_symlink() {
            list(root, &name, names)?;
        }
    }
    Ok(())
}

/// Shared libraries of a program, and the loader.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = ask(Command::new("ldd").arg(program)).with_context(|| format!("ldd {}", program.display()))?;
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    let mut found = read().with_context(|| format!("list {}", folder.display()))?;
    found.sort();
    Ok(found)
}

fn named(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display())).map(drop)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for path in entries(from)? {
        let target = to.join(named(&path));
        if path.is_dir() { copy_tree(&path, &target)? } else { copy(&path, &target)? }
    }
    Ok(())
}
