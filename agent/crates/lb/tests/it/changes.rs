//! Any history of changes: one by one equals all at once, and no prefix of a plan
//! shows a reader a half-written service.

use crate::scripts::audit;
use crate::whole::{Lead, check_whole, leads};
use orlop_ebpf_abi::{FrontendFlags, FrontendKey};
use orlop_lb::{
    Compiler, Endpoint, EndpointPort, Hint, HostPort, HostPorts, Input, LbPlan, LbTables, LoadBalancerIp, Service,
    ServiceMore, ServicePort, ServiceSettings, ServiceType, TargetPort, addr_ip, diff, frontend_key, port_number,
};
use orlop_model::{PodKey, PodUid, Protocol, ServiceKey};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Debug, Clone)]
enum Change {
    Upsert(Input),
    Endpoints(ServiceKey, Vec<Endpoint>),
    Remove(ServiceKey),
    /// Of a pod; none when there are no ports.
    HostPorts(u8, Vec<HostPort>),
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
            // An address is on one node.
            local: host.is_multiple_of(2),
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

fn more() -> impl Strategy<Value = Option<Box<ServiceMore>>> {
    let external: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
    let range: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
    let all = (any::<[bool; 5]>(), 0..3u8).prop_map(
        move |([internal_local, external_local, is_external, v6, affinity], ranges)| {
            let v6 = v6.then_some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
            let balancer = LoadBalancerIp { ip: Ipv4Addr::new(192, 0, 2, 2).into(), proxy: false };
            Box::new(ServiceMore {
                internal_local,
                external_local,
                external_ips: is_external.then_some(external).into_iter().chain(v6).collect(),
                load_balancer_ips: (ranges > 0).then_some(balancer).into_iter().collect(),
                source_ranges: [range, "192.0.2.0/24".parse().unwrap()].into_iter().take(ranges.into()).collect(),
                affinity_s: affinity.then_some(60),
                ..ServiceMore::default()
            })
        },
    );
    prop::option::of(all)
}

fn host_ports() -> impl Strategy<Value = Vec<HostPort>> {
    let ips = [None, Some(IpAddr::from(Ipv4Addr::LOCALHOST)), Some(Ipv4Addr::UNSPECIFIED.into())];
    let port = (prop::sample::select(ips.to_vec()), 30079..30082u16, any::<bool>(), 1..3u16).prop_map(
        |(host_ip, port, udp, target)| HostPort {
            host_ip,
            port,
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            target,
        },
    );
    prop::collection::vec(port, 0..4)
}

fn of_pod(n: u8, ports: Vec<HostPort>) -> HostPorts {
    HostPorts {
        uid: PodUid::new(format!("uid-{n}")).unwrap(),
        pod: PodKey::new("default", "p").unwrap(),
        created: None,
        ips: vec![Ipv4Addr::new(10, 1, 0, n).into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()],
        ports,
    }
}

fn input() -> impl Strategy<Value = Input> {
    // Few addresses, so that Services contend for them.
    (key(), any::<[bool; 4]>(), 0..4u8, endpoints(), more()).prop_map(
        |(key, [v6, node, two, udp], host, endpoints, more)| {
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
                more,
            };
            Input { service, endpoints }
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => input().prop_map(Change::Upsert),
        4 => (key(), endpoints()).prop_map(|(key, endpoints)| Change::Endpoints(key, endpoints)),
        2 => key().prop_map(Change::Remove),
        2 => (0..3u8, host_ports()).prop_map(|(n, ports)| Change::HostPorts(n, ports)),
        1 => (0..12usize).prop_map(Change::Fault),
        1 => Just(Change::Restart),
    ]
}

/// Carries out a plan; after each operation the tables are whole, each frontend
/// leads where it led before the plan or where it leads after it, lets in whom it let
/// in before or lets in after, and a reader that still holds a frontend from before
/// finds a backend that was that frontend's, or nothing (and then reads the frontend
/// again).
fn carry_out(tables: &mut LbTables, plan: &LbPlan, wanted: &LbTables, ops: usize) {
    let (start, old, new) = (tables.clone(), leads(tables), leads(wanted));
    let leads_as = |now: &Lead, other: Option<&Lead>| {
        let ranges = |other: &Lead| now.ranges.is_superset(&other.ranges);
        other.is_some_and(|other| Lead { ranges: other.ranges.clone(), ..now.clone() } == *other && ranges(other))
    };
    for op in plan.0.iter().take(ops) {
        tables.apply(op);
        check_whole(tables);
        for (key, now) in leads(tables) {
            let fine = leads_as(&now, old.get(&key)) || leads_as(&now, new.get(&key));
            assert!(fine, "{op} misleads {key:?}\n{tables}");
        }
        for (key, frontend) in &start.frontends {
            for index in 0..frontend.maglev_first() + frontend.maglev {
                let slot = tables.slot(frontend.service, frontend.epoch, index);
                let Some(backend) = slot.and_then(|id| tables.backends.get(&id)) else { continue };
                let found = SocketAddr::new(addr_ip(backend.addr), port_number(backend.port));
                let was = old[key].cluster.contains(&found) || old[key].local.contains(&found);
                assert!(was, "{op}: an old reader of {key:?} is led to {found:?}");
            }
        }
    }
}

/// Where a frontend must lead: the cluster set, the local set, the flags.
type Wanted = (BTreeSet<SocketAddr>, BTreeSet<SocketAddr>, u32);

/// Worked out from nothing but the Services and the pods.
fn wanted(
    inputs: &BTreeMap<ServiceKey, Input>,
    pods: &BTreeMap<u8, HostPorts>,
    dsr: bool,
) -> BTreeMap<FrontendKey, Wanted> {
    let mut wanted = BTreeMap::new();
    // Nobody has an age here: the first by name has what two ask for.
    for Input { service, endpoints } in inputs.values() {
        for port in &service.ports {
            for v4 in [true, false] {
                let keys = wanted_keys(service, port, v4, dsr);
                let pick = |choose: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
                    let fit = endpoints.iter().filter(|one| one.addr.is_ipv4() == v4 && choose(one));
                    fit.filter_map(|one| Some(SocketAddr::new(one.addr, one.target(port)?))).collect()
                };
                let usable = |local: bool| {
                    let ready = pick(&|one| one.ready && (one.local || !local));
                    let last = || pick(&|one| one.serving && one.terminating && (one.local || !local));
                    if ready.is_empty() { last() } else { ready }
                };
                let policies = FrontendFlags::INTERNAL_LOCAL | FrontendFlags::EXTERNAL_LOCAL | FrontendFlags::DSR;
                let local = keys.iter().any(|(_, flags)| flags & policies != 0);
                let sets = (usable(false), if local { usable(true) } else { BTreeSet::new() });
                for (key, flags) in keys {
                    wanted.entry(key).or_insert_with(|| (sets.0.clone(), sets.1.clone(), flags));
                }
            }
        }
    }
    let node_ports: BTreeSet<FrontendKey> = wanted.keys().copied().collect();
    for pod in pods.values() {
        for port in &pod.ports {
            for v4 in [true, false] {
                let any = unspecified(v4);
                let ip = port.host_ip.unwrap_or(any);
                let node_port = frontend_key(any, port.port, port.protocol);
                if ip.is_ipv4() == v4 && !node_ports.contains(&node_port) {
                    let own = pod.ips.iter().find(|own| own.is_ipv4() == v4).unwrap();
                    let target = BTreeSet::from([SocketAddr::new(*own, port.target)]);
                    let key = frontend_key(ip, port.port, port.protocol);
                    wanted.entry(key).or_insert((target, BTreeSet::new(), FrontendFlags::HOST_PORT));
                }
            }
        }
    }
    wanted
}

fn unspecified(v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn wanted_keys(service: &Service, port: &ServicePort, v4: bool, dsr: bool) -> Vec<(FrontendKey, u32)> {
    let more = service.more.clone().unwrap_or_default();
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    let own: Vec<IpAddr> = service.cluster_ips.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect();
    if own.is_empty() {
        return Vec::new();
    }
    let key = |ip: &IpAddr| frontend_key(*ip, port.port, port.protocol);
    let internal = flag(more.internal_local, FrontendFlags::INTERNAL_LOCAL);
    let mut keys: Vec<_> = own.iter().map(|ip| (key(ip), internal)).collect();
    let open = service.kind == ServiceType::NodePort || !more.external_ips.is_empty();
    let local = open && more.external_local;
    let policy = flag(local, FrontendFlags::EXTERNAL_LOCAL) | flag(dsr && !local, FrontendFlags::DSR);
    if let Some(node_port) = port.node_port {
        let key = frontend_key(unspecified(v4), node_port, port.protocol);
        keys.push((key, FrontendFlags::NODE_PORT | policy));
    }
    for one in more.load_balancer_ips.iter().filter(|one| one.ip.is_ipv4() == v4) {
        keys.push((key(&one.ip), FrontendFlags::EXTERNAL | FrontendFlags::SOURCE_RANGES | policy));
    }
    let external = more.external_ips.iter().filter(|ip| ip.is_ipv4() == v4);
    keys.extend(external.map(|ip| (key(ip), FrontendFlags::EXTERNAL | policy)));
    keys
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
    let (were, are) = (leads(before), leads(after));
    for (key, frontend) in &after.frontends {
        let Some(was) = before.frontends.get(key).filter(|was| was.service == frontend.service) else { continue };
        // With DSR a list has another order.
        let dsr = |tables: &LbTables| {
            let mut own = tables.frontends.values().filter(|other| other.service == frontend.service);
            own.any(|other| other.flags & FrontendFlags::DSR != 0)
        };
        let sets = |lead: &Lead| (lead.cluster.clone(), lead.local.clone());
        if sets(&were[key]) == sets(&are[key]) && dsr(before) == dsr(after) {
            assert_eq!(was.epoch, frontend.epoch, "{key:?} got new slots for nothing");
        }
    }
    let used: BTreeSet<u32> = after.slots.values().flatten().copied().filter(|id| *id != 0).collect();
    for (id, backend) in &after.backends {
        assert_eq!(backend.state == 0, used.contains(id), "backend {id} is active exactly while a slot names it");
    }
}

fn run(settings: ServiceSettings, changes: Vec<Change>) {
    let mut compiler = Compiler::with_settings(settings);
    let (mut inputs, mut pods) = (BTreeMap::<ServiceKey, Input>::new(), BTreeMap::<u8, HostPorts>::new());
    let mut maps = LbTables::default();
    let mut succeed = usize::MAX;
    for change in changes {
        let restored = |maps: &LbTables, inputs: &BTreeMap<_, Input>, pods: &BTreeMap<_, HostPorts>| {
            Compiler::restore_with(settings, maps.clone(), inputs.values().cloned(), pods.values().cloned())
        };
        let plan = match change {
            Change::Fault(ops) => {
                succeed = ops;
                continue;
            }
            Change::Restart => {
                let (fresh, plan) = restored(&maps, &inputs, &pods);
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
            Change::HostPorts(n, ports) if ports.is_empty() => {
                pods.remove(&n);
                compiler.remove_host_ports(&of_pod(n, ports).uid)
            }
            Change::HostPorts(n, ports) => {
                let ports = of_pod(n, ports);
                pods.insert(n, ports.clone());
                compiler.set_host_ports(&ports)
            }
        };
        let tables = compiler.tables();
        assert_eq!(plan.0, diff(&maps, &tables).0);
        let found = leads(&tables).into_iter().map(|(key, lead)| (key, (lead.cluster, lead.local, lead.flags)));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), wanted(&inputs, &pods, settings.dsr));
        check_kept(&maps, &tables);
        let (at_once, more) = restored(&tables, &inputs, &pods);
        assert!(more.is_empty() && at_once.tables() == tables, "one by one is not all at once: {:?}", more.0);
        carry_out(&mut maps, &plan, &tables, succeed);
        if std::mem::replace(&mut succeed, usize::MAX) != usize::MAX {
            let plan = compiler.resync(maps.clone());
            let tables = compiler.tables();
            assert_eq!(plan.0, diff(&maps, &tables).0);
            carry_out(&mut maps, &plan, &tables, usize::MAX);
        }
        assert_eq!(maps, compiler.tables());
        assert!(audit(&compiler, &maps).is_good());
        assert!(compiler.resync(maps.clone()).is_empty());
        assert!(diff(&maps, &maps).is_empty());
    }
}

fn settings() -> impl Strategy<Value = ServiceSettings> {
    (prop::option::weighted(0.2, Just(13)), any::<bool>()).prop_map(|(maglev, dsr)| ServiceSettings { maglev, dsr })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history(settings in settings(), changes in prop::collection::vec(change(), 1..24)) {
        run(settings, changes);
    }
}
