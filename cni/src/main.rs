//! `orlop-cni`: the pod network as a CNI plugin.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    if env("CNI_COMMAND").is_none() {
        eprintln!(
            "orlop-cni {}: a CNI plugin, called by container runtimes. CNI versions: {}.",
            env!("CARGO_PKG_VERSION"),
            orlop_cni::plugin_versions()
        );
    }
    let mut warn = |line: String| eprintln!("orlop-cni: {line}");
    let (text, code) = match orlop_cni::run_plugin(&env, &mut std::io::stdin().lock(), &mut warn) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(text) => (text, ExitCode::FAILURE),
    };
    let line = if text.is_empty() { text } else { text + "\n" };
    match std::io::stdout().write_all(line.as_bytes()) {
        Ok(()) => code,
        // The runtime has gone and will call DEL, or will not know the result of an ADD it must undo.
        Err(_) => ExitCode::FAILURE,
    }
}
