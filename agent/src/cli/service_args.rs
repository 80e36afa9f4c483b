//! Flags of `orlop agent` about Services and what leaves the cluster.

use clap::Args;
use ipnet::IpNet;
use orlop_config::{Acceleration, HealthzAddress, Interval, LoadBalancing, MaglevTableSize, NodePortMode, SnatPorts};

/// What a flag leaves `None` (or empty) the configuration files may say.
#[derive(Debug, Clone, Default, Args)]
pub struct ServiceArgs {
    /// Where NodePorts answer: networks, again for more, or `primary` for the Node's own addresses [default: all
    /// addresses of the node]
    #[arg(long, value_name = "CIDR", value_delimiter = ',', alias = "nodeport-addresses")]
    pub node_port_addresses: Vec<String>,
    /// How NodePorts reach backends on other nodes: `snat` through this node, `dsr` with replies that go directly
    /// to the client [default: snat]
    #[arg(long, value_name = "MODE")]
    pub node_port_mode: Option<NodePortMode>,
    /// Where packets to backends on other nodes are sent on: `disabled` in tc, `native` in the device's driver (XDP),
    /// `best-effort` there where the driver can, `generic` for trying [default: disabled]
    #[arg(long, value_name = "WHERE")]
    pub node_port_acceleration: Option<Acceleration>,
    /// How a backend is chosen: `random`, or `maglev`, the same on every node [default: random]
    #[arg(long, value_name = "HOW")]
    pub load_balancing: Option<LoadBalancing>,
    /// Entries of a Service's Maglev table, a prime [default: 1021]
    #[arg(long, value_name = "ENTRIES")]
    pub maglev_table_size: Option<MaglevTableSize>,
    /// Source ports of connections that leave with the node's address [default: 61000-65535]
    #[arg(long, value_name = "FIRST-LAST")]
    pub snat_ports: Option<SnatPorts>,
    /// Give connections that pods open to addresses outside the cluster the node's address [default: true]
    #[arg(long, value_name = "BOOL")]
    pub masquerade: Option<bool>,
    /// What pods reach with their own address; again for more [default: the pods of all nodes, always among it]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub non_masquerade_cidr: Vec<IpNet>,
    /// Where /healthz and /livez of Services answer; empty for nowhere [default: 0.0.0.0:10256 in a cluster]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub healthz_bind_address: Option<HealthzAddress>,
    /// How often the Service tables are compared with what they should be; 0 for never [default: 1m]
    #[arg(long, value_name = "TIME")]
    pub service_audit_interval: Option<Interval>,
}
