//! What a machine needs before `cargo build` works here, and how to get it.
//!
//! ```text
//!   look::found() → Found → needs(&Found) → Vec<Need> → install::carry_out(&Need) → look again
//! ```
//!
//! The eBPF object can be built in three ways, and the build script of
//! `orlop-datapath` tries them in the same order: an object given by
//! `ORLOP_EBPF_DIR`; Debian's rustc, which brings a precompiled `core` for
//! `bpfel-unknown-none`; rustup's nightly with `rust-src`, which builds `core`.

mod install;
mod look;

use std::collections::BTreeSet;

use anyhow::{Result, bail};

pub use install::packages as install_packages;
use look::found;

/// The bpf-linker that was tried with aya-ebpf 0.2.
const LINKER_VERSION: &str = "0.13.0";
/// LLVM majors that bpf-linker 0.13 has a feature for.
const LINKER_LLVM: [u32; 3] = [21, 22, 23];
/// `rust-version` of the workspace: an older compiler refuses to build the eBPF programs.
const RUSTC_MINOR_MIN: u32 = 89;
/// Rounds of looking and installing; the longest chain is packages, registry, toolchain, linker.
const ROUNDS_MAX: usize = 6;
/// The registry that images are pulled from in tests. Debian starts a service when it
/// is installed, which nobody asked for who only wants to run tests; so its package is
/// unpacked below `target/` and the package database does not hear of it.
const REGISTRY: &str = "docker-registry";

/// Packages that every build needs, by the same name on Debian and Ubuntu.
const PACKAGES: [(&str, &str); 8] = [
    ("gcc", "links every Rust program, compiles zstd"),
    ("libc6-dev", "headers and start files that gcc links with"),
    ("pkg-config", "finds libseccomp for the build"),
    ("libseccomp-dev", "system call filters of containers"),
    ("iproute2", "joins the demonstration's namespaces by a wire"),
    ("busybox-static", "the content of the demonstration's and the tests' image"),
    ("iptables", "loads kube-proxy's rules for the benches, of both kinds"),
    ("nftables", "loads kube-proxy's rules for the benches, of the third kind"),
];
/// Debian's compiler with a precompiled `core` for eBPF.
const DEBIAN_RUSTC: [(&str, &str); 2] = [
    ("rustc-web", "compiles the eBPF programs (rustup's stable cannot)"),
    ("libstd-rust-web-dev-bpf", "Rust's core library, precompiled for eBPF"),
];

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Only print what is missing; exit 1 if anything is.
    #[arg(long)]
    check: bool,
}

/// A compiler that can build the eBPF programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// `y` of rustc `1.y.z`.
    pub minor: u32,
    /// The LLVM it emits bitcode of.
    pub llvm: u32,
}

/// What was seen on this machine.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// `ORLOP_EBPF_DIR` names a folder with the object, so nothing is compiled for eBPF.
    pub prebuilt: bool,
    /// `docker-registry` on PATH or below `target/`.
    pub registry: bool,
    /// Debian packages that are installed.
    pub packages: BTreeSet<String>,
    /// Minor version of the rustc-web that apt would install; `None` when there is none or nobody asked.
    pub offered_rustc_minor: Option<u32>,
    /// `/usr/bin/rustc` with a precompiled core for `bpfel-unknown-none`.
    pub debian: Option<Compiler>,
    /// rustup's nightly.
    pub nightly: Option<Compiler>,
    /// That nightly has rust-src.
    pub nightly_source: bool,
    /// `bpf-linker` on PATH that runs, with the LLVM major it is linked with.
    pub linker: Option<(String, u32)>,
}

/// One thing that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A Debian or Ubuntu package.
    Package(&'static str),
    /// Debian's docker-registry, unpacked and not installed.
    Registry,
    /// rustup's nightly with rust-src.
    Nightly,
    /// bpf-linker, linked with the LLVM of the compiler that it will be fed by.
    Linker { llvm: u32, compiler: Route },
}

/// Where the eBPF compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Debian's rustc.
    Debian,
    /// rustup's nightly with rust-src.
    Nightly,
}

impl Need {
    fn why(&self) -> &'static str {
        match self {
            Self::Package(name) => {
                PACKAGES.iter().chain(&DEBIAN_RUSTC).find(|(known, _)| known == name).map_or("", |(_, why)| why)
            }
            Self::Registry => "serves the images that the tests pull (not installed, so no service starts)",
            Self::Nightly => "compiles the eBPF programs together with Rust's core library",
            Self::Linker { .. } => "turns the compiler's LLVM bitcode into an eBPF object (about a minute to build)",
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Package(name) => format!("package {name}"),
            Self::Registry => format!("{REGISTRY}, unpacked below target/"),
            Self::Nightly => "rustup toolchain nightly with rust-src".into(),
            Self::Linker { llvm, .. } => format!("bpf-linker {LINKER_VERSION} for LLVM {llvm}"),
        }
    }
}

/// Everything missing that can be told now; the linker is only known once its compiler is there.
pub fn needs(found: &Found) -> Vec<Need> {
    let lacking = |list: &'static [(&'static str, &'static str)]| {
        list.iter().map(|(name, _)| *name).filter(|name| !found.packages.contains(*name)).map(Need::Package)
    };
    let mut needs: Vec<Need> = lacking(&PACKAGES).collect();
    needs.extend((!found.registry).then_some(Need::Registry));
    if found.prebuilt {
        return needs;
    }
    let usable = |compiler: Option<Compiler>| compiler.filter(|compiler| compiler.minor >= RUSTC_MINOR_MIN);
    let built_by = match (usable(found.debian), usable(found.nightly).filter(|_| found.nightly_source)) {
        (Some(compiler), _) => Some((compiler, Route::Debian)),
        (None, Some(compiler)) => Some((compiler, Route::Nightly)),
        (None, None) => None,
    };
    match built_by {
        Some((Compiler { llvm, .. }, compiler)) => {
            let fits = found.linker.as_ref().is_some_and(|(_, linked)| *linked >= llvm);
            needs.extend((!fits).then_some(Need::Linker { llvm, compiler }));
        }
        None if found.offered_rustc_minor.is_some_and(|minor| minor >= RUSTC_MINOR_MIN) => {
            needs.extend(lacking(&DEBIAN_RUSTC));
        }
        None => needs.push(Need::Nightly),
    }
    needs
}

/// Sets the machine up. `Ok(false)` only for `--check` with something missing.
pub fn run(args: &Args) -> Result<bool> {
    if args.check {
        let needs = needs_now();
        println!("{}", if needs.is_empty() { "nothing is missing" } else { "missing:" });
        needs.iter().for_each(tell);
        return Ok(needs.is_empty());
    }
    ensure()?;
    Ok(true)
}

/// Installs what is missing, prints each thing and why, and says nothing else when nothing is.
pub fn ensure() -> Result<()> {
    let mut tried: BTreeSet<Need> = BTreeSet::new();
    for round in 0..ROUNDS_MAX {
        let mut needs = needs_now();
        if needs.is_empty() {
            println!("set-up: nothing is missing");
            return Ok(());
        }
        if round == 0 && needs.iter().any(Need::asks_apt) {
            install::refresh();
            needs = needs_now();
        }
        println!("set-up: missing");
        needs.iter().for_each(tell);
        // Packages go together, everything else one by one with a look in between.
        let packages: Vec<&'static str> = needs.iter().filter_map(Need::package).collect();
        let now = if packages.is_empty() {
            needs[..1].to_vec()
        } else {
            packages.iter().copied().map(Need::Package).collect()
        };
        for need in now {
            if let Some(again) = tried.replace(need) {
                bail!("{} was installed and is still not found; see the output above", again.what());
            }
        }
        match &needs[0] {
            _ if !packages.is_empty() => install::packages(&packages)?,
            Need::Package(name) => install::packages(&[name])?,
            Need::Registry => install::registry()?,
            Need::Nightly => install::nightly()?,
            Need::Linker { llvm, compiler } => install::linker(*llvm, *compiler)?,
        }
    }
    bail!("set-up did not come to an end after {ROUNDS_MAX} rounds")
}

fn needs_now() -> Vec<Need> {
    needs(&found())
}

impl Need {
    fn package(&self) -> Option<&'static str> {
        match self {
            Self::Package(name) => Some(name),
            Self::Registry | Self::Nightly | Self::Linker { .. } => None,
        }
    }

    /// Whether up-to-date package lists may change the answer.
    fn asks_apt(&self) -> bool {
        match self {
            Self::Package(_) | Self::Registry | Self::Nightly => true,
            Self::Linker { .. } => false,
        }
    }
}

fn tell(need: &Need) {
    println!("  {:<42} {}", need.what(), need.why());
}

#[cfg(test)]
mod tests;
