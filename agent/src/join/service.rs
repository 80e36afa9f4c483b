//! The service that runs the agent.

use crate::cli::JoinArgs;
use anyhow::{Context, Result, bail, ensure};
use orlop_pki::JoinFiles;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The unit as packages install it.
const UNIT: &str = include_str!("../../systemd/orlop.service");
/// The program's path in it.
const UNIT_PROGRAM: &str = "/usr/bin/orlop ";
/// Where it goes when there is none.
const UNIT_PATH: &str = "/etc/systemd/system/orlop.service";
/// Where one may be.
const UNIT_PATHS: [&str; 3] = [UNIT_PATH, "/usr/lib/systemd/system/orlop.service", "/lib/systemd/system/orlop.service"];
/// Says that systemd runs this machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// Replaces the agent's flags in the unit.
const DEFAULTS: &str = "/etc/default/orlop";

/// Restarts by systemd after which the agent will not come up by itself.
const RESTARTS_MAX: u32 = 3;

/// What the agent ended with, when systemd has started it again and again.
pub(super) fn failing() -> Option<String> {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    if !Path::new(BOOTED).is_dir() {
        return None;
    }
    let restarts: u32 =
        said("systemctl", &["show", "orlop", "--property=NRestarts", "--value"])?.trim().parse().ok()?;
    if restarts < RESTARTS_MAX {
        return None;
    }
    let log = said("journalctl", &["--unit=orlop", "--lines=50", "--output=cat", "--no-pager"]).unwrap_or_default();
    let error = log.lines().rev().find(|line| line.starts_with("error: "));
    Some(error.unwrap_or("see `journalctl -u orlop`").to_owned())
}

/// How the agent comes to run.
pub(super) enum Start {
    /// By systemd; with the unit that is to be written first, if none is there.
    Systemd { unit: Option<String> },
    /// By whoever reads this command.
    ByHand { command: String, why: &'static str },
}

impl Start {
    pub fn choose(args: &JoinArgs, files: &JoinFiles) -> Result<Self> {
        let program = std::env::current_exe().context("find this executable, to write its path into the unit")?;
        let usual = args.has_usual_folders();
        let by_hand = |why| Self::ByHand { command: command(&program, args, files, usual), why };
        Ok(if args.no_start {
            by_hand("--no-start was given")
        } else if !usual {
            by_hand("the service knows only the usual folders")
        } else if !Path::new(BOOTED).is_dir() {
            by_hand("systemd does not run this machine")
        } else {
            let there = UNIT_PATHS.iter().any(|path| Path::new(path).exists());
            Self::Systemd { unit: (!there).then(|| unit(&program)) }
        })
    }

    /// What is going to be done, or is left to do.
    pub fn in_words(&self) -> String {
        match self {
            Self::Systemd { unit } => {
                let write = if unit.is_some() { format!("write {UNIT_PATH}, then ") } else { String::new() };
                format!("would {write}run: systemctl daemon-reload; systemctl enable orlop; systemctl restart orlop")
            }
            Self::ByHand { command, why } => {
                format!(
                    "the agent was not started ({why}). It asks for the node's certificate when you run:\n  {command}"
                )
            }
        }
    }

    /// Starts it; `false`: somebody else has to.
    pub fn carry_out(&self) -> Result<bool> {
        let Self::Systemd { unit } = self else { return Ok(false) };
        if let Some(unit) = unit {
            std::fs::write(UNIT_PATH, unit).with_context(|| format!("write {UNIT_PATH}"))?;
            println!("written: {UNIT_PATH}");
        }
        if std::fs::read_to_string(DEFAULTS).is_ok_and(|text| text.contains("ORLOP_ARGS=")) {
            println!("note: ORLOP_ARGS in {DEFAULTS} decides which cluster the agent joins; without it, this one");
        }
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "orlop"])?;
        // It may run already, as a node without a cluster.
        systemctl(&["restart", "orlop"])?;
        println!("the service orlop runs");
        Ok(true)
    }
}

fn command(program: &Path, args: &JoinArgs, files: &JoinFiles, usual: bool) -> String {
    if usual {
        return format!("{} agent", program.display());
    }
    let JoinFiles { bootstrap_kubeconfig, kubeconfig, configuration, .. } = files;
    let mut words: Vec<String> = [
        ("bootstrap-kubeconfig", bootstrap_kubeconfig),
        ("kubeconfig", kubeconfig),
        ("config", configuration),
        ("root-dir", &args.root_dir),
    ]
    .iter()
    .map(|(flag, path): &(&str, &PathBuf)| format!("--{flag} {}", path.display()))
    .collect();
    words.extend(args.node_name.iter().map(|name| format!("--node-name {name}")));
    words.extend(args.flags.node_ip.iter().map(|ip| format!("--node-ip {ip}")));
    words.extend(args.flags.node_labels.iter().map(|labels| format!("--node-labels {labels}")));
    words.extend(args.flags.register_with_taints.iter().map(|taints| format!("--register-with-taints {taints}")));
    format!("{} agent {}", program.display(), words.join(" "))
}

/// The unit with this program's path.
fn unit(program: &Path) -> String {
    UNIT.replace(UNIT_PROGRAM, &format!("{} ", program.display()))
}

fn systemctl(args: &[&str]) -> Result<()> {
    let output = Command::new("systemctl").args(args).output().context("run systemctl")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("systemctl {} failed: {}; see `journalctl -u orlop`", args.join(" "), said.trim());
    }
    ensure!(output.status.success(), "systemctl {}", args.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_this_program() {
        let unit = unit(Path::new("/opt/orlop/bin/orlop"));
        assert!(unit.contains("\nExecStart=/opt/orlop/bin/orlop agent $ORLOP_ARGS\n"), "{unit}");
        assert!(!unit.contains(UNIT_PROGRAM));
    }
}
