//! What pods' volumes and variables are made of.

use super::Node;
use crate::cluster::{Cluster, Held};
use crate::manifest::ManifestSet;
use crate::pod::{Origin, StepError};
use jiff::Timestamp;
use orlop_model::{EventKind, PodDesired, ServiceKey, TokenAsk};
use orlop_pod::env::{ServiceLink, ServiceLinkPort};
use orlop_volume::{ObjectData, Roots, Sources};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a container waits to hear of Services before it says so.
const SERVICES_WITHIN: Duration = Duration::from_secs(10);

/// ConfigMaps, Secrets and tokens of one pod, as they are now.
#[derive(Clone)]
pub(crate) enum PodObjects {
    /// Of the manifests.
    Manifests(Arc<ManifestSet>),
    /// Of the API server.
    Api(Arc<ApiObjects>),
}

/// What the API server gave for a pod.
#[derive(Default)]
pub(crate) struct ApiObjects {
    held: Held,
    /// Secrets' data without the wrapper.
    secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    tokens: BTreeMap<TokenAsk, Result<String, String>>,
}

impl ApiObjects {
    async fn gather(cluster: &Cluster, pod: &PodDesired) -> Result<Self, StepError> {
        let needs = orlop_pod::needs(pod);
        let held = cluster.objects.hold(pod, &needs).await.map_err(|error| StepError::new("FailedMount", &error))?;
        let mut tokens = BTreeMap::new();
        for ask in needs.tokens {
            let token = cluster.tokens.get(pod, &ask, Timestamp::now()).await;
            tokens.insert(ask, token);
        }
        let data = |secret: &k8s_openapi::api::core::v1::Secret| {
            secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone())).collect()
        };
        let secrets = held.secrets.iter().map(|(name, secret)| (name.clone(), data(secret))).collect();
        Ok(Self { held, secrets, tokens })
    }
}

/// A Secret for pulling images.
pub(crate) struct PullSecret<'a> {
    /// Name.
    pub name: &'a str,
    /// `kubernetes.io/dockerconfigjson` and the like.
    pub kind: &'a str,
    /// Data, decoded.
    pub data: &'a BTreeMap<String, Vec<u8>>,
}

impl PodObjects {
    /// The pod's `imagePullSecrets` as far as they are there.
    pub fn pull_secrets<'a>(&'a self, pod: &'a PodDesired) -> Vec<PullSecret<'a>> {
        let secret = |name: &'a String| {
            let data = orlop_pod::Objects::secret(self, pod.key.namespace(), name)?;
            let kind = match self {
                Self::Api(api) => api.held.secrets.get(name)?.type_.as_deref().unwrap_or_default(),
                // Manifests are kept without the type; the key says as much.
                Self::Manifests(_) if data.contains_key(".dockercfg") => "kubernetes.io/dockercfg",
                Self::Manifests(_) => "kubernetes.io/dockerconfigjson",
            };
            Some(PullSecret { name, kind, data })
        };
        pod.pull_secrets.iter().filter_map(secret).collect()
    }
}

impl orlop_pod::Objects for PodObjects {
    fn config_map(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, String>> {
        static EMPTY: BTreeMap<String, String> = BTreeMap::new();
        match self {
            Self::Manifests(set) => orlop_pod::Objects::config_map(&**set, namespace, name),
            Self::Api(api) => api.held.config_maps.get(name).map(|map| map.data.as_ref().unwrap_or(&EMPTY)),
        }
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        match self {
            Self::Manifests(set) => orlop_pod::Objects::secret(&**set, namespace, name),
            Self::Api(api) => api.secrets.get(name),
        }
    }
}

impl orlop_volume::Objects for PodObjects {
    fn config_map(&self, namespace: &str, name: &str) -> Option<ObjectData> {
        match self {
            Self::Manifests(set) => orlop_volume::Objects::config_map(&**set, namespace, name),
            Self::Api(api) => api.held.config_maps.get(name).map(|map| crate::manifest::files_of(map)),
        }
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<ObjectData> {
        match self {
            Self::Manifests(set) => orlop_volume::Objects::secret(&**set, namespace, name),
            Self::Api(api) => api.secrets.get(name).cloned(),
        }
    }

    fn token(&self, pod: &PodDesired, ask: &TokenAsk) -> Result<String, String> {
        match self {
            Self::Manifests(set) => orlop_volume::Objects::token(&**set, pod, ask),
            Self::Api(api) => api.tokens.get(ask).cloned().unwrap_or_else(|| Err("it was not asked for".to_owned())),
        }
    }
}

impl Node {
    /// What the pod refers to, as it is now. From then on the pod hears of changes.
    ///
    /// # Errors
    /// The API server has not answered yet whether an object is there.
    pub async fn objects_of(&self, pod: &PodDesired, origin: &Origin) -> Result<PodObjects, StepError> {
        match &self.cluster {
            Some(cluster) if !self.is_of_manifests(origin) => {
                Ok(PodObjects::Api(Arc::new(ApiObjects::gather(cluster, pod).await?)))
            }
            _ => Ok(PodObjects::Manifests(self.manifests())),
        }
    }

    /// Waits until the Services are known that the pod's variables name.
    ///
    /// # Errors
    /// The API server has not listed them yet; in the kubelet's words.
    pub async fn services_known(&self, origin: &Origin) -> Result<(), StepError> {
        let Some(cluster) = self.cluster.as_ref().filter(|_| !self.is_of_manifests(origin)) else { return Ok(()) };
        let mut known = cluster.services_known.subscribe();
        let waited = tokio::time::timeout(SERVICES_WITHIN, known.wait_for(|known| *known)).await;
        let text = "services have not yet been read at least once, cannot construct envvars";
        waited.map(drop).map_err(|_| StepError::text("CreateContainerConfigError", text))
    }

    fn sources<'a>(&self, objects: &'a PodObjects) -> Sources<'a> {
        Sources { objects, allocatable: self.allocatable() }
    }

    /// Sets the pod's volumes up; again is fine. Blocks.
    pub fn set_up_volumes(
        &self,
        pod: &PodDesired,
        objects: &PodObjects,
    ) -> Result<BTreeMap<String, PathBuf>, StepError> {
        orlop_volume::set_up(pod, &Roots::new(&self.config.root_dir), &self.sources(objects))
            .map_err(|error| StepError::new("FailedMount", &error))
    }

    /// Brings the files of a running pod up to date with its objects, and says whether
    /// all are. Blocks.
    pub fn refresh_volumes(&self, pod: &PodDesired, objects: &PodObjects) -> bool {
        let roots = Roots::new(&self.config.root_dir);
        let failed = orlop_volume::update(pod, &roots, &self.sources(objects)).failed;
        for error in &failed {
            self.pod_event(pod, EventKind::Warning, "FailedMount", crate::pod::chain(error));
        }
        failed.is_empty()
    }

    /// Services that a pod's variables name: those of its namespace, and `kubernetes`.
    pub fn service_links(&self, pod: &PodDesired) -> Vec<ServiceLink> {
        let mut namespaces = vec![pod.key.namespace()];
        if pod.key.namespace() != "default" {
            namespaces.push("default");
        }
        let all = namespaces.into_iter().flat_map(|namespace| {
            let services = self.services.variables(namespace);
            services.into_iter().filter_map(move |service| {
                let port = |(name, port, protocol): (String, u16, _)| ServiceLinkPort {
                    name: (!name.is_empty()).then_some(name),
                    protocol,
                    port,
                };
                Some(ServiceLink {
                    key: ServiceKey::new(namespace, &service.name).ok()?,
                    cluster_ip: Some(service.cluster_ip),
                    ports: service.ports.into_iter().map(port).collect(),
                })
            })
        });
        all.collect()
    }
}
