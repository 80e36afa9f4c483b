//! A container's environment, command and arguments, with every source looked up.

mod expand;
mod service;
mod sub_path;

pub use expand::expand;
pub use service::{ServiceLink, ServiceLinkPort, service_variables};

use crate::downward;
use orlop_model::{ContainerDesired, EnvFrom, EnvSource, NodeAllocatable, ObjectKey, PodDesired, VolumeMount};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where ConfigMaps and Secrets of the pod's namespace are found.
pub trait Objects {
    /// `data` of a ConfigMap.
    fn config_map(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, String>>;
    /// `data` of a Secret, decoded, `stringData` merged into it.
    fn secret(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, Vec<u8>>>;
}

/// What variables may be made of besides the pod itself.
pub struct EnvContext<'a> {
    /// ConfigMaps and Secrets.
    pub objects: &'a dyn Objects,
    /// The pod's addresses, primary first; the node's own with host network.
    pub pod_ips: &'a [IpAddr],
    /// The node's addresses, primary first.
    pub host_ips: &'a [IpAddr],
    /// The image's `Env`, `NAME=value`; `$(NAME)` does not see it.
    pub image_env: &'a [String],
    /// Stands for a limit that is not given.
    pub allocatable: NodeAllocatable,
    /// Services as they are now; see [`service_variables`].
    pub services: &'a [ServiceLink],
}

/// What the process is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedEnv {
    /// Names and values, each name once.
    pub env: Vec<(String, String)>,
    /// `command`, expanded; empty takes the image's entrypoint.
    pub command: Vec<String>,
    /// `args`, expanded; empty takes the image's cmd.
    pub args: Vec<String>,
    /// The container's mounts with each `subPathExpr` made a `sub_path`.
    pub mounts: Vec<VolumeMount>,
    /// Keys that cannot be variables and were left out, in the kubelet's words.
    pub warnings: Vec<String>,
}

/// A source that is not there: `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// No such ConfigMap.
    #[error("configmap {0:?} not found")]
    ConfigMap(String),
    /// No such Secret.
    #[error("secret {0:?} not found")]
    Secret(String),
    /// No such key in a ConfigMap.
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    ConfigMapKey {
        /// Key.
        key: String,
        /// Namespace.
        namespace: String,
        /// ConfigMap.
        name: String,
    },
    /// No such key in a Secret.
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    SecretKey {
        /// Key.
        key: String,
        /// Namespace.
        namespace: String,
        /// Secret.
        name: String,
    },
    /// A variable's value must be UTF-8 and hold no NUL.
    #[error("the value of key {key} in {kind} {namespace}/{name} cannot be an environment variable")]
    NotText {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Key.
        key: String,
        /// Namespace.
        namespace: String,
        /// Object.
        name: String,
    },
    /// A downward-API path that admission lets through but nothing answers.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// `resourceFieldRef` names a container that is not in the pod.
    #[error("container {0} not found")]
    Container(String),
    /// A `subPathExpr` names variables that the container does not have.
    #[error("missing value for {0}")]
    SubPathValue(String),
    /// What a `subPathExpr` expands to is no path inside the volume.
    #[error("unable to provision SubPath `{path}`: {problem}")]
    SubPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Looks up every source, expands `$(NAME)`, and lays the result over the image's
/// environment.
///
/// # Errors
/// [`EnvError`], worded as the kubelet words it for `CreateContainerConfigError`.
pub fn resolve(container: &ContainerDesired, pod: &PodDesired, cx: &EnvContext<'_>) -> Result<ResolvedEnv, EnvError> {
    let mut vars = Vars::of_services(service_variables(cx.services, pod.key.namespace(), pod.service_links));
    let mut warnings = Vec::new();
    for from in &container.env_from {
        whole_object(from, pod, cx, &mut vars, &mut warnings)?;
    }
    for var in &container.env {
        if let Some(value) = value(&var.source, container, pod, cx, &vars)? {
            vars.set(&var.name, value);
        }
    }
    let expanded = |list: &[String]| list.iter().map(|text| expand(text, |name| vars.get(name))).collect();
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let mounts = sub_path::expanded(&container.mounts, &vars)?;
    Ok(ResolvedEnv { mounts, env: over_image(vars, container, pod, cx), command, args, warnings })
}

/// Variables in the order in which they were first set.
#[derive(Default)]
struct Vars(Vec<(String, String)>);

impl Vars {
    fn of_services(variables: BTreeMap<String, String>) -> Self {
        Self(variables.into_iter().collect())
    }
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

/// What containerd adds as well: a search path, the host name and, with a terminal, its kind.
fn over_image(
    vars: Vars,
    container: &ContainerDesired,
    pod: &PodDesired,
    cx: &EnvContext<'_>,
) -> Vec<(String, String)> {
    let mut all = Vars::default();
    all.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    all.set("HOSTNAME", pod.kernel_hostname().unwrap_or_else(|_| pod.hostname.clone()));
    if container.tty {
        all.set("TERM", "xterm".to_owned());
    }
    for entry in cx.image_env {
        if let Some((name, value)) = entry.split_once('=') {
            all.set(name, value.to_owned());
        }
    }
    for (name, value) in vars.0 {
        all.set(&name, value);
    }
    all.0
}

fn whole_object(
    from: &EnvFrom,
    pod: &PodDesired,
    cx: &EnvContext<'_>,
    vars: &mut Vars,
    warnings: &mut Vec<String>,
) -> Result<(), EnvError> {
    let namespace = pod.key.namespace();
    let mut skipped = Vec::new();
    let mut set = |key: &str, value: &str| {
        let name = format!("{}{key}", from.prefix);
        if name.is_empty() || name.contains('=') {
            skipped.push(name);
        } else {
            vars.set(&name, value.to_owned());
        }
    };
    if from.secret {
        match cx.objects.secret(namespace, &from.name) {
            Some(data) => {
                for (key, bytes) in data {
                    let value = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
                    set(key, value.ok_or_else(|| not_text("Secret", key, namespace, &from.name))?);
                }
            }
            None if from.optional => {}
            None => return Err(EnvError::Secret(from.name.clone())),
        }
    } else {
        match cx.objects.config_map(namespace, &from.name) {
            Some(data) => {
                for (key, value) in data {
                    if value.contains('\0') {
                        return Err(not_text("ConfigMap", key, namespace, &from.name));
                    }
                    set(key, value);
                }
            }
            None if from.optional => {}
            None => return Err(EnvError::ConfigMap(from.name.clone())),
        }
    }
    if !skipped.is_empty() {
        let (kind, list) = (if from.secret { "secret" } else { "configMap" }, skipped.join(", "));
        warnings.push(format!("Keys [{list}] from the EnvFrom {kind} {namespace}/{} were skipped since they are considered invalid environment variable names.", from.name));
    }
    Ok(())
}

/// `None` leaves the variable out (an optional source that is not there).
fn value(
    source: &EnvSource,
    container: &ContainerDesired,
    pod: &PodDesired,
    cx: &EnvContext<'_>,
    vars: &Vars,
) -> Result<Option<String>, EnvError> {
    match source {
        EnvSource::Value(text) => Ok(Some(expand(text, |name| vars.get(name)))),
        EnvSource::Field(path) => downward::field(path, pod, cx).map(Some),
        EnvSource::Resource { container: name, resource, divisor } => {
            let of = match name {
                None => container,
                Some(name) => pod.container(name).ok_or_else(|| EnvError::Container(name.to_string()))?,
            };
            downward::resource(resource, *divisor, of, &cx.allocatable).map(Some)
        }
        EnvSource::ConfigMap(key) => config_map_key(key, pod, cx),
        EnvSource::Secret(key) => secret_key(key, pod, cx),
    }
}

fn config_map_key(at: &ObjectKey, pod: &PodDesired, cx: &EnvContext<'_>) -> Result<Option<String>, EnvError> {
    let namespace = pod.key.namespace();
    match cx.objects.config_map(namespace, &at.name).map(|data| data.get(&at.key)) {
        Some(Some(value)) if value.contains('\0') => Err(not_text("ConfigMap", &at.key, namespace, &at.name)),
        Some(Some(value)) => Ok(Some(value.clone())),
        Some(None) | None if at.optional => Ok(None),
        Some(None) => {
            Err(EnvError::ConfigMapKey { key: at.key.clone(), namespace: namespace.to_owned(), name: at.name.clone() })
        }
        None => Err(EnvError::ConfigMap(at.name.clone())),
    }
}

fn secret_key(at: &ObjectKey, pod: &PodDesired, cx: &EnvContext<'_>) -> Result<Option<String>, EnvError> {
    let namespace = pod.key.namespace();
    match cx.objects.secret(namespace, &at.name).map(|data| data.get(&at.key)) {
        Some(Some(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(Some(text.to_owned())),
            Ok(_) | Err(_) => Err(not_text("Secret", &at.key, namespace, &at.name)),
        },
        Some(None) | None if at.optional => Ok(None),
        Some(None) => {
            Err(EnvError::SecretKey { key: at.key.clone(), namespace: namespace.to_owned(), name: at.name.clone() })
        }
        None => Err(EnvError::Secret(at.name.clone())),
    }
}

fn not_text(kind: &'static str, key: &str, namespace: &str, name: &str) -> EnvError {
    EnvError::NotText { kind, key: key.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}
