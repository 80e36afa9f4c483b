//! Any history of changes: one by one equals all at once, and no prefix of a plan
//! shows a reader a half-written service.

use crate::whole::{check_whole, targets};
use orlop_ebpf_abi::SlotKey;
use orlop_lb::{
    Compiler, Endpoint, EndpointPort, Ids, Input, LbPlan, LbTables, Service, ServicePort, ServiceType, TargetPort,
    addr_ip, compile, diff, port_number,
};
use orlop_model::{Protocol, ServiceKey};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone)]
enum Change {
    Upsert(Input),
    Endpoints(ServiceKey, Vec<Endpoint>),
    Remove(ServiceKey),
    /// Only so many operations of the plan succeed; then a dump.
    Fault(usize),
    Restart,
}

fn key() -> impl Strategy<Value = ServiceKey> {
    (0..4u8).prop_map(|n| ServiceKey::new("default", format!("s{n}")).unwrap())
}

/// A target for whichever transport the Service has.
fn target((name, port): (&str, u16)) -> [EndpointPort; 2] {
    [Protocol::Tcp, Protocol::Udp].map(|protocol| EndpointPort { name: name.into(), protocol, port })
}

fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (any::<bool>(), 0..6u8, any::<[bool; 3]>(), prop::option::of(1..3u16)).prop_map(
        |(v4, host, [ready, serving, terminating], b)| Endpoint {
            addr: if v4 {
                Ipv4Addr::new(10, 1, 0, host).into()
            } else {
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into()
            },
            pod: None,
            local: true,
            ready,
            serving,
            terminating,
            ports: [("a", 8080)].into_iter().chain(b.map(|b| ("b", b))).flat_map(target).collect(),
        },
    );
    prop::collection::vec(one, 0..6)
}

fn input() -> impl Strategy<Value = Input> {
    // Few addresses, so that Services contend for them.
    (key(), any::<[bool; 4]>(), 0..4u8, endpoints()).prop_map(|(key, [v6, node, two, udp], host, endpoints)| {
        let mut cluster_ips: Vec<IpAddr> = vec![Ipv4Addr::new(10, 96, 0, host).into()];
        if v6 {
            cluster_ips.push(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, host.into()).into());
        }
        let port = |name: &str, port, node_port| ServicePort {
            name: name.to_owned(),
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            port,
            target_port: TargetPort::Number(1),
            node_port: node.then_some(node_port),
        };
        let mut ports = vec![port("a", 80, 30080)];
        if two {
            ports.push(port("b", 81, 30081));
        }
        let service = Service {
            key,
            created: None,
            kind: if node { ServiceType::NodePort } else { ServiceType::ClusterIP },
            headless: false,
            cluster_ips,
            families: Vec::new(),
            family_policy: None,
            selector: BTreeMap::new(),
            publish_not_ready: false,
            ports,
            external_name: None,
        };
        Input { service, endpoints }
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => input().prop_map(Change::Upsert),
        4 => (key(), endpoints()).prop_map(|(key, endpoints)| Change::Endpoints(key, endpoints)),
        2 => key().prop_map(Change::Remove),
        1 => (0..12usize).prop_map(Change::Fault),
        1 => Just(Change::Restart),
    ]
}

/// Carries out a plan; after each operation the tables are whole, each frontend
/// leads where it led before the plan or where it leads after it, and a reader that
/// still holds a frontend from before finds a backend that was that frontend's, or
/// nothing (and then reads the frontend again).
fn carry_out(tables: &mut LbTables, plan: &LbPlan, wanted: &LbTables, ops: usize) {
    let (start, old, new) = (tables.clone(), targets(tables), targets(wanted));
    for op in plan.0.iter().take(ops) {
        tables.apply(op);
        check_whole(tables);
        for (key, now) in targets(tables) {
            assert!(old.get(&key) == Some(&now) || new.get(&key) == Some(&now), "{op} misleads {key:?}\n{tables}");
        }
        for (key, frontend) in &start.frontends {
            for index in 0..frontend.count {
                let slot = SlotKey { service: frontend.service, epoch: frontend.epoch, index };
                let Some(backend) = tables.slots.get(&slot).and_then(|id| tables.backends.get(id)) else { continue };
                let found = (addr_ip(backend.addr), port_number(backend.port));
                assert!(old[key].contains(&found), "{op}: an old reader of {key:?} is led to {found:?}");
            }
        }
    }
}

/// What all at once says: tables from the same numbers, and the plan to them.
fn at_once(inputs: &BTreeMap<ServiceKey, Input>, present: &LbTables, ids: &Ids) -> (LbTables, LbPlan) {
    let wanted = compile(inputs.values().cloned(), present, &mut ids.clone());
    let plan = diff(present, &wanted);
    (wanted, plan)
}

fn run(changes: Vec<Change>) {
    let mut compiler = Compiler::new();
    let mut inputs: BTreeMap<ServiceKey, Input> = BTreeMap::new();
    let mut maps = LbTables::default();
    let mut succeed = usize::MAX;
    for change in changes {
        let ids = compiler.ids();
        let plan = match change {
            Change::Fault(ops) => {
                succeed = ops;
                continue;
            }
            Change::Restart => {
                let (fresh, plan) = Compiler::restore(maps.clone(), inputs.values().cloned());
                assert!(plan.is_empty(), "after a restart: {:?}", plan.0);
                compiler = fresh;
                continue;
            }
            Change::Upsert(input) => {
                inputs.insert(input.service.key.clone(), input.clone());
                compiler.set_service(&input)
            }
            Change::Endpoints(key, endpoints) => {
                let Some(input) = inputs.get_mut(&key) else { continue };
                input.endpoints = endpoints;
                compiler.set_service(input)
            }
            Change::Remove(key) => {
                inputs.remove(&key);
                compiler.remove_service(&key)
            }
        };
        let (wanted, same) = at_once(&inputs, &maps, &ids);
        assert_eq!(plan, same);
        assert_eq!(compiler.tables(), wanted);
        carry_out(&mut maps, &plan, &wanted, succeed);
        if std::mem::replace(&mut succeed, usize::MAX) != usize::MAX {
            let plan = compiler.resync(maps.clone());
            let wanted = compiler.tables();
            assert_eq!(plan, diff(&maps, &wanted));
            carry_out(&mut maps, &plan, &wanted, usize::MAX);
        }
        assert_eq!(maps, compiler.tables());
        assert!(compiler.resync(maps.clone()).is_empty());
        assert!(diff(&maps, &maps).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history(changes in prop::collection::vec(change(), 1..24)) {
        run(changes);
    }
}
