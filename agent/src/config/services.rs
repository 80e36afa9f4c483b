//! What the agent was told of Services: flags over OrlopConfiguration over KubeProxyConfiguration.

use crate::cli::ServiceArgs;
use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use jiff::SignedDuration;
use orlop_config::{
    Acceleration, HealthzAddress, KubeProxyConfiguration, LoadBalancing, NodePortAddresses, NodePortMode,
    OrlopConfiguration, SnatPorts,
};
use orlop_ebpf_abi::{MAPS, MapKind};
use orlop_lb::ServiceSettings;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How often the tables are audited where nobody said it.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceConfig {
    /// Where NodePorts answer.
    pub node_port_addresses: NodePortAddresses,
    /// They answer on 127.0.0.0/8 and ::1 as well, where `node_port_addresses` allows it.
    pub localhost_node_ports: bool,
    /// How they reach other nodes.
    pub node_port_mode: NodePortMode,
    /// Where their packets are sent on.
    pub acceleration: Acceleration,
    /// Entries of Maglev tables; `None` chooses backends at random.
    pub maglev: Option<u32>,
    /// Source ports of translated connections.
    pub snat_ports: SnatPorts,
    /// Connections of pods to addresses outside get the node's.
    pub masquerade: bool,
    /// What they reach with their own, besides all nodes' pods.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// Where the health check of Services answers.
    pub healthz: Option<SocketAddr>,
    /// How often the tables are audited; `None` for never.
    pub audit_interval: Option<Duration>,
    /// Entries of eBPF maps that are not made yet.
    pub map_entries: BTreeMap<String, u32>,
}

impl ServiceConfig {
    /// Puts the three over one another. `in_cluster`: there is an API server.
    ///
    /// # Errors
    /// Names the flag or key, its value and what is wrong with it.
    pub fn of(
        args: ServiceArgs,
        file: &OrlopConfiguration,
        proxy: &KubeProxyConfiguration,
        in_cluster: bool,
    ) -> Result<Self> {
        let said = &file.services;
        let node_port_addresses = match args.node_port_addresses.as_slice() {
            [] => said.node_port_addresses.clone().unwrap_or_else(|| proxy.node_ports()),
            list => NodePortAddresses::parse(list)
                .with_context(|| format!("understand --node-port-addresses {}", list.join(",")))?,
        };
        let balancing = args.load_balancing.or(said.load_balancing).unwrap_or_default();
        let size = args.maglev_table_size.or(said.maglev_table_size);
        ensure!(
            size.is_none() || balancing == LoadBalancing::Maglev,
            "--maglev-table-size (services.maglevTableSize) is {} and for load balancing by maglev: say --load-balancing \
             maglev (services.loadBalancing), too",
            size.unwrap_or_default().get()
        );
        let non_masquerade = match args.non_masquerade_cidr {
            none if none.is_empty() => file.non_masquerade_cidrs.clone(),
            said => said,
        };
        let healthz = args.healthz_bind_address.or(said.healthz_bind_address);
        let default = HealthzAddress(in_cluster.then_some(proxy.healthz_bind_address));
        let interval = args.service_audit_interval.or(said.audit_interval).map(|interval| interval.0);
        Ok(Self {
            node_port_addresses,
            localhost_node_ports: proxy.iptables.localhost_node_ports,
            node_port_mode: args.node_port_mode.or(said.node_port_mode).unwrap_or_default(),
            acceleration: args.node_port_acceleration.or(said.node_port_acceleration).unwrap_or_default(),
            maglev: (balancing == LoadBalancing::Maglev).then(|| size.unwrap_or_default().get()),
            snat_ports: args.snat_ports.or(said.snat_ports).unwrap_or_default(),
            masquerade: args.masquerade.or(file.masquerade).unwrap_or(true),
            non_masquerade_cidrs: union(non_masquerade, &proxy.cluster_cidrs),
            healthz: healthz.unwrap_or(default).0,
            audit_interval: interval.map_or(Some(AUDIT_INTERVAL), audit_interval),
            map_entries: check_entries(&file.map_entries)?,
        })
    }

    /// What the Services compiler has to know.
    pub fn compiler(&self) -> ServiceSettings {
        ServiceSettings { maglev: self.maglev, dsr: self.node_port_mode == NodePortMode::Dsr }
    }

    /// Whether NodePorts answer on this address of the node; `primary` says if it is one of the
    /// Node object's.
    pub fn serves_node_ports(&self, address: IpAddr, primary: bool) -> bool {
        let local = !address.is_loopback() || self.localhost_node_ports;
        local && self.node_port_addresses.serve(address, primary)
    }
}

fn audit_interval(said: SignedDuration) -> Option<Duration> {
    Duration::try_from(said).ok().filter(|time| !time.is_zero())
}

fn union(mut networks: Vec<IpNet>, more: &[IpNet]) -> Vec<IpNet> {
    networks.extend(more);
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// Only maps that hold entries by need may be larger or smaller; arrays are as long as their keys.
fn check_entries(said: &BTreeMap<String, u32>) -> Result<BTreeMap<String, u32>> {
    let arrays = [MapKind::Array, MapKind::PerCpuArray];
    let sizable: Vec<&str> = MAPS.iter().filter(|map| !arrays.contains(&map.kind)).map(|map| map.name).collect();
    for (name, entries) in said {
        ensure!(
            sizable.contains(&name.as_str()),
            "mapEntries {name}: there is no such map, or its size is fixed: it can be one of {}",
            sizable.join(", ")
        );
        ensure!(*entries > 0, "mapEntries {name}: {entries} must be greater than 0");
    }
    Ok(said.clone())
}

#[cfg(test)]
mod tests;
