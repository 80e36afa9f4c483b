//! Any history of changes: one by one equals all at once, and no prefix of a plan
//! shows a reader a half-written service.

use crate::whole::{check_whole, targets};
use orlop_ebpf_abi::FrontendKey;
use orlop_lb::{
    Compiler, Endpoint, EndpointPort, Hint, Input, LbPlan, LbTables, Service, ServicePort, ServiceType, TargetPort,
    addr_ip, diff, frontend_key, port_number,
};
use orlop_model::{Protocol, ServiceKey};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
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
            zone: Hint::None,
            node: Hint::None,
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
            other_proxy: false,
            more: None,
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
                let slot = tables.slot(frontend.service, frontend.epoch, index);
                let Some(backend) = slot.and_then(|id| tables.backends.get(&id)) else { continue };
                let found = (addr_ip(backend.addr), port_number(backend.port));
                assert!(old[key].contains(&found), "{op}: an old reader of {key:?} is led to {found:?}");
            }
        }
    }
}

/// Where each frontend must lead, worked out from nothing but the Services.
fn wanted_targets(inputs: &BTreeMap<ServiceKey, Input>) -> BTreeMap<FrontendKey, BTreeSet<(IpAddr, u16)>> {
    let mut wanted = BTreeMap::new();
    // Nobody has an age here: the first by name has what two ask for.
    for Input { service, endpoints } in inputs.values() {
        for port in &service.ports {
            for v4 in [true, false] {
                let own: Vec<IpAddr> = service.cluster_ips.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect();
                let mut keys: Vec<_> = own.iter().map(|ip| frontend_key(*ip, port.port, port.protocol)).collect();
                if let (false, Some(node_port)) = (own.is_empty(), port.node_port) {
                    let any: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                    keys.push(frontend_key(any, node_port, port.protocol));
                }
                let pick = |choose: fn(&Endpoint) -> bool| -> BTreeSet<(IpAddr, u16)> {
                    let fit = endpoints.iter().filter(|one| one.addr.is_ipv4() == v4 && choose(one));
                    fit.filter_map(|one| Some((one.addr, one.target(port)?))).collect()
                };
                let ready = pick(|one| one.ready);
                let usable = if ready.is_empty() { pick(|one| one.serving && one.terminating) } else { ready };
                for key in keys {
                    wanted.entry(key).or_insert_with(|| usable.clone());
                }
            }
        }
    }
    wanted
}

/// What did not change keeps its numbers: frontends that lead where they led and
/// share slots with the same others, and backends that stay.
fn check_kept(before: &LbTables, after: &LbTables) {
    let named = |tables: &LbTables| -> BTreeMap<_, u32> {
        tables.backends.iter().map(|(id, backend)| ((backend.addr, backend.port, backend.proto), *id)).collect()
    };
    let (old, new) = (named(before), named(after));
    assert_eq!((old.len(), new.len()), (before.backends.len(), after.backends.len()), "a backend has two numbers");
    for (name, id) in &new {
        assert!(old.get(name).is_none_or(|was| was == id), "backend {name:?} got another number");
    }
    let (were, are) = (targets(before), targets(after));
    for (key, frontend) in &after.frontends {
        let Some(was) = before.frontends.get(key).filter(|was| was.service == frontend.service) else { continue };
        if were[key] == are[key] {
            assert_eq!(was.epoch, frontend.epoch, "{key:?} got new slots for nothing");
        }
    }
    let used: BTreeSet<u32> = after.slots.values().flatten().copied().filter(|id| *id != 0).collect();
    for (id, backend) in &after.backends {
        assert_eq!(backend.state == 0, used.contains(id), "backend {id} is active exactly while a slot names it");
    }
}

fn run(changes: Vec<Change>) {
    let mut compiler = Compiler::new();
    let mut inputs: BTreeMap<ServiceKey, Input> = BTreeMap::new();
    let mut maps = LbTables::default();
    let mut succeed = usize::MAX;
    for change in changes {
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
        let wanted = compiler.tables();
        assert_eq!(plan.0, diff(&maps, &wanted).0);
        assert_eq!(targets(&wanted), wanted_targets(&inputs));
        check_kept(&maps, &wanted);
        let (at_once, more) = Compiler::restore(wanted.clone(), inputs.values().cloned());
        assert!(more.is_empty() && at_once.tables() == wanted, "one by one is not all at once: {:?}", more.0);
        carry_out(&mut maps, &plan, &wanted, succeed);
        if std::mem::replace(&mut succeed, usize::MAX) != usize::MAX {
            let plan = compiler.resync(maps.clone());
            let wanted = compiler.tables();
            assert_eq!(plan.0, diff(&maps, &wanted).0);
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
