//! Files, drop-ins and flags over one another.

use crate::check::{check, check_values, fill_defaults};
use crate::document::{Document, DocumentKind, documents};
use crate::eviction::complete_hard;
use crate::kubelet_fields::KUBELET_FIELDS;
use crate::merge::{get, merge};
use crate::proxy_fields::PROXY_FIELDS;
use crate::{
    ConfigError, Field, KubeProxyConfiguration, KubeletConfiguration, KubeletFlags, OrlopConfiguration, Source,
    Warning, partly, validate,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Every field of KubeletConfiguration, in the order of the type.
#[must_use]
pub fn kubelet_fields() -> &'static [Field] {
    KUBELET_FIELDS
}

/// Every field of KubeProxyConfiguration, in the order of the type.
#[must_use]
pub fn proxy_fields() -> &'static [Field] {
    PROXY_FIELDS
}

/// What the configuration is made from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Files of documents; where two say the same, the later one wins.
    pub files: Vec<Source>,
    /// KubeletConfigurations over the files, in order.
    pub drop_ins: Vec<Source>,
    /// Flags over everything.
    pub flags: KubeletFlags,
}

/// The configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What only Orlop has, if a file says it.
    pub orlop: Option<OrlopConfiguration>,
    /// The kubelet's part, defaults filled in; all defaults where no file says anything.
    pub kubelet: KubeletConfiguration,
    /// kube-proxy's part, defaults filled in; all defaults where no file says anything.
    pub proxy: KubeProxyConfiguration,
    /// Fields that are not acted on, to be logged once.
    pub warnings: Vec<Warning>,
}

/// Reads the documents and puts them over one another: flags over drop-ins over files over
/// defaults.
///
/// # Errors
/// Names the file, or the flag, the field and what is wrong with it.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let mut merged = Merged::default();
    for source in &inputs.files {
        for document in documents(source)? {
            merged.take(source, &document)?;
        }
    }
    complete_base(&mut merged.kubelet);
    for source in &inputs.drop_ins {
        for document in documents(source)? {
            if document.kind != DocumentKind::Kubelet {
                let problem = format!("a drop-in must be a KubeletConfiguration, not {}", document.kind.name());
                return Err(ConfigError::Document { path: source.path.clone(), line: document.line, problem });
            }
            merged.take(source, &document)?;
        }
    }
    merged.flags(&inputs.flags)?;
    let kubelet: KubeletConfiguration = kubelet(merged.kubelet, &merged.origin)?;
    merged.warnings.extend(partly::warnings(&kubelet, &merged.origin));
    validate::kubelet(&kubelet, &merged.origin)?;
    Ok(Loaded {
        orlop: merged.orlop.map(|(config, _)| config),
        kubelet,
        proxy: proxy(merged.proxy, &merged.origin)?,
        warnings: merged.warnings,
    })
}

/// What the documents read so far say.
struct Merged {
    orlop: Option<(OrlopConfiguration, PathBuf)>,
    kubelet: Value,
    proxy: Value,
    /// Names the last file of KubeletConfiguration, for errors that need the whole.
    origin: PathBuf,
    warnings: Vec<Warning>,
}

impl Default for Merged {
    fn default() -> Self {
        let (kubelet, proxy, origin) = (json!({}), json!({}), PathBuf::from("(defaults)"));
        Self { orlop: None, kubelet, proxy, origin, warnings: Vec::new() }
    }
}

impl Merged {
    fn take(&mut self, source: &Source, document: &Document) -> Result<(), ConfigError> {
        let (kind, value) = (document.kind, &document.value);
        match kind {
            DocumentKind::Orlop => {
                if let Some((_, first)) = &self.orlop {
                    let problem = format!("a second OrlopConfiguration; the first is in {}", first.display());
                    return Err(ConfigError::Document { path: source.path.clone(), line: document.line, problem });
                }
                self.orlop = Some((typed(value.clone(), kind, &source.path)?, source.path.clone()));
            }
            DocumentKind::Kubelet => {
                self.warn(check(kind, KUBELET_FIELDS, source, value)?);
                // On its own first: a wrong value is told with the file that it stands in.
                kubelet(value.clone(), &source.path)?;
                merge(&mut self.kubelet, value);
                self.origin.clone_from(&source.path);
            }
            DocumentKind::Proxy => {
                self.warn(check(kind, PROXY_FIELDS, source, value)?);
                proxy(value.clone(), &source.path)?;
                merge(&mut self.proxy, value);
            }
        }
        Ok(())
    }

    fn flags(&mut self, flags: &KubeletFlags) -> Result<(), ConfigError> {
        for (origin, overrides) in flags.overrides() {
            self.warn(check_values(DocumentKind::Kubelet, KUBELET_FIELDS, origin, overrides)?);
            let before = self.kubelet.clone();
            for field in KUBELET_FIELDS {
                let Some(value) = get(overrides, field.path) else { continue };
                let mut value = value.clone();
                // Gates add up; every other flag replaces what files say.
                if field.path == "featureGates" {
                    let mut gates = get(&before, field.path).cloned().unwrap_or_default();
                    merge(&mut gates, &value);
                    value = gates;
                }
                crate::merge::put(&mut self.kubelet, field.path, value);
            }
            kubelet(self.kubelet.clone(), origin)?;
        }
        Ok(())
    }

    /// A field is told once, with the last place that sets it.
    fn warn(&mut self, warnings: Vec<Warning>) {
        for warning in warnings {
            self.warnings.retain(|old| old.field != warning.field);
            self.warnings.push(warning);
        }
    }
}

/// What the kubelet fills in before it looks at drop-ins and flags: a drop-in that changes
/// one eviction threshold keeps the default others.
fn complete_base(value: &mut Value) {
    if value["evictionHard"].is_null() || value["mergeDefaultEvictionSettings"] == json!(true) {
        complete_hard(value);
    }
    let unset = |path| get(value, path).is_none_or(|found| field(path).is_unset(found));
    if unset("nodeStatusReportFrequency") && !unset("nodeStatusUpdateFrequency") {
        // As long as there was one frequency, it was that of reports.
        value["nodeStatusReportFrequency"] = value["nodeStatusUpdateFrequency"].clone();
    }
}

fn field(path: &str) -> &'static Field {
    KUBELET_FIELDS.iter().find(|field| field.path == path).expect("the table has it, which a test holds")
}

fn kubelet(mut value: Value, origin: &Path) -> Result<KubeletConfiguration, ConfigError> {
    complete_hard(&mut value);
    if value["serializeImagePulls"].is_null() {
        value["serializeImagePulls"] = json!(value["maxParallelImagePulls"].as_i64().is_none_or(|most| most < 2));
    }
    fill_defaults(KUBELET_FIELDS, &mut value);
    typed(value, DocumentKind::Kubelet, origin)
}

fn proxy(mut value: Value, origin: &Path) -> Result<KubeProxyConfiguration, ConfigError> {
    // kube-proxy listens in the family of its bindAddress.
    let own_v6 =
        value["bindAddress"].as_str().and_then(|text| text.parse().ok()).is_some_and(|ip: IpAddr| ip.is_ipv6());
    if own_v6 && value["healthzBindAddress"].as_str().is_none_or(str::is_empty) {
        value["healthzBindAddress"] = json!("[::]:10256");
    }
    fill_defaults(PROXY_FIELDS, &mut value);
    typed(value, DocumentKind::Proxy, origin)
}

fn typed<T: DeserializeOwned>(value: Value, kind: DocumentKind, origin: &Path) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| ConfigError::Field {
        origin: origin.to_owned(),
        kind: kind.name(),
        field: error.path().to_string(),
        problem: error.inner().to_string(),
    })
}
