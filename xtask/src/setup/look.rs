//! What this machine has, asked without changing anything; well under half a second.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::{Compiler, DEBIAN_RUSTC, Found, LINKER_VERSION, PACKAGES, REGISTRY};
use crate::command::{ask, on_path, target_dir};
use crate::ebpf::OBJECT;

/// Where Debian's rustc keeps the precompiled core for eBPF.
const DEBIAN_BPF_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

const LINKER: &str = "bpf-linker";

/// Looks at packages, compilers and the linker.
pub fn found() -> Found {
    let prebuilt = env::var_os("ORLOP_EBPF_DIR").is_some_and(|dir| Path::new(&dir).join(OBJECT).is_file());
    let debian = Path::new(DEBIAN_BPF_CORE).is_dir().then(|| compiler(Command::new("/usr/bin/rustc"))).flatten();
    let nightly_source = debian.is_none() && nightly_sysroot().is_some_and(|root| has_source(&root));
    let nightly = nightly_source.then(|| compiler(nightly_rustc())).flatten();
    Found {
        prebuilt,
        registry: registry_dir().join("usr/bin").join(REGISTRY).is_file() || on_path(REGISTRY).is_some(),
        packages: packages(),
        offered_rustc_minor: (debian.is_none() && nightly.is_none()).then(offered_rustc_minor).flatten(),
        debian,
        nightly,
        nightly_source,
        linker: linker(),
    }
}

/// Where docker-registry's package is unpacked; orlop-image's tests look there, too.
pub fn registry_dir() -> PathBuf {
    target_dir().join("xtask").join(REGISTRY)
}

/// The folder of rustup's nightly.
pub fn nightly_sysroot() -> Option<PathBuf> {
    let rustc = ask(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]))?;
    Path::new(rustc.trim()).parent()?.parent().map(Path::to_path_buf)
}

/// The shared LLVM of this major version in the folder.
pub fn llvm_library(folder: &Path, major: u32) -> Option<PathBuf> {
    let prefix = format!("libLLVM.so.{major}");
    let mut hits: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect();
    hits.sort();
    hits.into_iter().next()
}

fn nightly_rustc() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "rustc"]);
    command
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

fn compiler(mut rustc: Command) -> Option<Compiler> {
    parse_compiler(&ask(rustc.arg("-vV"))?)
}

/// Reads `release:` and `LLVM version:` of `rustc -vV`.
pub fn parse_compiler(text: &str) -> Option<Compiler> {
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    Some(Compiler {
        minor: field("release:")?.split('.').nth(1)?.parse().ok()?,
        llvm: field("LLVM version:")?.split('.').next()?.parse().ok()?,
    })
}

fn packages() -> BTreeSet<String> {
    let names = PACKAGES.iter().chain(&DEBIAN_RUSTC).map(|(name, _)| *name);
    // Exits 1 when one of the names is unknown and still prints the others.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package}\n"])
        .args(names)
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    parse_packages(&String::from_utf8_lossy(&output))
}

/// Names of the packages whose line says `installed`.
pub fn parse_packages(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect()
}

fn offered_rustc_minor() -> Option<u32> {
    parse_candidate(&ask(Command::new("apt-cache").args(["policy", "rustc-web"]))?)
}

/// Minor version of the `Candidate:` line, such as 96 for `1.96.0+dfsg1-1~deb12u2`.
pub fn parse_candidate(text: &str) -> Option<u32> {
    let version = text.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?;
    version.trim().split('.').nth(1)?.parse().ok()
}

/// The linker counts only if it is the version we know and it runs: after an upgrade of the
/// toolchain whose LLVM it was linked with, it no longer does.
fn linker() -> Option<(String, u32)> {
    let program = on_path(LINKER).or_else(in_cargo_bin)?;
    let version = ask(Command::new(&program).arg("--version"))?;
    let version = version.trim().strip_prefix("bpf-linker ")?.to_owned();
    if version != LINKER_VERSION {
        return None;
    }
    Some((version, linked_llvm(&fs::read(program).ok()?)))
}

/// Where `cargo install` puts it; the build script looks there, too.
fn in_cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))?;
    Some(home.join("bin").join(LINKER)).filter(|file| file.is_file())
}

/// The LLVM major whose shared library the program names. One that names none carries its
/// LLVM inside, as the published static builds do: the newest of its time.
pub fn linked_llvm(program: &[u8]) -> u32 {
    const NAME: &[u8] = b"libLLVM.so.";
    let Some(at) = program.windows(NAME.len()).position(|window| window == NAME) else { return u32::MAX };
    let digits = program[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |major, digit| major * 10 + u32::from(digit - b'0'))
}
