//! What the programs are told of the node: its addresses, the devices by which packets
//! leave it, what it was told to do. Each call replaces what was said before: first what is
//! new, then what is gone, so that what stays is there all the time.

use ipnet::IpNet;
use orlop_ebpf_abi::{Addr, Device, DeviceFlags, NetworkKey, NodeAddrFlags, Settings, SettingsFlags};
use orlop_lb::addr_bytes;
use orlop_model::Ifindex;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::table::{Plain, Table};
use crate::{Datapath, Error};

/// A device by which packets leave the node: an uplink or a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeDevice {
    /// Which.
    pub device: Ifindex,
    /// Source of translated IPv4 packets that leave by it.
    pub snat_v4: Option<Ipv4Addr>,
    /// Source of translated IPv6 packets that leave by it.
    pub snat_v6: Option<Ipv6Addr>,
    /// Its hardware address; zero for a device without.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Leads to other nodes' pods only: nothing is masqueraded on it.
    pub is_tunnel: bool,
    /// ARP and neighbour solicitations for local pods' addresses are answered on it.
    pub answers_neighbours: bool,
}

/// What the node was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSettings {
    /// Connections that pods open to addresses outside the non-masquerade networks get the node's address.
    pub masquerade: bool,
    /// First source port of translated packets.
    pub snat_port_first: u16,
    /// How many there are from there on; 0: none is translated.
    pub snat_ports: u16,
}

impl Default for NodeSettings {
    /// Masquerade, and the ports above those that Linux gives its own sockets
    /// (`ip_local_port_range` ends at 60999).
    fn default() -> Self {
        Self { masquerade: true, snat_port_first: 61_000, snat_ports: u16::MAX - 61_000 + 1 }
    }
}

/// Makes a table hold exactly `wanted`.
fn replace<K: Plain + Ord, V: Plain>(table: &Table<K, V>, wanted: &BTreeMap<K, V>) -> Result<(), Error> {
    for (key, value) in wanted {
        table.put(key, value)?;
    }
    let mut stale = table.keys()?.into_iter().filter(|key| !wanted.contains_key(key));
    stale.try_for_each(|key| table.remove(&key))
}

fn own_flags(serves_node_ports: bool) -> u32 {
    NodeAddrFlags::OWN | if serves_node_ports { NodeAddrFlags::NODE_PORTS } else { 0 }
}

fn network_key(network: IpNet) -> NetworkKey {
    let network = network.trunc();
    let before = if network.addr().is_ipv4() { 96 } else { 0 };
    NetworkKey { bits: before + u32::from(network.prefix_len()), addr: addr_bytes(network.addr()) }
}

impl Datapath {
    /// The node's own addresses, and on which of them NodePorts are served; and those of
    /// other nodes, whose NodePorts arrive here when they forward with DSR. Host ports
    /// are served on all own addresses. `127.0.0.1` stands for all of IPv4's loopback, on which, as on
    /// `::1`, only processes in the node's namespace are served.
    ///
    /// # Errors
    /// A full map.
    pub fn set_node_addrs(&self, own: &[(IpAddr, bool)], peers: &[IpAddr]) -> Result<(), Error> {
        let mut wanted: BTreeMap<Addr, u32> = BTreeMap::new();
        for addr in peers {
            wanted.insert(addr_bytes(*addr), NodeAddrFlags::PEER);
        }
        // An address that two nodes claim is ours, and not a peer's.
        for (addr, serves) in own {
            wanted.insert(addr_bytes(*addr), own_flags(*serves));
        }
        replace(&self.node_addrs, &wanted)
    }

    /// As [`set_node_addrs`](Self::set_node_addrs) for these own addresses alone; all others stay as they are.
    ///
    /// # Errors
    /// A full map.
    pub fn add_node_addrs(&self, own: &[(IpAddr, bool)]) -> Result<(), Error> {
        own.iter().try_for_each(|(addr, serves)| self.node_addrs.put(&addr_bytes(*addr), &own_flags(*serves)))
    }

    /// The devices by which packets leave the node.
    ///
    /// # Errors
    /// A full map.
    pub fn set_devices(&self, devices: &[NodeDevice]) -> Result<(), Error> {
        let value = |device: &NodeDevice| {
            let bit = |is: bool, bit| if is { bit } else { 0 };
            Device {
                snat_v4: device.snat_v4.map_or([0; 16], |addr| addr_bytes(addr.into())),
                snat_v6: device.snat_v6.map_or([0; 16], |addr| addr_bytes(addr.into())),
                mac: device.mac,
                mtu: device.mtu,
                flags: bit(device.is_tunnel, DeviceFlags::TUNNEL)
                    | bit(device.answers_neighbours, DeviceFlags::ANSWER_NEIGHBOURS),
            }
        };
        replace(&self.devices, &devices.iter().map(|device| (device.device.get(), value(device))).collect())
    }

    /// What the node was told to do. Before the first call nothing is translated that
    /// needs a source port.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_settings(&self, settings: &NodeSettings) -> Result<(), Error> {
        let flags = if settings.masquerade { SettingsFlags::MASQUERADE } else { 0 };
        let NodeSettings { snat_port_first, snat_ports, .. } = *settings;
        self.settings.put(&0, &Settings { flags, snat_port_first, snat_ports })
    }

    /// The networks that pods reach with their own addresses.
    ///
    /// # Errors
    /// A full map.
    pub fn set_non_masquerade(&self, networks: &[IpNet]) -> Result<(), Error> {
        replace(&self.non_masquerade, &networks.iter().map(|network| (network_key(*network), 1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_count_their_bits_in_mapped_addresses() {
        let check = |network: &str, bits, addr: &str| {
            let wanted = NetworkKey { bits, addr: addr_bytes(addr.parse().unwrap()) };
            assert_eq!(network_key(network.parse().unwrap()), wanted, "{network}");
        };
        check("10.1.2.3/16", 112, "10.1.0.0");
        check("0.0.0.0/0", 96, "0.0.0.0");
        check("fd00:1::7/32", 32, "fd00:1::");
        check("::/0", 0, "::");
    }

    #[test]
    fn source_ports_begin_above_the_ones_that_sockets_get() {
        let NodeSettings { snat_port_first, snat_ports, .. } = NodeSettings::default();
        assert_eq!(u32::from(snat_port_first) + u32::from(snat_ports), 65_536);
    }
}
