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
