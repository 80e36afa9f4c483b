//! What is told of the tables: how full they are, and what had no room.

mod world;

use orlop_datapath::{Fault, NodeDevice, NodeSettings};
use orlop_ebpf_abi::{FrontendFlags, MAPS, MapKind};
use orlop_model::Protocol::Tcp;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use world::World;
use world::peers::serve_tcp;
use world::service::{Service, apply};

fn used(world: &World) -> BTreeMap<&'static str, u32> {
    world.datapath().table_use().unwrap().into_iter().map(|table| (table.name, table.entries)).collect()
}

#[test]
fn tables_are_counted_and_replaced() {
    World::run("tables", |world| {
        let (a, b) = (world.pod_v4(1), world.pod_v4(2));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        let empty = used(world);
        let tables = MAPS.iter().filter(|spec| !matches!(spec.kind, MapKind::Array | MapKind::PerCpuArray));
        assert!(tables.map(|spec| spec.name).eq(world.datapath().table_use().unwrap().iter().map(|table| table.name)));
        assert_eq!((empty["FRONTENDS"], empty["PODS"], empty["NETNS"], empty["DEVICE_COUNTERS"]), (0, 4, 3, 2));
        // More than is read at once, in most tables.
        let many: Vec<Service> = (1..=5_000)
            .map(|number| {
                let addr: SocketAddr = ([10, 96, (number >> 8) as u8, number as u8], 80).into();
                let backend = SocketAddr::from(([10, 1, 0, 2], 8_080 + number as u16)).to_string();
                let service = Service::new(number, Tcp, &addr.to_string(), &[(number, &backend)]);
                service.affinity(60).range("198.51.100.0", 24)
            })
            .collect();
        let mut services = many.clone();
        services.push(Service::new(9_999, Tcp, "10.97.0.1:80", &[(9_999, "10.1.0.2:8080")]).affinity(60));
        apply(world.datapath(), &services);
        let stream = a.ns.run(|| TcpStream::connect("10.97.0.1:80").unwrap());
        let now = used(world);
        for (name, wanted) in [
            ("FRONTENDS", 5_001),
            ("SLOTS", 5_001),
            ("BACKENDS", 5_001),
            ("SOURCE_RANGES", 5_000),
            ("SOCKETS", 1),
            ("AFFINITY", 1),
            ("SERVICE_COUNTERS", 1),
        ] {
            assert_eq!(now[name], wanted, "{name}");
        }
        drop(stream);
        let faults = world.datapath().faults().unwrap();
        assert_eq!(faults.len(), Fault::ALL.len());
        assert!(faults.iter().all(|(_, count)| *count == 0), "{faults:?}");
    });
}

#[test]
fn a_full_table_is_named() {
    World::run("full", |world| {
        world.datapath = None;
        orlop_datapath::remove_all(&world.config.bpf_dir).unwrap();
        world.config.map_entries.insert("SOURCE_RANGES".into(), 1);
        world.open();
        let service = Service::new(1, Tcp, "203.0.113.1:80", &[(1, "10.1.0.2:8080")]).flags(FrontendFlags::EXTERNAL);
        let wanted = world::service::tables(&[service.range("198.51.100.0", 24).range("192.0.2.0", 24)]);
        let plan = orlop_lb::diff(&world.datapath().dump().unwrap(), &wanted);
        let err = world.datapath().apply(&plan.0).unwrap_err();
        let cause = std::error::Error::source(&err).unwrap();
        assert_eq!(cause.to_string(), "write map SOURCE_RANGES");
        // What was done before it stays, and the dump says so.
        assert_eq!(world.datapath().dump().unwrap().source_ranges.len(), 1);
    });
}

#[test]
fn what_the_node_is_told_replaces_what_it_was_told_before() {
    World::run("told", |world| {
        let datapath = world.datapath();
        let device = |index| NodeDevice {
            device: orlop_model::Ifindex::new(index).unwrap(),
            snat_v4: Some("192.0.2.2".parse().unwrap()),
            snat_v6: None,
            mac: [2; 6],
            mtu: 1_500,
            is_tunnel: false,
            answers_neighbours: true,
        };
        for (devices, networks, addrs) in [(3, 2, 4), (1, 2, 4), (0, 0, 0), (2, 1, 2)] {
            let devices: Vec<NodeDevice> = (1..=devices).map(device).collect();
            datapath.set_devices(&devices).unwrap();
            let networks: Vec<_> = ["10.1.0.0/16".parse().unwrap(), "fd01::/64".parse().unwrap()][..networks].to_vec();
            datapath.set_non_masquerade(&networks).unwrap();
            let own = ["192.0.2.2", "::1", "127.0.0.1"].map(|addr| (addr.parse().unwrap(), true));
            let peers = ["192.0.2.3".parse().unwrap()];
            datapath.set_node_addrs(&own[..addrs * 3 / 4], &peers[..addrs / 2 / 2]).unwrap();
            datapath.set_settings(&NodeSettings::default()).unwrap();
            let used = used(world);
            assert_eq!((used["DEVICES"], used["NON_MASQUERADE"]), (devices.len() as u32, networks.len() as u32));
            assert_eq!(used["NODE_ADDRS"], (addrs * 3 / 4 + addrs / 4) as u32);
        }
    });
}
