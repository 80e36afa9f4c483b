//! Monitors that nobody is connected to: of an agent that was killed while it
//! started one, or that do not answer.

use crate::node::Node;
use nix::sys::signal::Signal;
use orlop_kernel::Pidfd;
use orlop_runtime::Monitor;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How long a killed monitor may take to go.
const REAP_WITHIN: Duration = Duration::from_secs(5);

/// Ends the monitor of a pod's folder, if there is one: by asking, else by force.
/// What it leaves is then nobody's and can be removed.
pub(crate) async fn end(node: &Node, dir: &Path) {
    if let Ok((monitor, ..)) = Monitor::connect(dir).await
        && monitor.shutdown().await.is_ok()
    {
        return;
    }
    for pid in of_folder(node, dir) {
        tracing::warn!(pid, dir = %dir.display(), "a monitor that does not answer is killed");
        let Ok(process) = Pidfd::open(pid) else { continue };
        // Looked at again: the number may have been another's by now.
        if is_for(pid, dir) && process.signal(Signal::SIGKILL).is_ok() {
            let _ = tokio::time::timeout(REAP_WITHIN, process.wait()).await;
        }
    }
}

fn of_folder(node: &Node, dir: &Path) -> Vec<i32> {
    let text = node.monitor_procs.first().and_then(|procs| fs::read_to_string(procs).ok()).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| is_for(*pid, dir)).collect()
}

/// Whether a process of the monitors' cgroup was started as `orlop-monitor DIR`.
fn is_for(pid: i32, dir: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(dir.as_os_str().as_bytes())
}
