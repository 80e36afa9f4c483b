//! Installing one missing thing; each command is printed before it runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::look::{llvm_library, nightly_sysroot, registry_dir};
use super::{LINKER_LLVM, LINKER_VERSION, REGISTRY, Route};
use crate::command::{cargo, on_path, run, target_dir};

/// Brings apt's lists up to date. Without a network the old ones may do, so this never fails.
pub fn refresh() {
    if on_path("apt-get").is_none() {
        return;
    }
    if let Err(error) = apt().and_then(|mut apt| run(apt.args(["-q", "update"]))) {
        println!("  {error:#}; going on with the lists that are there");
    }
}

/// Installs packages. Nothing is removed for them, with one exception: `busybox-static`
/// takes the place of `busybox`, whose programs it has, too.
pub fn packages(names: &[&str]) -> Result<()> {
    let hint = || format!("install these packages by hand: {}", names.join(" "));
    if on_path("apt-get").is_none() {
        bail!("no apt-get here; {} (or what your distribution calls them)", hint());
    }
    let (twins, plain): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| **name == "busybox-static");
    for (list, removal) in [(plain, "no"), (twins, "yes")] {
        if !list.is_empty() {
            let mut apt = apt()?;
            apt.args(["-q", "install", "--yes", "--no-install-recommends", "--option", "Dpkg::Use-Pty=0"]);
            apt.arg("--option").arg(format!("APT::Get::Remove={removal}")).args(&list);
            run(&mut apt).with_context(hint)?;
        }
    }
    Ok(())
}

/// Downloads docker-registry's package and unpacks it below `target/`: no root, no
/// service, no user, nothing to remove but a folder.
pub fn registry() -> Result<()> {
    let hint = "or put a docker-registry on PATH";
    if on_path("apt-get").is_none() || on_path("dpkg-deb").is_none() {
        bail!("no apt-get and dpkg-deb here to get {REGISTRY} with; {hint}");
    }
    let (dir, new) = (registry_dir(), registry_dir().with_extension("new"));
    for old in [&dir, &new] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(&new).with_context(|| format!("create {}", new.display()))?;
    run(Command::new("apt-get").args(["-q", "download", REGISTRY]).current_dir(&new)).context(hint)?;
    let package = fs::read_dir(&new)
        .with_context(|| format!("list {}", new.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| anyhow!("apt-get downloaded no package of {REGISTRY}; {hint}"))?;
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&new))?;
    fs::remove_file(&package).with_context(|| format!("remove {}", package.display()))?;
    fs::rename(&new, &dir).with_context(|| format!("rename {} to {}", new.display(), dir.display()))
}

/// `apt-get` that asks nothing, as root.
fn apt() -> Result<Command> {
    let mut command = if is_root()? {
        Command::new("env")
    } else {
        let sudo = on_path("sudo").ok_or_else(|| anyhow!("installing packages needs root, and there is no sudo"))?;
        let mut command = Command::new(sudo);
        command.arg("env");
        command
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    Ok(command)
}

/// Our own entry in /proc belongs to the effective user.
fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("read /proc/self")?.uid() == 0)
}

/// Installs rustup's nightly with the sources of `core`.
pub fn nightly() -> Result<()> {
    if on_path("rustup").is_none() {
        bail!(
            "no compiler for eBPF: this distribution offers no rustc-web, and there is no rustup; install rustup \
             (https://rustup.rs), or build the object elsewhere with `cargo xtask ebpf` and name its folder in ORLOP_EBPF_DIR"
        );
    }
    run(Command::new("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]))
    .context(
        "no compiler for eBPF: rustup could not install nightly with rust-src; \
         or build the object elsewhere with `cargo xtask ebpf` and name its folder in ORLOP_EBPF_DIR",
    )
}

/// Builds bpf-linker against the very LLVM its compiler uses, into Cargo's bin folder.
pub fn linker(llvm: u32, route: Route) -> Result<()> {
    if !LINKER_LLVM.contains(&llvm) {
        bail!(
            "bpf-linker {LINKER_VERSION} works with LLVM {LINKER_LLVM:?}, the compiler for eBPF uses {llvm}; \
             install another nightly as `nightly`, or put a bpf-linker for LLVM {llvm} on PATH"
        );
    }
    let folder = match route {
        Route::Debian => PathBuf::from(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH)),
        Route::Nightly => nightly_sysroot().ok_or_else(|| anyhow!("rustup has no nightly"))?.join("lib"),
    };
    let library = llvm_library(&folder, llvm)
        .ok_or_else(|| anyhow!("no libLLVM.so.{llvm}* in {}; is the compiler whole?", folder.display()))?;
    let prefix = linker_prefix(&library)?;
    let mut install = cargo();
    install.args(["install", "--locked", "--force", "--no-default-features", "--features"]);
    install.arg(format!("llvm-{llvm}")).arg(format!("bpf-linker@{LINKER_VERSION}"));
    install.env("LLVM_PREFIX", &prefix);
    // rustup's LLVM is in no folder that the dynamic loader searches.
    install.env("RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath,{}", folder.display()));
    println!("  with LLVM_PREFIX={}", prefix.display());
    run(&mut install)
}

/// A folder with `lib/libLLVM.so`, which bpf-linker's build looks for; the distribution
/// puts that name into a development package of a gigabyte that nothing else here needs.
fn linker_prefix(library: &Path) -> Result<PathBuf> {
    let prefix = target_dir().join("xtask/llvm");
    let lib = prefix.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("create {}", lib.display()))?;
    let link = lib.join("libLLVM.so");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("remove {}", link.display()))?;
    }
    symlink(library, &link).with_context(|| format!("link {} to {}", link.display(), library.display()))?;
    Ok(prefix)
}
