//! The kubelet's flags, for machines that were prepared for a kubelet.

use crate::check::takes_a_word;
use crate::kubelet_fields::KUBELET_FIELDS;
use crate::merge::{get, put};
use crate::{ConfigError, Field, Grade, Kind, Warning, parse_taints};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Flags that are not fields of KubeletConfiguration and that nothing comes of.
const IGNORED: [(&str, Grade, &str); 17] = [
    ("pod-infra-container-image", Grade::Note, "a pod's sandbox needs no image"),
    ("container-runtime", Grade::Note, "Orlop runs containers itself"),
    ("runtime-cgroups", Grade::Note, "there is no container runtime"),
    ("network-plugin", Grade::Note, "Orlop gives pods their addresses itself"),
    ("cloud-config", Grade::Note, "only --cloud-provider=external is known"),
    ("lock-file", Grade::Warning, "two agents on one --run-dir refuse each other without it"),
    ("exit-on-lock-contention", Grade::Warning, "the agent does not watch for another one"),
    ("minimum-container-ttl-duration", Grade::Note, "ended containers are collected by number"),
    ("maximum-dead-containers", Grade::Note, "ended containers are collected a pod at a time"),
    ("maximum-dead-containers-per-container", Grade::Note, "one ended container is kept each"),
    ("experimental-mounter-path", Grade::Note, "mounts are system calls"),
    ("experimental-allocatable-ignore-eviction", Grade::Warning, "eviction thresholds are held back from pods"),
    ("image-credential-provider-config", Grade::Warning, "credential plugins are not run yet"),
    ("image-credential-provider-bin-dir", Grade::Warning, "credential plugins are not run yet"),
    ("keep-terminated-pod-volumes", Grade::Note, "the kubelet itself ignores it"),
    ("housekeeping-interval", Grade::Note, "there is no cAdvisor"),
    ("global-housekeeping-interval", Grade::Note, "there is no cAdvisor"),
];

/// What the kubelet's flags say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KubeletFlags {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--bootstrap-kubeconfig`.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--config-dir`.
    pub config_dir: Option<PathBuf>,
    /// `--root-dir`.
    pub root_dir: Option<PathBuf>,
    /// `--cert-dir`.
    pub cert_dir: Option<PathBuf>,
    /// `--hostname-override`.
    pub hostname_override: Option<String>,
    /// `--cloud-provider`: `external` or empty.
    pub cloud_provider: Option<String>,
    /// `--node-ip`, primary first; an unspecified one asks for the default address of its family.
    pub node_ips: Vec<IpAddr>,
    /// `--node-labels`, unchecked.
    pub node_labels: BTreeMap<String, String>,
    overrides: Vec<(PathBuf, Value)>,
}

impl KubeletFlags {
    /// Reads flags as the kubelet does (`--a=b`, `--a b`, `--switch`). Flags that nobody knows are
    /// warned of: kubeadm of another version may have written them. `origin` names where
    /// they stand.
    ///
    /// # Errors
    /// A value that cannot be, with its flag.
    pub fn parse(args: &[String], origin: &Path) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (mut flags, mut warnings) = (Self::default(), Vec::new());
        let mut args = args.iter().peekable();
        while let Some(arg) = args.next() {
            let Some(rest) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                warnings.push(warning(Grade::Warning, origin, arg, "it is no flag; nothing comes of it"));
                continue;
            };
            let (name, value) = match rest.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if wants_word(rest) => {
                    let next = args.next_if(|next| !next.starts_with("--")).cloned();
                    let missing = || flag_error(origin, rest, "", "needs a value");
                    (rest, next.ok_or_else(missing)?)
                }
                None => (rest, "true".to_owned()),
            };
            warnings.extend(flags.set(name, &value, origin)?);
        }
        Ok((flags, warnings))
    }

    /// Sets one flag, by its name without `--`; a later one wins over an earlier one.
    ///
    /// # Errors
    /// A value that cannot be.
    pub fn set(&mut self, name: &str, value: &str, origin: &Path) -> Result<Option<Warning>, ConfigError> {
        let wrong = |problem: String| flag_error(origin, name, value, &problem);
        let text = || (!value.is_empty()).then(|| value.to_owned());
        match name {
            "kubeconfig" => self.kubeconfig = text().map(PathBuf::from),
            "bootstrap-kubeconfig" => self.bootstrap_kubeconfig = text().map(PathBuf::from),
            "config" => self.config = text().map(PathBuf::from),
            "config-dir" => self.config_dir = text().map(PathBuf::from),
            "root-dir" => self.root_dir = text().map(PathBuf::from),
            "cert-dir" => self.cert_dir = text().map(PathBuf::from),
            "hostname-override" => self.hostname_override = text(),
            "cloud-provider" if matches!(value, "" | "external") => self.cloud_provider = text(),
            "cloud-provider" => return Err(wrong("must be \"external\" or empty".to_owned())),
            "node-ip" => self.node_ips = node_ips(value).map_err(wrong)?,
            "node-labels" => self.node_labels.extend(pairs(value, '=')),
            _ => {
                if let Some((_, grade, instead)) = IGNORED.iter().find(|(known, ..)| *known == name) {
                    return Ok(Some(warning(*grade, origin, &format!("--{name}"), instead)));
                }
                let Some(field) = KUBELET_FIELDS.iter().find(|field| field.flag == name) else {
                    let instead = "it is no flag of the kubelet of v1.36; nothing comes of it";
                    return Ok(Some(warning(Grade::Warning, origin, &format!("--{name}"), instead)));
                };
                let new = parse_value(field, value).map_err(wrong)?;
                if let Some(problem) = field.problem(&new) {
                    return Err(wrong(problem));
                }
                self.override_field(field, new, origin);
            }
        }
        Ok(None)
    }

    /// Puts the flags of `over` over these.
    #[must_use]
    pub fn overlaid(mut self, over: Self) -> Self {
        self.kubeconfig = over.kubeconfig.or(self.kubeconfig);
        self.bootstrap_kubeconfig = over.bootstrap_kubeconfig.or(self.bootstrap_kubeconfig);
        self.config = over.config.or(self.config);
        self.config_dir = over.config_dir.or(self.config_dir);
        self.root_dir = over.root_dir.or(self.root_dir);
        self.cert_dir = over.cert_dir.or(self.cert_dir);
        self.hostname_override = over.hostname_override.or(self.hostname_override);
        self.cloud_provider = over.cloud_provider.or(self.cloud_provider);
        if !over.node_ips.is_empty() {
            self.node_ips = over.node_ips;
        }
        self.node_labels.extend(over.node_labels);
        self.overrides.extend(over.overrides);
        self
    }

    /// Fields of KubeletConfiguration by where their flags stand; a later one wins.
    pub(crate) fn overrides(&self) -> impl Iterator<Item = (&Path, &Value)> {
        self.overrides.iter().map(|(origin, value)| (origin.as_path(), value))
    }

    /// Lists and maps of a flag that is given twice in one place add up, as in the kubelet.
    fn override_field(&mut self, field: &Field, mut new: Value, origin: &Path) {
        if self.overrides.last().is_none_or(|(last, _)| last != origin) {
            self.overrides.push((origin.to_owned(), json!({})));
        }
        let Some((_, overrides)) = self.overrides.last_mut() else { return };
        match (get(overrides, field.path), &mut new) {
            (Some(Value::Array(old)), Value::Array(new)) => new.splice(0..0, old.clone()).for_each(drop),
            (Some(Value::Object(old)), Value::Object(new)) => {
                for (key, value) in old {
                    new.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            _ => {}
        }
        put(overrides, field.path, new);
    }
}

fn flag_error(origin: &Path, flag: &str, value: &str, problem: &str) -> ConfigError {
    let (flag, value, problem) = (flag.to_owned(), value.to_owned(), problem.to_owned());
    ConfigError::Flag { origin: origin.to_owned(), flag, value, problem }
}

fn warning(grade: Grade, origin: &Path, field: &str, instead: &str) -> Warning {
    Warning { grade, origin: origin.to_owned(), field: field.to_owned(), instead: instead.to_owned() }
}

/// Whether `--name` without `=` takes the next word. A flag that nobody knows does not: what
/// follows may be a flag or may be its value, and nothing comes of either.
fn wants_word(name: &str) -> bool {
    let switches =
        ["exit-on-lock-contention", "experimental-allocatable-ignore-eviction", "keep-terminated-pod-volumes"];
    let own = [
        "kubeconfig",
        "bootstrap-kubeconfig",
        "config",
        "config-dir",
        "root-dir",
        "cert-dir",
        "hostname-override",
        "cloud-provider",
        "node-ip",
        "node-labels",
    ];
    let field = KUBELET_FIELDS.iter().find(|field| field.flag == name);
    let ignored = IGNORED.iter().any(|(known, ..)| *known == name) && !switches.contains(&name);
    own.contains(&name) || ignored || field.is_some_and(|field| takes_a_word(field.kind))
}

fn node_ips(value: &str) -> Result<Vec<IpAddr>, String> {
    let parse = |text: &str| text.trim().parse().map_err(|_| format!("{text:?} must be an IP address"));
    let ips: Vec<IpAddr> = value.split(',').filter(|text| !text.is_empty()).map(parse).collect::<Result<_, _>>()?;
    match ips.as_slice() {
        [] | [_] => Ok(ips),
        [a, b] if a.is_ipv4() != b.is_ipv4() => Ok(ips),
        _ => Err("must be one address, or one of each family".to_owned()),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// `a=b,c=d`; a name without a value has an empty one.
fn pairs(text: &str, at: char) -> impl Iterator<Item = (String, String)> {
    words(text).map(move |word| {
        let (key, value) = word.split_once(at).unwrap_or((word, ""));
        (key.trim().to_owned(), value.trim().to_owned())
    })
}

fn switch(text: &str) -> Result<Value, String> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(json!(true)),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(json!(false)),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A flag's text as the value that a file would have.
fn parse_value(field: &Field, text: &str) -> Result<Value, String> {
    let number =
        |text: &str| text.trim().parse::<i64>().map(Value::from).map_err(|_| "must be a whole number".to_owned());
    Ok(match field.kind {
        Kind::Bool => switch(text)?,
        Kind::Int => number(text)?,
        Kind::Float => json!(text.parse::<f64>().map_err(|_| "must be a number")?),
        Kind::Text | Kind::Duration | Kind::DurationOrNanos | Kind::Quantity => json!(text),
        Kind::Texts => json!(words(text).collect::<Vec<_>>()),
        Kind::Ints => Value::Array(words(text).map(number).collect::<Result<_, _>>()?),
        Kind::Map => json!(pairs(text, '=').collect::<BTreeMap<_, _>>()),
        // `--eviction-hard` has a<b, `--eviction-minimum-reclaim` a=b.
        Kind::Thresholds => json!(pairs(text, if text.contains('<') { '<' } else { '=' }).collect::<BTreeMap<_, _>>()),
        Kind::Gates => {
            let gates = pairs(text, '=').map(|(key, value)| Ok((key, switch(&value)?)));
            Value::Object(gates.collect::<Result<Map<_, _>, String>>()?)
        }
        Kind::Object if field.path == "registerWithTaints" => json!(parse_taints(text)?),
        // Not acted on: that it is said is enough for the warning.
        Kind::Object => json!([text]),
    })
}
