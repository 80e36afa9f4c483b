//! Gathers what files and flags say, from wherever this machine has them.

use crate::cli::AgentArgs;
use anyhow::Result;
use orlop_config::{
    DropIns, Grade, Inputs, KubeProxyConfiguration, Kubeadm, KubeletConfiguration, KubeletFlags, OrlopConfiguration,
    Source, Warning, load,
};
use std::path::Path;

/// Stands for the file in errors and warnings about flags.
const COMMAND_LINE: &str = "the command line";

/// What files and the kubelet's flags say.
pub(super) struct Told {
    pub orlop: OrlopConfiguration,
    pub kubelet: KubeletConfiguration,
    pub proxy: KubeProxyConfiguration,
    pub flags: KubeletFlags,
    pub warnings: Vec<Warning>,
}

impl Told {
    /// Reads everything. Nothing that names the node's work is given: then what kubeadm left below `root` does.
    pub fn gather(args: &AgentArgs, root: &Path) -> Result<Self> {
        let (own, mut warnings) = own_flags(args)?;
        let (mut files, mut flags) = (Vec::new(), KubeletFlags::default());
        let said = args.manifests.is_some() || args.kubeconfig.is_some() || args.bootstrap_kubeconfig.is_some();
        if !said
            && args.config.is_empty()
            && let Some(found) = Kubeadm::find(root)?
        {
            let (found_flags, found_warnings) = KubeletFlags::parse(&found.args, &found.args_file)?;
            flags = found_flags;
            flags.kubeconfig = flags.kubeconfig.or_else(|| found.kubeconfig.clone());
            flags.bootstrap_kubeconfig = flags.bootstrap_kubeconfig.or_else(|| found.bootstrap_kubeconfig.clone());
            warnings.extend(found_warnings);
            files = found.files();
        }
        let flags = flags.overlaid(own);
        for path in &args.config {
            files.push(Source::read(path)?);
        }
        let folder = args.config_dir.as_deref().or(flags.config_dir.as_deref());
        let drop_ins = folder.map(DropIns::read).transpose()?.unwrap_or_default();
        warnings.extend(drop_ins.skipped.into_iter().map(|path| Warning {
            grade: Grade::Warning,
            origin: path,
            field: "drop-in".to_owned(),
            instead: "it is not read: its name does not end in .conf".to_owned(),
        }));
        let loaded = load(&Inputs { files, drop_ins: drop_ins.sources, flags: flags.clone() })?;
        warnings.extend(loaded.warnings);
        let orlop = loaded.orlop.unwrap_or_default();
        Ok(Self { orlop, kubelet: loaded.kubelet, proxy: loaded.proxy, flags, warnings })
    }
}

/// The kubelet's flags among the agent's own.
fn own_flags(args: &AgentArgs) -> Result<(KubeletFlags, Vec<Warning>)> {
    let mut flags = KubeletFlags::default();
    let mut warnings = Vec::new();
    let named = args.kubelet_flags.named().into_iter();
    let any = args.kubelet_flags.kubelet_arg.iter().map(|text| {
        let text = text.trim_start_matches('-');
        let (name, value) = text.split_once('=').unwrap_or((text, "true"));
        (name, value.to_owned())
    });
    for (name, value) in named.chain(any) {
        warnings.extend(flags.set(name, &value, Path::new(COMMAND_LINE))?);
    }
    Ok((flags, warnings))
}
