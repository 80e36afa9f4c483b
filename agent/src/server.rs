//! The command line's socket: one request a connection.

mod exec;
mod pull;

use crate::api::{ErrorKind, ErrorView, LogView, PodName, Request, Response};
use crate::node::Node;
use crate::pod::{PodSnapshot, pod_detail, pod_view, refused_detail, refused_view};
use crate::socket;
use anyhow::{Context, Result};
use orlop_model::ContainerName;
use orlop_wire::frame::FrameError;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};

/// Binds the socket, 0600: whoever may talk to it is root on the node.
///
/// # Errors
/// Names the socket; another agent that answers on it is an error.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener> {
    let dir = path.parent().context("the socket's folder")?;
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            anyhow::bail!("another agent answers on {}: stop it or give this one its own --run-dir", path.display());
        }
        fs::remove_file(path).with_context(|| format!("remove the old socket {}", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("restrict the socket")?;
    Ok(listener)
}

/// Serves for ever.
pub(crate) async fn serve(node: Arc<Node>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = Arc::clone(&node);
                tokio::spawn(async move {
                    match converse(&node, &stream).await {
                        Ok(()) | Err(FrameError::Closed) => {}
                        Err(error) => tracing::debug!(err = %crate::pod::chain(&error), "a command's connection ended"),
                    }
                });
            }
            Err(error) => {
                // EMFILE and the like pass; spinning on them would not help.
                tracing::warn!(%error, "a command could not connect");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(node: &Arc<Node>, stream: &UnixStream) -> Result<(), FrameError> {
    let (request, fds): (Request, _) = socket::receive(stream).await?;
    if let Request::Exec { pod, container, command, tty } = request {
        return exec::converse(node, stream, exec::Asked { pod, container, command, tty }, fds).await;
    }
    if let Request::Pull { image, credential } = request {
        return pull::converse(node, stream, &image, credential).await;
    }
    let response = answer(node, request).await.unwrap_or_else(Response::Error);
    let sent = socket::send(stream, &response, &[]).await;
    if matches!(response, Response::Services(_) | Response::Counters(_)) {
        drop(response);
        // Ten thousand Services in words are half the agent's memory.
        let _ = tokio::task::spawn_blocking(orlop_kernel::trim_heap).await;
    }
    sent
}

async fn answer(node: &Arc<Node>, request: Request) -> Result<Response, ErrorView> {
    Ok(match request {
        Request::Node => Response::Node(node.view()),
        Request::Pods => {
            let pods = node.pods.snapshots();
            let mut rows: Vec<_> = pods.iter().map(|pod| pod_view(pod)).collect();
            let runs = |key: &str| pods.iter().any(|pod| pod.want.key.to_string() == key);
            rows.extend(node.pods.refused().iter().filter(|refused| !runs(&refused.key)).map(refused_view));
            rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            Response::Pods(rows)
        }
        Request::Pod { pod } => {
            let snapshot = match find(node, &pod) {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    let key = format!("{}/{}", pod.namespace, pod.name);
                    let refused = node.pods.refused().into_iter().find(|refused| refused.key == key).ok_or(error)?;
                    let events = node.events.of(&format!("Pod {key}"));
                    return Ok(Response::Pod(Box::new(refused_detail(&refused, events))));
                }
            };
            let cgroup = node.cgroup_of(&snapshot.want);
            let key = snapshot.want.key.to_string();
            let mut host_ports = node.services.host_ports();
            host_ports.retain(|port| port.pod == key);
            let mut detail = pod_detail(
                &snapshot,
                node.services.of_pod(&snapshot.want.key),
                cgroup,
                node.pod_events(&snapshot.want),
            );
            detail.host_ports = host_ports;
            Response::Pod(Box::new(detail))
        }
        Request::Log { pod, container } => Response::Log(log(node, &pod, container.as_deref())?),
        Request::Images => Response::Images(node.image_views()),
        Request::Load { path, name } => {
            let loader = Arc::clone(node);
            let loaded = tokio::task::spawn_blocking(move || loader.load_images(&path, name.as_deref())).await;
            let loaded =
                loaded.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(format!("{error:#}")))?;
            node.pods.images_changed();
            Response::Images(loaded)
        }
        Request::Services => Response::Services(node.services.views()),
        Request::Tables => {
            let datapath = Arc::clone(&node.datapath);
            let views = tokio::task::spawn_blocking(move || crate::upkeep::table_views(&datapath)).await;
            let views = views.map_err(|error| failed(error.to_string()))?;
            Response::Tables(views.map_err(|error| failed(crate::pod::chain(&error)))?)
        }
        Request::HostPorts => Response::HostPorts(node.services.host_ports()),
        Request::Counters { pod } => {
            let only = pod.map(|pod| find(node, &pod)).transpose()?;
            Response::Counters(node.counters(only.as_deref()).await.map_err(|error| failed(format!("{error:#}")))?)
        }
        Request::Exec { .. } | Request::Pull { .. } => {
            return Err(invalid("exec and pull have conversations of their own".to_owned()));
        }
    })
}

/// The caller has nothing to say after its request, so what arrives is its end.
async fn hung_up(stream: &UnixStream) {
    let mut byte = [0];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut byte) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn failed(message: String) -> ErrorView {
    ErrorView { kind: ErrorKind::Failed, message }
}

fn invalid(message: String) -> ErrorView {
    ErrorView { kind: ErrorKind::Invalid, message }
}

fn find(node: &Node, pod: &PodName) -> Result<Arc<PodSnapshot>, ErrorView> {
    let found = node.pods.find(&pod.namespace, &pod.name);
    found.ok_or_else(|| {
        let elsewhere = node.pods.snapshots().into_iter().find(|p| p.want.key.name() == pod.name);
        let hint =
            elsewhere.map(|p| format!("; there is one in namespace {}", p.want.key.namespace())).unwrap_or_default();
        let message = format!("pod {}/{} not found on node {}{hint}", pod.namespace, pod.name, node.config.node_name);
        ErrorView { kind: ErrorKind::NotFound, message }
    })
}

/// The container that is meant: the named one, or the only one (`first` takes the
/// first of several).
fn container(pod: &PodSnapshot, name: Option<&str>, first: bool) -> Result<ContainerName, ErrorView> {
    let names: Vec<&ContainerName> = pod.want.containers.iter().map(|c| &c.name).collect();
    let listed = names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    let mains: Vec<&ContainerName> = pod.want.main_containers().map(|c| &c.name).collect();
    match (name, mains.as_slice()) {
        (Some(name), _) => names.iter().find(|n| n.as_str() == name).map(|n| (*n).clone()).ok_or_else(|| ErrorView {
            kind: ErrorKind::NotFound,
            message: format!("pod {} has no container {name}: it has {listed}", pod.want.key),
        }),
        (None, [only]) => Ok((*only).clone()),
        (None, [one, ..]) if first => Ok((*one).clone()),
        (None, _) => Err(invalid(format!("pod {} has several containers, choose one with -c: {listed}", pod.want.key))),
    }
}

fn log(node: &Node, pod: &PodName, name: Option<&str>) -> Result<LogView, ErrorView> {
    let pod = find(node, pod)?;
    let name = container(&pod, name, false)?;
    let seen = pod.seen.containers.get(&name);
    let view = pod_view(&pod).containers.into_iter().find(|c| c.name == name.as_str());
    let (state, why) = view.map_or((String::new(), None), |view| (view.state, view.reason));
    let attempt = seen.and_then(|c| c.attempt).ok_or_else(|| {
        let why = why.unwrap_or_else(|| "ContainerCreating".to_owned());
        failed(format!("container {name} of pod {} has not run yet: {why}", pod.want.key))
    })?;
    // One that will run again is shown as waiting, never as terminated.
    let live = state != "terminated" && pod.want.deletion.is_none();
    Ok(LogView { dir: node.log_dir(&pod.want).join(name.as_str()), attempt, live })
}
