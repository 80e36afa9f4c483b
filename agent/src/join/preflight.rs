//! What is asked with the token before anything is written.

use crate::cli::JoinArgs;
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use orlop_apiclient::{ApiError, CONFIG_MAPS, Client, NODES};
use orlop_config::{Grade, Inputs, Source};
use orlop_pki::{JoinFiles, default_kubelet_configuration, kubelet_configuration};
use orlop_volume::NodeFiles;
use std::path::Path;

/// The cluster's KubeletConfiguration, or the usual one where the cluster has none to give.
pub(super) async fn configuration(client: &Client, args: &JoinArgs, files: &JoinFiles) -> Result<String> {
    let resolv_conf = NodeFiles::of_this_machine().resolv_conf;
    let resolv_conf = Some(resolv_conf.as_path()).filter(|path| *path != Path::new("/etc/resolv.conf"));
    let found = client.get::<ConfigMap>(&CONFIG_MAPS.within("kube-system").named("kubelet-config")).await;
    let text = match found {
        Ok(map) => kubelet_configuration(&map.data.unwrap_or_default(), resolv_conf)?,
        Err(error) if is_absent(&error) => {
            println!("the cluster has no kube-system/kubelet-config for its nodes: the usual configuration is written");
            if args.cluster_dns.is_empty() {
                println!("pods will not find Services by name: give --cluster-dns, or set clusterDNS later");
            }
            default_kubelet_configuration(&files.ca, &args.cluster_dns, resolv_conf)
        }
        Err(error) if error.is_unauthorized() => bail!(
            "the API server does not take the token {}: tokens run out after a day, `kubeadm token create` makes another",
            args.token.id()
        ),
        Err(error) => return Err(error).context("read kube-system/kubelet-config"),
    };
    let source = Source { path: "kube-system/kubelet-config".into(), text: text.clone() };
    let loaded = orlop_config::load(&Inputs { files: vec![source], ..Inputs::default() })?;
    for warning in loaded.warnings.iter().filter(|warning| warning.grade == Grade::Warning) {
        println!("note: {}: {}", warning.field, warning.instead);
    }
    Ok(text)
}

/// Two machines under one name would each undo what the other does.
pub(super) async fn no_other_node(client: &Client, name: &str) -> Result<()> {
    match client.get::<Node>(&NODES.everywhere().named(name)).await {
        Ok(node) if is_ready(&node) => bail!(
            "a node {name} is in the cluster and is Ready: give this machine another name with --node-name, \
             or delete the Node if it was this machine"
        ),
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("look for a node {name} in the cluster")),
    }
}

/// Not there, or not for us to know.
fn is_absent(error: &ApiError) -> bool {
    error.is_not_found() || error.is_forbidden()
}

pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
