//! What a join leaves on the machine.

use crate::cli::JoinArgs;
use anyhow::{Context, Result};
use orlop_pki::{BootstrapToken, ClusterInfo, JoinFiles};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The kubelet's flags of this machine, in kubeadm's file.
pub(super) fn flags(args: &JoinArgs) -> String {
    let flags = &args.flags;
    let ips: Vec<String> = flags.node_ip.iter().map(ToString::to_string).collect();
    let all = [
        ("hostname-override", args.node_name.clone()),
        ("node-ip", (!ips.is_empty()).then(|| ips.join(","))),
        ("node-labels", flags.node_labels.clone()),
        ("register-with-taints", flags.register_with_taints.clone()),
    ];
    let words: Vec<String> = all.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))).collect();
    format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", words.join(" "))
}

/// Files to be written.
pub(super) struct Planned<'a> {
    pub files: &'a JoinFiles,
    /// The text of `kubeadm-flags.env`.
    pub flags: String,
    /// `/var/lib/kubelet`.
    pub root_dir: &'a Path,
}

impl Planned<'_> {
    fn flags_path(&self) -> PathBuf {
        self.root_dir.join("kubeadm-flags.env")
    }

    /// For `--dry-run`. The token stays out of it.
    pub fn in_words(&self, info: &ClusterInfo, configuration: &str) -> String {
        let JoinFiles { bootstrap_kubeconfig, ca, configuration: path, .. } = self.files;
        format!(
            "would write {} (0644):\n{}\nwould write {} (0644):\n{}\nwould write {} (0644):\n{}\n\
             would write {} (0600): a kubeconfig for {} with the token",
            ca.display(),
            indented(&info.ca_pem),
            path.display(),
            indented(configuration),
            self.flags_path().display(),
            indented(&self.flags),
            bootstrap_kubeconfig.display(),
            info.server
        )
    }

    /// Writes them, the one with the token last: an agent that finds it finds the others too.
    pub fn write(&self, info: &ClusterInfo, token: &BootstrapToken, configuration: &str) -> Result<()> {
        let path = self.flags_path();
        whole(&path, self.flags.as_bytes()).with_context(|| format!("write {}", path.display()))?;
        Ok(self.files.write(info, token, configuration)?)
    }
}

/// The whole file or nothing of it.
fn whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let next = path.with_extension("env.new");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use crate::cli::join_args;

    #[test]
    fn flags_of_the_machine_are_in_kubeadms_file() {
        #[track_caller]
        fn check(args: &[&str], want: &str) {
            assert_eq!(super::flags(&join_args(args)), format!("KUBELET_KUBEADM_ARGS=\"{want}\"\n"));
        }
        check(&[], "");
        check(&["--node-name", "n1"], "--hostname-override=n1");
        check(
            &[
                "--node-ip",
                "192.0.2.1,2001:db8::1",
                "--node-labels",
                "a=b,c=",
                "--register-with-taints",
                "x=y:NoSchedule",
            ],
            "--node-ip=192.0.2.1,2001:db8::1 --node-labels=a=b,c= --register-with-taints=x=y:NoSchedule",
        );
    }
}
