//! Runs `tests/scripts/lb/*.txt`: commands, and after them what the plan, the maps
//! or the services are to be. `ORLOP_BLESS=1` writes what they are.
//!
//! ```text
//! service NAME IP[,IP]|- [NAME:]PORT[->TARGET][/udp][@NODEPORT]... [headless] [publish-not-ready] [select=APP]
//! pod NAME IP[,IP] [ready|not-ready|terminating|gone] [APP] [NAME=PORT]...
//! remove service NAME
//! remove pod NAME
//! host-ports POD [IP=]PORT->TARGET[/udp|/sctp]...   of a pod known by `pod`; `IP` may be `0.0.0.0`, `::`
//! remove host-ports POD
//! cidrs CIDR[,CIDR]    the service network, for Services with `-` as their address
//! settings [maglev=SIZE] [dsr]   the agent starts again with these
//! zone NAME|-          what this node's label says
//! api service NAME …   as the API server has it; the words are in `listed.rs`
//! api slice NAME SERVICE …
//! api remove service NAME
//! api remove slice NAME
//! plan:        operations since the last `plan:`
//! maps:        the maps
//! services:    as `orlop services` sees them
//! conflicts:   frontends that two want
//! health:      health check ports, and local endpoints by family
//! host-ports:  as the command line sees them
//! dead-udp:    UDP backends that died since the last `dead-udp:`
//! spread:      places of Maglev tables by backend, and how many moved since the last `spread:`
//! ```

mod node;
mod words;

use crate::whole::leads;
use node::Node;
pub use node::audit;
use orlop_lb::describe_tables;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/scripts/lb");
    let entries = std::fs::read_dir(&dir).expect("the folder of scripts");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() >= 51, "scripts are missing from {}", dir.display());
    paths
}

fn commands(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.starts_with([' ', '#']) && !line.trim().is_empty());
    code.filter(|line| !line.ends_with(':'))
}

#[test]
fn goldens() {
    let bless = std::env::var_os("ORLOP_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in scripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut node = Node::new(None);
        let mut seen = String::new();
        for line in text.lines().filter(|line| !line.starts_with(' ')) {
            seen.push_str(line);
            seen.push('\n');
            if line.ends_with(':') && !line.starts_with('#') {
                node.show(line).iter().for_each(|line| seen.push_str(&format!("  {line}\n")));
            } else if !line.starts_with('#') && !line.trim().is_empty() {
                node.run(line);
            }
        }
        if bless && seen != text {
            std::fs::write(&path, &seen).unwrap();
        } else if seen != text {
            wrong.push(format!("--- {}: now\n{seen}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nORLOP_BLESS=1 accepts this", wrong.join("\n"));
}

/// The same after every command, whatever fails on the way, however often the agent
/// starts, and when everything is said twice.
#[test]
fn faults_repeats_and_restarts() {
    let mut failed = 0;
    for path in scripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        for seed in 1..=20 {
            let mut calm = Node::new(None);
            let mut node = Node::new(Some(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
            for command in commands(&text) {
                calm.run(command);
                node.run(command);
                assert_eq!(leads(&node.maps), leads(&calm.maps), "{} {command}", path.display());
                node.repeat();
                node.restart();
                assert!(describe_tables(&node.maps).iter().all(|view| view.backends.iter().all(Option::is_some)));
            }
            failed += node.failed;
        }
    }
    assert!(failed > 100, "only {failed} faults were seeded");
}
