//! One image, one credential: manifest, configuration, layers, record.

use super::error::PullError;
use super::layer::{Held, Job};
use super::manifest::{self, Blob, Document};
use super::progress::{LayerPhase, LayerProgress, PullProgress};
use super::registry::{Endpoint, Request};
use super::{Inner, Reachable, on_blocking_thread};
use crate::hosts::Host;
use crate::keyring::Credential;
use crate::limits::{INDEX_DEPTH_MAX, MANIFEST_BYTES_MAX};
use crate::load::platform_problem;
use crate::oci::Configuration;
use crate::{Digest, ImageRecord, Reference};
use futures_util::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// Times that layers are fetched again because someone removed them meanwhile.
const REMOVED_MAX: usize = 3;

pub(super) struct Attempt<'a> {
    inner: &'a Arc<Inner>,
    image: &'a Reference,
    /// Hosts in order; each keeps its token.
    endpoints: Arc<Vec<Endpoint>>,
    report: &'a watch::Sender<PullProgress>,
}

/// What the registry says about an image, all checked.
struct Found {
    /// Of the first document.
    resolved: Digest,
    /// Of the manifest, then of the indexes that led to it.
    digests: Vec<Digest>,
    config: Vec<u8>,
    id: Digest,
    layers: Vec<Blob>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        inner: &'a Arc<Inner>,
        image: &'a Reference,
        hosts: &[Reachable],
        credential: Option<Credential>,
        report: &'a watch::Sender<PullProgress>,
    ) -> Self {
        let endpoint = |(host, client): &Reachable| Endpoint {
            host: host.clone(),
            client: client.clone(),
            repository: image.repository().to_owned(),
            // Mirrors get it too when they ask, as containerd does: whoever wrote
            // hosts.toml trusts them with the registry's images.
            credential: credential.clone(),
            stall: inner.options.stall_timeout,
            authorization: std::sync::Mutex::default(),
        };
        let endpoints = Arc::new(hosts.iter().map(endpoint).collect());
        Self { inner, image, endpoints, report }
    }

    /// The image, and the digest that its reference stands for.
    pub(super) async fn run(&self) -> Result<(ImageRecord, Digest), PullError> {
        let found = self.find().await?;
        let configuration: Configuration = serde_json::from_slice(&found.config)
            .map_err(|error| unsupported(format!("its configuration {} does not parse: {error}", found.id)))?;
        if let Some(problem) = platform_problem(&configuration) {
            return Err(unsupported(problem));
        }
        let diff_ids = configuration.rootfs.diff_ids.iter().flatten().map(|text| Digest::parse(text));
        let diff_ids = diff_ids.collect::<Result<Vec<_>, _>>()?;
        if diff_ids.len() != found.layers.len() {
            let problem =
                format!("it has {} layers and its configuration names {}", found.layers.len(), diff_ids.len());
            return Err(unsupported(problem));
        }
        // Two images may be pulled, and a third removed, at the same time.
        for _ in 0..REMOVED_MAX {
            let staged = self.layers(&found.layers, &diff_ids).await?;
            let record = self.record(&found, &configuration, &diff_ids, &staged);
            if let Some(record) = self.admit(record, staged).await? {
                return Ok((record, found.resolved));
            }
        }
        Err(unsupported("its layers were removed again and again while it was pulled".to_owned()))
    }

    /// Manifest and configuration.
    async fn find(&self) -> Result<Found, PullError> {
        let (mut bytes, resolved) = self.first_document().await?;
        let mut digest = resolved;
        let mut above = Vec::new();
        for _ in 0..=INDEX_DEPTH_MAX {
            match manifest::read(&bytes, &self.inner.machine)? {
                Document::Image { config, layers } => {
                    let digests = std::iter::once(digest).chain(above.into_iter().rev()).collect();
                    let wanted = format!("configuration of {}", self.image);
                    let path = format!("blobs/{}", config.digest);
                    let request = Request { path: &path, accept: "*/*", wanted: &wanted };
                    let bytes = self.document(&request, &config).await?;
                    return Ok(Found { resolved, digests, config: bytes, id: config.digest, layers });
                }
                Document::Choose(next) => {
                    above.push(digest);
                    let wanted = format!("manifest {} of {}", next.digest, self.image.repository());
                    let path = format!("manifests/{}", next.digest);
                    let request = Request { path: &path, accept: &manifest::ACCEPT.join(", "), wanted: &wanted };
                    (bytes, digest) = (self.document(&request, &next).await?, next.digest);
                }
            }
        }
        Err(unsupported(format!("its indexes point at each other more than {INDEX_DEPTH_MAX} times")))
    }

    /// What the reference itself names. A digest decides over a tag.
    async fn first_document(&self) -> Result<(Vec<u8>, Digest), PullError> {
        let (name, wanted_digest) = match (self.image.digest(), self.image.tag()) {
            (Some(digest), _) => (digest.to_string(), Some(digest)),
            (None, tag) => (tag.unwrap_or("latest").to_owned(), None),
        };
        let wanted = format!("manifest {name} of {}", self.image.repository());
        let path = format!("manifests/{name}");
        let request = Request { path: &path, accept: &manifest::ACCEPT.join(", "), wanted: &wanted };
        let may = |host: &Host| if wanted_digest.is_some() { host.pulls } else { host.resolves };
        let mut errors = Vec::new();
        for endpoint in self.endpoints.iter().filter(|endpoint| may(&endpoint.host)) {
            match whole(endpoint, &request, wanted_digest, None).await {
                Ok(bytes) => {
                    let digest = wanted_digest.unwrap_or_else(|| Digest::of(&bytes));
                    return Ok((bytes, digest));
                }
                Err(error) => errors.push(error),
            }
        }
        Err(self.failed(errors))
    }

    /// A small blob or manifest by its digest, from the first host that has it.
    async fn document(&self, request: &Request<'_>, blob: &Blob) -> Result<Vec<u8>, PullError> {
        let mut errors = Vec::new();
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.host.pulls) {
            match whole(endpoint, request, Some(blob.digest), Some(blob.size)).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => errors.push(error),
            }
        }
        Err(self.failed(errors))
    }

    fn failed(&self, errors: Vec<PullError>) -> PullError {
        if errors.is_empty() {
            let registry = self.image.registry();
            return unsupported(format!("no host in hosts.toml of {registry} has the capabilities resolve and pull"));
        }
        PullError::of_several(errors)
    }

    async fn layers(&self, blobs: &[Blob], diff_ids: &[Digest]) -> Result<BTreeMap<Digest, Held>, PullError> {
        let waiting = |blob: &Blob| LayerProgress {
            blob: blob.digest,
            phase: LayerPhase::Waiting,
            done_bytes: 0,
            total_bytes: blob.size,
        };
        let layers = blobs.iter().map(waiting).collect();
        self.report.send_replace(PullProgress { layers });
        let fetches = blobs.iter().zip(diff_ids).enumerate().map(|(index, (blob, &diff_id))| async move {
            let job = Job {
                blob: blob.clone(),
                diff_id,
                image: self.image.to_string(),
                endpoints: Arc::clone(&self.endpoints),
            };
            let meter = |(phase, done_bytes): (LayerPhase, u64)| {
                self.report.send_modify(|progress| {
                    if let Some(layer) = progress.layers.get_mut(index) {
                        (layer.phase, layer.done_bytes) = (phase, done_bytes);
                    }
                });
            };
            Ok::<_, PullError>((diff_id, self.inner.layers.fetch(job, meter).await?))
        });
        Ok(try_join_all(fetches).await?.into_iter().collect())
    }

    fn record(
        &self,
        found: &Found,
        configuration: &Configuration,
        diff_ids: &[Digest],
        staged: &BTreeMap<Digest, Held>,
    ) -> ImageRecord {
        let unpacked = |id: &Digest| staged.get(id).map_or(0, |layer| layer.staged.unpacked_bytes);
        ImageRecord {
            id: found.id,
            names: BTreeSet::from([self.image.pinned()]),
            digest: found.digests[0],
            other_digests: found.digests[1..].iter().copied().collect(),
            repo_digests: BTreeSet::from([self.image.at(found.resolved)]),
            size: found.config.len() as u64 + found.layers.iter().map(|blob| blob.size).sum::<u64>(),
            unpacked_size: diff_ids.iter().map(unpacked).sum(),
            layers: diff_ids.to_vec(),
            created: configuration.created.as_deref().and_then(|text| text.parse().ok()),
            config: configuration.config.clone().unwrap_or_default().into(),
        }
    }

    async fn admit(
        &self,
        record: ImageRecord,
        staged: BTreeMap<Digest, Held>,
    ) -> Result<Option<ImageRecord>, PullError> {
        let store = self.inner.store.clone();
        on_blocking_thread(move || {
            let take = |diff_id| staged.get(&diff_id).and_then(|layer| layer.staged.take());
            Ok(store.admit(record, take)?)
        })
        .await
    }
}

/// A document from one host, checked.
async fn whole(
    endpoint: &Endpoint,
    request: &Request<'_>,
    digest: Option<Digest>,
    size: Option<u64>,
) -> Result<Vec<u8>, PullError> {
    let mut response = endpoint.get(request).await?;
    let bytes = endpoint.body(&mut response, MANIFEST_BYTES_MAX as usize, request.wanted).await?;
    let host = endpoint.name();
    if let Some(want) = digest
        && Digest::of(&bytes) != want
    {
        return Err(PullError::digest(&host, request.wanted.to_owned(), want, Digest::of(&bytes)));
    }
    if let Some(want) = size.filter(|&want| want != bytes.len() as u64) {
        let what = format!("size of {}", request.wanted);
        return Err(PullError::Mismatch { host, what, want: want.to_string(), got: bytes.len().to_string() });
    }
    Ok(bytes)
}

fn unsupported(problem: String) -> PullError {
    PullError::Unsupported { problem }
}
