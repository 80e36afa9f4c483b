//! What kubeadm leaves on a machine.

use crate::{ConfigError, Source};
use std::path::{Path, PathBuf};

/// The variable of kubeadm's flags.
const FLAGS_VARIABLE: &str = "KUBELET_KUBEADM_ARGS";

/// The files that `kubeadm join` writes for the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kubeadm {
    /// `/var/lib/kubelet/config.yaml`: KubeletConfiguration of the cluster.
    pub config: Option<Source>,
    /// `/var/lib/kubelet/instance-config.yaml`: KubeletConfiguration of this machine, over it.
    pub instance: Option<Source>,
    /// The words of `KUBELET_KUBEADM_ARGS` in `/var/lib/kubelet/kubeadm-flags.env`, for
    /// [`crate::KubeletFlags::parse`].
    pub args: Vec<String>,
    /// `/var/lib/kubelet/kubeadm-flags.env`, which names those words.
    pub args_file: PathBuf,
    /// `/etc/kubernetes/bootstrap-kubelet.conf`, if it is there.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// `/etc/kubernetes/kubelet.conf`, if it is there.
    pub kubeconfig: Option<PathBuf>,
}

impl Kubeadm {
    /// Looks for the files below `root`, which is `/` but for tests; `None` where kubeadm was
    /// never run.
    ///
    /// # Errors
    /// A file that is there cannot be read or understood.
    pub fn find(root: &Path) -> Result<Option<Self>, ConfigError> {
        let kubelet = root.join("var/lib/kubelet");
        let kubernetes = root.join("etc/kubernetes");
        let there = |name: &str| Some(kubernetes.join(name)).filter(|path| path.is_file());
        let args_file = kubelet.join("kubeadm-flags.env");
        let args = match Source::read_if_there(&args_file)? {
            Some(source) => environment_args(&source, FLAGS_VARIABLE)?,
            None => Vec::new(),
        };
        let found = Self {
            config: Source::read_if_there(&kubelet.join("config.yaml"))?,
            instance: Source::read_if_there(&kubelet.join("instance-config.yaml"))?,
            args,
            args_file,
            bootstrap_kubeconfig: there("bootstrap-kubelet.conf"),
            kubeconfig: there("kubelet.conf"),
        };
        let nothing = found.config.is_none() && found.kubeconfig.is_none() && found.bootstrap_kubeconfig.is_none();
        Ok((!nothing).then_some(found))
    }

    /// The configuration files, in the order in which they win.
    #[must_use]
    pub fn files(&self) -> Vec<Source> {
        self.config.iter().chain(&self.instance).cloned().collect()
    }
}

/// The words of a variable in a file of systemd's `EnvironmentFile` form
/// (`NAME="--a=b --c"`), split as systemd splits `$NAME`: at white space, whatever is in quotes
/// inside. Empty when the variable is not set; the last one wins.
///
/// # Errors
/// A line that is neither empty, a comment nor an assignment, or a quote without its end.
pub fn environment_args(source: &Source, variable: &str) -> Result<Vec<String>, ConfigError> {
    let mut args = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let line = line.trim();
        let wrong = |problem: &str| ConfigError::Environment {
            path: source.path.clone(),
            line: index + 1,
            problem: problem.to_owned(),
        };
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("must be NAME=VALUE"))?;
        if name.trim() == variable {
            let value = unquote(value.trim()).ok_or_else(|| wrong("a quote has no end"))?;
            args = value.split_whitespace().map(str::to_owned).collect();
        }
    }
    Ok(args)
}

/// Takes quotes and backslashes away as a shell does; `None` when a quote is not closed.
fn unquote(text: &str) -> Option<String> {
    let (mut out, mut open) = (String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, open) {
            ('\\', None | Some('"')) => out.extend(chars.next()),
            ('"' | '\'', None) => open = Some(c),
            (c, Some(quote)) if c == quote => open = None,
            (c, _) => out.push(c),
        }
    }
    open.is_none().then_some(out)
}
