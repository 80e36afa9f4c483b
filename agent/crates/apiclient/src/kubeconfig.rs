//! Files that say where the API server is and who we are, as kubectl and kubeadm write them.

mod file;
mod write;

use crate::error::ApiError;
use crate::settings::{Bearer, Identity, Pem, Plugin, PluginCluster, Secret, Settings};
use file::{Cluster, Exec, Named, User};
use std::path::{Path, PathBuf};

pub use write::write_kubeconfig;

/// The extension of a cluster that a plugin gets to see (KEP-541).
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";
const EXEC_VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// A kubeconfig, read but not yet acted on.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    path: PathBuf,
    file: file::File,
    warnings: Vec<String>,
}

impl Kubeconfig {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is no kubeconfig; the message names the field and the line.
    pub fn read(path: &Path) -> Result<Self, ApiError> {
        let text = std::fs::read_to_string(path).map_err(|source| ApiError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The same for text that is in memory; relative paths in it are taken from the folder of `path`.
    ///
    /// # Errors
    /// When it is no kubeconfig.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ApiError> {
        let (file, warnings) =
            file::parse(text).map_err(|problem| ApiError::Kubeconfig { path: path.to_owned(), problem })?;
        Ok(Self { path: path.to_owned(), file, warnings })
    }

    /// Fields that are not acted on, each in a sentence.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The namespace of the current context, if it names one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        let context = self.file.contexts.iter().find(|context| context.name == self.file.current_context)?;
        context.value.namespace.as_deref().filter(|namespace| !namespace.is_empty())
    }

    /// What the current context says.
    ///
    /// # Errors
    /// When context, cluster or user do not exist, or ask for what Orlop does not do.
    pub fn settings(&self) -> Result<Settings, ApiError> {
        let current = &self.file.current_context;
        // kubectl and kubeadm always set it; a file with a single context leaves no doubt either.
        let context = match (current.as_str(), self.file.contexts.as_slice()) {
            ("", [only]) => &only.value,
            ("", _) => return Err(self.bad("current-context is not set")),
            (name, contexts) => self.find(contexts, name, "context")?,
        };
        let cluster = self.find(&self.file.clusters, &context.cluster, "cluster")?;
        let nobody = User::default();
        let user = match context.user.as_str() {
            "" => &nobody,
            name => self.find(&self.file.users, name, "user")?,
        };
        let mut settings = self.reach(cluster)?;
        settings.identity = self.identity(user)?;
        settings.bearer = self.bearer(user, cluster)?;
        Ok(settings)
    }

    fn find<'a, T>(&self, among: &'a [Named<T>], name: &str, what: &str) -> Result<&'a T, ApiError> {
        let found = among.iter().find(|entry| entry.name == name);
        found.map(|entry| &entry.value).ok_or_else(|| self.bad(format!("there is no {what} {name:?}")))
    }

    fn reach(&self, cluster: &Cluster) -> Result<Settings, ApiError> {
        if cluster.server.is_empty() {
            return Err(self.bad("the cluster has no server"));
        }
        let authority = self.pem(&cluster.certificate_authority_data, cluster.certificate_authority.as_ref());
        if cluster.insecure_skip_tls_verify && authority.is_some() {
            return Err(self.bad("insecure-skip-tls-verify and a certificate-authority contradict each other"));
        }
        let mut settings = Settings::new(&cluster.server);
        settings.authority = authority;
        settings.server_name = text(&cluster.tls_server_name);
        settings.insecure = cluster.insecure_skip_tls_verify;
        settings.proxy = text(&cluster.proxy_url);
        Ok(settings)
    }

    fn identity(&self, user: &User) -> Result<Option<Identity>, ApiError> {
        let certificate = self.pem(&user.client_certificate_data, user.client_certificate.as_ref());
        let key = self.pem(&user.client_key_data, user.client_key.as_ref());
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.bad("the user has a client-certificate but no client-key")),
            (None, Some(_)) => Err(self.bad("the user has a client-key but no client-certificate")),
        }
    }

    /// client-go's order: a token file before a token before a password; a plugin stands alone.
    fn bearer(&self, user: &User, cluster: &Cluster) -> Result<Bearer, ApiError> {
        if let Some(provider) = &user.auth_provider {
            return Err(self.bad(format!(
                "auth-provider {:?} is not supported (nor is it by Kubernetes since 1.26): use exec",
                provider.name
            )));
        }
        if user.impersonates() {
            return Err(self.bad("impersonation (as, as-uid, as-groups, as-user-extra) is not supported"));
        }
        let fixed = user.token_file.is_some() || text(&user.token).is_some() || text(&user.username).is_some();
        if let Some(exec) = &user.exec {
            if fixed {
                return Err(self.bad("the user has exec and a token or password: one of them"));
            }
            return Ok(Bearer::Plugin(Box::new(self.plugin(exec, cluster)?)));
        }
        if let Some(path) = &user.token_file {
            return Ok(Bearer::TokenFile(self.beside(path)));
        }
        if let Some(token) = text(&user.token) {
            return Ok(Bearer::Token(Secret::new(token)));
        }
        match text(&user.username) {
            Some(name) => {
                Ok(Bearer::Basic { user: name, password: Secret::new(user.password.clone().unwrap_or_default()) })
            }
            None => Ok(Bearer::None),
        }
    }

    fn plugin(&self, exec: &Exec, cluster: &Cluster) -> Result<Plugin, ApiError> {
        if !EXEC_VERSIONS.contains(&exec.api_version.as_str()) {
            return Err(self.bad(format!(
                "exec.apiVersion {:?} is not one of {}",
                exec.api_version,
                EXEC_VERSIONS.join(", ")
            )));
        }
        if exec.command.is_empty() {
            return Err(self.bad("exec.command is not set"));
        }
        if exec.interactive_mode.as_deref() == Some("Always") {
            return Err(self.bad("exec.interactiveMode Always: an agent has nobody to ask"));
        }
        let told = if exec.provide_cluster_info { Some(self.told(cluster)?) } else { None };
        // A bare name is looked for in PATH; a relative path is relative to this file.
        let command = match exec.command.contains('/') {
            true => self.beside(Path::new(&exec.command)),
            false => PathBuf::from(&exec.command),
        };
        Ok(Plugin {
            command,
            args: exec.args.clone().unwrap_or_default(),
            env: exec.env.iter().flatten().map(|pair| (pair.name.clone(), pair.value.clone())).collect(),
            api_version: exec.api_version.clone(),
            cluster: told,
            install_hint: text(&exec.install_hint),
        })
    }

    fn told(&self, cluster: &Cluster) -> Result<PluginCluster, ApiError> {
        let authority = self.pem(&cluster.certificate_authority_data, cluster.certificate_authority.as_ref());
        let config = cluster.extensions.iter().flatten().find(|extension| extension.name == EXEC_EXTENSION);
        Ok(PluginCluster {
            server: cluster.server.clone(),
            tls_server_name: text(&cluster.tls_server_name),
            insecure_skip_tls_verify: cluster.insecure_skip_tls_verify,
            certificate_authority_data: authority.map(|pem| pem.read()).transpose()?.map(k8s_openapi::ByteString),
            proxy_url: text(&cluster.proxy_url),
            config: config.map(|extension| extension.extension.clone()),
        })
    }

    /// Data wins over a file, as in client-go.
    fn pem(&self, data: &Option<k8s_openapi::ByteString>, path: Option<&PathBuf>) -> Option<Pem> {
        match (data, path) {
            (Some(data), _) if !data.0.is_empty() => Some(Pem::Data(data.0.clone())),
            (_, Some(path)) if !path.as_os_str().is_empty() => Some(Pem::File(self.beside(path))),
            _ => None,
        }
    }

    fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    fn bad(&self, problem: impl Into<String>) -> ApiError {
        ApiError::Kubeconfig { path: self.path.clone(), problem: problem.into() }
    }
}

fn text(field: &Option<String>) -> Option<String> {
    field.clone().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
