//! `orlop pull`: how far the pull is, as it goes on, and its end. A caller that goes
//! away ends it, unless a pod waits for the same image.

use super::{failed, hung_up, invalid};
use crate::api::{ErrorKind, ErrorView, PullCredential, PullLayerView, PulledView, Response};
use crate::node::Node;
use crate::socket;
use orlop_image::{Credential, Keyring, LayerPhase, PullError, PullProgress, Pulled, Reference};
use orlop_model::ImageRef;
use orlop_wire::frame::FrameError;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// Time between two words about the progress, in milliseconds: as often as an eye can follow.
const REPORT_MS: u64 = 100;

/// Pulls the image and tells of it.
pub(super) async fn converse(
    node: &Node,
    stream: &UnixStream,
    image: &str,
    credential: Option<PullCredential>,
) -> Result<(), FrameError> {
    let (image, pull) = match start(node, image, credential).await {
        Ok(started) => started,
        Err(error) => return socket::send(stream, &Response::Error(error), &[]).await,
    };
    let mut progress = pull.progress();
    // A task of its own: a caller that reads slowly holds no other pull up.
    let mut pulling = JoinSet::new();
    pulling.spawn(pull.done());
    let response = loop {
        tokio::select! {
            Some(ended) = pulling.join_next() => break match ended {
                Ok(Ok(pulled)) => {
                    node.pods.images_changed();
                    node.show_images();
                    Response::Pulled(view(&image, pulled))
                }
                Ok(Err(error)) => Response::Error(refusal(&error)),
                Err(error) => Response::Error(failed(error.to_string())),
            },
            Ok(()) = progress.changed() => {
                let layers = layers(&progress.borrow_and_update());
                socket::send(stream, &Response::PullProgress(layers), &[]).await?;
                tokio::time::sleep(Duration::from_millis(REPORT_MS)).await;
            }
            () = hung_up(stream) => return Err(FrameError::Closed),
        }
    };
    if matches!(response, Response::Pulled(_)) {
        // The last word may have come before the last layer.
        let layers = layers(&progress.borrow());
        socket::send(stream, &Response::PullProgress(layers), &[]).await?;
    }
    socket::send(stream, &response, &[]).await
}

async fn start(
    node: &Node,
    image: &str,
    credential: Option<PullCredential>,
) -> Result<(Reference, orlop_image::Pull), ErrorView> {
    let name = Reference::parse(image).map_err(|error| invalid(error.to_string()))?;
    let asked = ImageRef::new(image).map_err(|error| invalid(error.to_string()))?;
    let mut keyring = Keyring::new();
    if let Some(PullCredential { username, password }) = credential {
        keyring.add(&name, Credential { username, password });
    }
    let pull = node.puller.start(&asked, &keyring).await.map_err(|error| refusal(&error))?;
    Ok((name, pull))
}

fn refusal(error: &PullError) -> ErrorView {
    let kind = match error {
        PullError::InvalidName { .. } => ErrorKind::Invalid,
        PullError::Registry { answer, .. } if answer.status == 404 => ErrorKind::NotFound,
        _ => ErrorKind::Failed,
    };
    ErrorView { kind, message: error.chain() }
}

fn layers(progress: &PullProgress) -> Vec<PullLayerView> {
    let layers = progress.layers.iter().map(|layer| PullLayerView {
        digest: layer.blob.to_string(),
        phase: match layer.phase {
            LayerPhase::Waiting => "waiting",
            LayerPhase::Downloading => "downloading",
            LayerPhase::Verifying => "verifying",
            LayerPhase::Unpacking => "unpacking",
            LayerPhase::Done => "done",
            LayerPhase::Exists => "exists",
        }
        .to_owned(),
        done_bytes: layer.done_bytes,
        total_bytes: layer.total_bytes,
    });
    layers.collect()
}

fn view(image: &Reference, pulled: Pulled) -> PulledView {
    PulledView {
        name: image.familiar(),
        image_id: image.at(pulled.resolved).to_string(),
        id: pulled.record.id.to_string(),
        size_bytes: pulled.record.size,
        layers: pulled.record.layers.len(),
        took_ms: u64::try_from(pulled.with_waiting.as_millis()).unwrap_or(u64::MAX),
    }
}
