//! What holds where nobody said anything.

use anyhow::{Context, Result};
use ipnet::IpNet;
use orlop_cni::PeerMode;
use orlop_config::{KubeletConfiguration, NodeRouting};
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;

/// The first list with something in it.
pub(super) fn first_said<T>(lists: impl IntoIterator<Item = Vec<T>>) -> Option<Vec<T>> {
    lists.into_iter().find(|list| !list.is_empty())
}

pub(super) fn default_net(text: &str) -> IpNet {
    text.parse().expect("a constant network")
}

/// Without a cluster: what the kubelet's `podCIDR` says, else a range of ours.
pub(super) fn pod_cidrs(kubelet: &KubeletConfiguration) -> Vec<IpNet> {
    let said = kubelet.pod_cidr.iter().flat_map(|text| text.split(','));
    let said: Vec<IpNet> = said.filter_map(|text| text.trim().parse().ok()).collect();
    if said.is_empty() { vec![default_net("10.244.0.0/24")] } else { said }
}

/// The configuration's word for it.
pub(super) const fn peer_mode(told: NodeRouting) -> PeerMode {
    match told {
        NodeRouting::Auto => PeerMode::Auto,
        NodeRouting::Direct => PeerMode::Direct,
        NodeRouting::Vxlan => PeerMode::Vxlan,
        NodeRouting::None => PeerMode::None,
    }
}

/// The node's addresses, and whether somebody said them. `0.0.0.0` and `::` ask for the default one of their family,
/// as in the kubelet's `--node-ip`.
pub(super) fn node_ips(said: Option<Vec<IpAddr>>, default: impl Fn() -> Vec<IpAddr>) -> (bool, Vec<IpAddr>) {
    let Some(said) = said else { return (false, default()) };
    let given = said.iter().any(|ip| !ip.is_unspecified());
    let found = if said.iter().any(IpAddr::is_unspecified) { default() } else { Vec::new() };
    let one = |ip: IpAddr| match ip.is_unspecified() {
        true => found.iter().copied().find(|it| it.is_ipv4() == ip.is_ipv4()),
        false => Some(ip),
    };
    (given, said.into_iter().filter_map(one).collect())
}

/// The host's name in lower case.
pub(crate) fn default_node_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("read the host name")?;
    let name = name.to_str().context("the host name is not UTF-8: give --node-name")?;
    Ok(name.to_lowercase())
}

/// The address that a packet to the world would leave from, found by connecting a
/// UDP socket, which sends nothing.
pub(super) fn default_node_ips() -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (any, world) in [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")] {
        let local = UdpSocket::bind(any).and_then(|socket| {
            socket.connect(world)?;
            socket.local_addr()
        });
        if let Ok(local) = local {
            ips.push(local.ip());
        }
    }
    ips
}

/// The one beside this program.
pub(super) fn default_monitor() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this executable, to find orlop-monitor beside it")?;
    Ok(own.with_file_name("orlop-monitor"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::AgentArgs;
    use crate::config::Config;
    use orlop_cni::PeerSettings;

    #[track_caller]
    fn check(keys: &str, flags: AgentArgs, want: Result<PeerSettings, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, format!("apiVersion: orlop.dev/v1alpha1\nkind: OrlopConfiguration\n{keys}\n")).unwrap();
        let node_ip = vec!["192.0.2.1".parse().unwrap()];
        let read = Config::read(AgentArgs { config: vec![file], node_name: Some("n1".into()), node_ip, ..flags });
        assert_eq!(read.map(|config| config.peers).map_err(|error| error.to_string()), want.map_err(str::to_owned));
    }

    #[test]
    fn how_pods_of_other_nodes_are_reached() {
        let usual = PeerSettings { mode: PeerMode::Auto, vni: 1, port: 8472 };
        let told = PeerSettings { mode: PeerMode::Vxlan, vni: 7, port: 4789 };
        let file = "nodeRouting: vxlan\nvxlanVNI: 7\nvxlanPort: 4789";
        let flags = || AgentArgs { node_routing: Some(NodeRouting::None), vxlan_vni: Some(9), ..AgentArgs::default() };
        check("", AgentArgs::default(), Ok(usual));
        check(file, AgentArgs::default(), Ok(told));
        check(file, flags(), Ok(PeerSettings { mode: PeerMode::None, vni: 9, port: 4789 }));
        check("nodeRouting: direct", AgentArgs::default(), Ok(PeerSettings { mode: PeerMode::Direct, ..usual }));
        check(
            "vxlanVNI: 16777216",
            AgentArgs::default(),
            Err("--vxlan-vni 16777216 is not a number from 1 to 16777215"),
        );
        check("vxlanPort: 0", AgentArgs::default(), Err("--vxlan-port 0 is no port"));
    }
}
