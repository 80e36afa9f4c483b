//! `orlop exec`: the caller's streams go to the process itself; the agent only
//! waits for its end, or for the caller's.

use super::{container, failed, find, hung_up, invalid};
use crate::api::{ErrorView, PodName, Response};
use crate::node::Node;
use crate::socket;
use nix::sys::signal::Signal;
use orlop_kernel::Pidfd;
use orlop_pod::Lifecycle;
use orlop_runtime::ExecHandle;
use orlop_wire::frame::FrameError;
use orlop_wire::{Exec, ExecUser};
use std::os::fd::{AsFd, OwnedFd};
use tokio::net::UnixStream;

/// What to run and where.
pub(super) struct Asked {
    /// Pod.
    pub pod: PodName,
    /// Container; `None` is the first.
    pub container: Option<String>,
    /// Argument vector.
    pub command: Vec<String>,
    /// With a terminal.
    pub tty: bool,
}

/// Runs the process and sends its end. A caller that goes away first takes the
/// process with it: nobody would read what it says.
pub(super) async fn converse(
    node: &Node,
    stream: &UnixStream,
    asked: Asked,
    fds: Vec<OwnedFd>,
) -> Result<(), FrameError> {
    let ExecHandle { pid, master, exit } = match start(node, asked, fds).await {
        Ok(handle) => handle,
        Err(error) => return socket::send(stream, &Response::Error(error), &[]).await,
    };
    let process = i32::try_from(pid).ok().and_then(|pid| Pidfd::open(pid).ok());
    let terminal: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    socket::send(stream, &Response::ExecStarted, &terminal).await?;
    // The caller's copy is the only one from here on: when it goes, the terminal hangs up.
    drop(master);
    let response = tokio::select! {
        exit = exit => match exit {
            Ok(exit) => Response::ExecExited { code: exit.code },
            Err(_) => Response::Error(failed("the pod's monitor is gone, the exit code with it".to_owned())),
        },
        () = hung_up(stream) => {
            if let Some(process) = process {
                // It may have ended just now, which is as good.
                let _ = process.signal(Signal::SIGKILL);
            }
            return Err(FrameError::Closed);
        }
    };
    socket::send(stream, &response, &[]).await
}

async fn start(node: &Node, asked: Asked, fds: Vec<OwnedFd>) -> Result<ExecHandle, ErrorView> {
    let pod = find(node, &asked.pod)?;
    let name = container(&pod, asked.container.as_deref(), true)?;
    if asked.command.is_empty() {
        return Err(invalid("no command given: orlop exec POD -- COMMAND".to_owned()));
    }
    let id = match pod.seen.containers.get(&name).map(|c| &c.life) {
        Some(Lifecycle::Running { id, .. }) => id.clone(),
        _ => return Err(failed(format!("container {name} of pod {} is not running", pod.want.key))),
    };
    let monitor = pod.monitor.as_ref().ok_or_else(|| failed(format!("pod {} has no sandbox", pod.want.key)))?;
    let streams = match (asked.tty, <[OwnedFd; 3]>::try_from(fds)) {
        (true, _) => None,
        (false, Ok(fds)) => Some(fds),
        (false, Err(_)) => return Err(invalid("exec without a terminal needs stdin, stdout and stderr".to_owned())),
    };
    let exec = Exec {
        id,
        exec_id: 0,
        args: asked.command,
        env: if asked.tty { vec!["TERM=xterm".to_owned()] } else { Vec::new() },
        cwd: None,
        tty: asked.tty,
        user: ExecUser::default(),
        timeout_ms: None,
    };
    monitor.exec(exec, streams).await.map_err(|error| failed(crate::pod::chain(&error)))
}
