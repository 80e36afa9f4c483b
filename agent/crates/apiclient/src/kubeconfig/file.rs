//! The file's own shape.

use k8s_openapi::ByteString;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(rename = "apiVersion")]
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) clusters: Vec<Named<Cluster>>,
    pub(super) contexts: Vec<Named<Context>>,
    pub(super) current_context: String,
    // kubectl writes them and nothing here depends on them.
    preferences: Option<serde_json::Value>,
    extensions: Option<serde_json::Value>,
    pub(super) users: Vec<Named<User>>,
}

/// An entry of one of the lists; the value's key is the list's singular.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Named<T> {
    pub(super) name: String,
    // `null` is what kubectl writes for a user without fields.
    #[serde(
        alias = "cluster",
        alias = "context",
        alias = "user",
        bound(deserialize = "T: Deserialize<'de> + Default")
    )]
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) value: T,
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(reader: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Context {
    pub(super) cluster: String,
    pub(super) user: String,
    pub(super) namespace: Option<String>,
    extensions: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Cluster {
    pub(super) certificate_authority: Option<PathBuf>,
    pub(super) certificate_authority_data: Option<ByteString>,
    pub(super) insecure_skip_tls_verify: bool,
    pub(super) proxy_url: Option<String>,
    pub(super) server: String,
    pub(super) tls_server_name: Option<String>,
    // A wish of the client for less traffic to come compressed; ours always offers gzip.
    disable_compression: bool,
    pub(super) extensions: Option<Vec<Extension>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Extension {
    pub(super) name: String,
    #[serde(default)]
    pub(super) extension: serde_json::Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct User {
    pub(super) client_certificate: Option<PathBuf>,
    pub(super) client_certificate_data: Option<ByteString>,
    pub(super) client_key: Option<PathBuf>,
    pub(super) client_key_data: Option<ByteString>,
    pub(super) token: Option<String>,
    #[serde(rename = "tokenFile")]
    pub(super) token_file: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) exec: Option<Exec>,
    pub(super) auth_provider: Option<AuthProvider>,
    #[serde(rename = "as")]
    act_as: Option<serde_json::Value>,
    as_uid: Option<serde_json::Value>,
    as_groups: Option<serde_json::Value>,
    as_user_extra: Option<serde_json::Value>,
    extensions: Option<serde_json::Value>,
}

impl User {
    pub(super) fn impersonates(&self) -> bool {
        self.act_as.is_some() || self.as_uid.is_some() || self.as_groups.is_some() || self.as_user_extra.is_some()
    }
}

/// Says which fields are there, not what is in them.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("client_certificate", &self.client_certificate)
            .field("client_key", &self.client_key)
            .field("token_file", &self.token_file)
            .field("exec", &self.exec)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthProvider {
    pub(super) name: String,
    // Refused as a whole, so what is in it is of no interest.
    #[serde(rename = "config")]
    _config: serde_json::Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Exec {
    pub(super) api_version: String,
    pub(super) command: String,
    pub(super) args: Option<Vec<String>>,
    pub(super) env: Option<Vec<ExecEnv>>,
    pub(super) install_hint: Option<String>,
    pub(super) provide_cluster_info: bool,
    pub(super) interactive_mode: Option<String>,
}

/// Arguments and environment may be secrets.
impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("command", &self.command).finish_non_exhaustive()
    }
}

#[derive(Clone, Deserialize)]
pub(super) struct ExecEnv {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
}

/// Gives the file and a sentence for each field that is not acted on.
pub(super) fn parse(text: &str) -> Result<(File, Vec<String>), String> {
    let mut warnings = Vec::new();
    // A wrapper for each Option on the way shows as `?`.
    let mut ignored = |path: serde_ignored::Path<'_>| {
        let path = path.to_string().replace(".?", "");
        warnings.push(format!("the field {path} is not known and not acted on"));
    };
    let mut track = serde_path_to_error::Track::new();
    // A snippet of the text could show a token in a log.
    let options = serde_saphyr::options! { with_snippet: false };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        serde_ignored::deserialize(serde_path_to_error::Deserializer::new(reader, &mut track), &mut ignored)
    });
    let file: File = read.map_err(|error| format!("{}: {error}", track.path()))?;
    if !matches!(file.kind.as_str(), "" | "Config") || !matches!(file.api_version.as_str(), "" | "v1") {
        return Err(format!("it is a {} of {}, where a Config of v1 is wanted", file.kind, file.api_version));
    }
    Ok((file, warnings))
}
