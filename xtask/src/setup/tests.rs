use super::look::{linked_llvm, parse_candidate, parse_compiler, parse_packages};
use super::*;

const NEW: Compiler = Compiler { minor: 96, llvm: 22 };

fn base() -> Found {
    Found {
        registry: true,
        packages: PACKAGES.iter().map(|(name, _)| (*name).to_owned()).collect(),
        ..Found::default()
    }
}

fn check(name: &str, found: &Found, wanted: &[&str]) {
    let got: Vec<String> = needs(found).iter().map(Need::what).collect();
    assert_eq!(got, wanted, "{name}");
}

#[test]
fn what_is_missing_follows_from_what_is_there() {
    let linker = |llvm| Some((LINKER_VERSION.to_owned(), llvm));
    check("Debian with everything", &Found { debian: Some(NEW), linker: linker(22), ..base() }, &[]);
    check(
        "Debian, fresh",
        &Found { offered_rustc_minor: Some(96), ..Found::default() },
        &[
            "package gcc",
            "package libc6-dev",
            "package pkg-config",
            "package libseccomp-dev",
            "package iproute2",
            "package busybox-static",
            "package iptables",
            "package nftables",
            "docker-registry, unpacked below target/",
            "package rustc-web",
            "package libstd-rust-web-dev-bpf",
        ],
    );
    check(
        "Debian's compiler without linker",
        &Found { debian: Some(NEW), ..base() },
        &["bpf-linker 0.13.0 for LLVM 22"],
    );
    check(
        "a linker older than the compiler",
        &Found { debian: Some(NEW), linker: linker(21), ..base() },
        &["bpf-linker 0.13.0 for LLVM 22"],
    );
    check(
        "a linker newer than the compiler reads older bitcode",
        &Found { debian: Some(NEW), linker: linker(23), ..base() },
        &[],
    );
    check("Ubuntu: apt offers no rustc-web", &base(), &["rustup toolchain nightly with rust-src"]);
    check(
        "rustc-web too old for the workspace",
        &Found { offered_rustc_minor: Some(85), ..base() },
        &["rustup toolchain nightly with rust-src"],
    );
    check(
        "nightly without sources is not enough",
        &Found { nightly: Some(NEW), ..base() },
        &["rustup toolchain nightly with rust-src"],
    );
    check(
        "nightly with sources stands in for Debian's compiler",
        &Found { nightly: Some(NEW), nightly_source: true, offered_rustc_minor: Some(96), ..base() },
        &["bpf-linker 0.13.0 for LLVM 22"],
    );
    check("an object from elsewhere needs no compiler", &Found { prebuilt: true, ..base() }, &[]);
}

#[test]
fn answers_of_the_tools_are_read() {
    let text = "rustc 1.97.0-nightly (4d1f98451 2026-05-15)\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
    assert_eq!(parse_compiler(text), Some(Compiler { minor: 97, llvm: 22 }));
    assert_eq!(parse_compiler("rustc 1.97.0"), None);
    assert_eq!(parse_candidate("rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n"), Some(96));
    assert_eq!(parse_candidate("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"), None);
    let installed = parse_packages("installed gcc\nnot-installed busybox-static\nconfig-files pkg-config\n");
    assert_eq!(installed.into_iter().collect::<Vec<_>>(), ["gcc"]);
    assert_eq!(linked_llvm(b"\0libc.so.6\0libLLVM.so.22.1-rust-1.97.0-nightly\0"), 22);
    assert_eq!(linked_llvm(b"\0libc.so.6\0"), u32::MAX);
}
