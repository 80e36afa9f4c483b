//! Builds the eBPF programs (workspace member `orlop-ebpf`) and leaves the object
//! in `OUT_DIR` for `include_bytes_aligned!`, and beside it the object of the
//! test programs, which nothing but `tests/pieces.rs` reads.
//!
//! In this order: an object folder in `ORLOP_EBPF_DIR`; Debian's
//! `/usr/bin/rustc`, when it has `core` for `bpfel-unknown-none`; a rustup
//! nightly with `rust-src`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "orlop-ebpf";
const TEST_OBJECT: &str = "orlop-ebpf-pieces";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Between the flags of `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\x1f";

enum Toolchain {
    Debian,
    Nightly,
}

fn main() {
    let workspace = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(3)
        .expect("the crate is three folders below the workspace")
        .to_path_buf();
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    for path in ["ebpf/src", "ebpf/Cargo.toml", "ebpf/abi/src", "ebpf/abi/Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    // A path that is not there would count as changed each time.
    if Path::new(DEBIAN_RUSTC).exists() {
        println!("cargo:rerun-if-changed={DEBIAN_RUSTC}");
    }
    println!("cargo:rerun-if-env-changed=ORLOP_EBPF_DIR");

    let object = match env::var_os("ORLOP_EBPF_DIR") {
        Some(dir) => {
            let object = PathBuf::from(dir).join(OBJECT);
            println!("cargo:rerun-if-changed={}", object.display());
            object
        }
        None => build(&workspace, &out),
    };
    if let Err(err) = fs::copy(&object, out.join("orlop-ebpf.o")) {
        panic!("copy the eBPF object {}: {err}", object.display());
    }
    // A folder of objects made elsewhere has none: its tests say so.
    let test_programs = fs::read(object.with_file_name(TEST_OBJECT)).unwrap_or_default();
    if let Err(err) = fs::write(out.join("orlop-ebpf-pieces.o"), test_programs) {
        panic!("write the object of the test programs: {err}");
    }
}

fn build(workspace: &Path, out: &Path) -> PathBuf {
    let Some(toolchain) = toolchain() else {
        panic!(
            "no Rust compiler here can build for {TARGET}: neither {DEBIAN_RUSTC} with its precompiled core \
             nor a rustup nightly with rust-src; `cargo xtask setup` installs one"
        );
    };
    let target_dir = out.join("ebpf");
    let mut cargo = match toolchain {
        Toolchain::Debian => {
            // rustup's cargo drives Debian's compiler. RUSTC_BOOTSTRAP, because
            // a stable compiler refuses what aya-ebpf needs.
            let mut cargo = clean_command(&env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
            cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").arg("build");
            cargo
        }
        Toolchain::Nightly => {
            let mut cargo = clean_command("rustup");
            cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            cargo
        }
    };
    cargo
        .args(["--package", "orlop-ebpf", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .current_dir(workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", flags().join(FLAG_SEPARATOR))
        // BPF has no unwinding and wants every loop in sight; the host's profile
        // (thin LTO, stripping) would lose the BTF that the maps are described by.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("PATH", path_with_cargo_bin());
    match cargo.status() {
        Ok(status) if status.success() => target_dir.join(TARGET).join("release").join(OBJECT),
        Ok(status) => {
            panic!("building the eBPF programs failed ({status}); is bpf-linker installed? see `cargo xtask setup`")
        }
        Err(err) => panic!("start {cargo:?}: {err}"),
    }
}

fn flags() -> Vec<String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| "x86_64".into());
    vec![format!("--cfg=bpf_target_arch=\"{arch}\""), "-Cdebuginfo=2".into(), "-Clink-arg=--btf".into()]
}

/// A command without what the outer build set for its own compiler: flags,
/// wrappers (clippy is one), the toolchain and the target directory.
fn clean_command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let ours = text.starts_with("CARGO_")
            && !matches!(text, "CARGO_HOME" | "CARGO_NET_OFFLINE" | "CARGO_TERM_COLOR")
            && !text.starts_with("CARGO_HTTP_")
            && !text.starts_with("CARGO_REGISTR")
            && !text.starts_with("CARGO_SOURCE_");
        if ours || text.starts_with("RUSTC") || text.starts_with("CLIPPY_") || text == "RUSTFLAGS" {
            command.env_remove(&name);
        }
    }
    for name in ["RUSTUP_TOOLCHAIN", "TARGET", "HOST", "OUT_DIR", "MAKEFLAGS", "CARGO_MAKEFLAGS", "RUSTDOC"] {
        command.env_remove(name);
    }
    command
}

fn path_with_cargo_bin() -> std::ffi::OsString {
    let mut folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    folders.extend(cargo_home.map(|home| home.join("bin")));
    env::join_paths(folders).expect("PATH came from the environment")
}

fn toolchain() -> Option<Toolchain> {
    if has_core(Command::new(DEBIAN_RUSTC).args(["--print", "target-libdir", "--target", TARGET])) {
        return Some(Toolchain::Debian);
    }
    let sysroot = text(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))?;
    Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists().then_some(Toolchain::Nightly)
}

fn has_core(print_libdir: &mut Command) -> bool {
    text(print_libdir)
        .and_then(|dir| fs::read_dir(dir).ok())
        .is_some_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-")))
}

fn text(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
