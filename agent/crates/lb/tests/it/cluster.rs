//! Services and slices in any order, with pods of this node that know better.

use crate::whole::{check_whole, targets};
use orlop_lb::{Cluster, Compiler, LbTables, LeanEndpointSlice, LeanService, ListKind, PodEndpoint, Touched};
use orlop_model::{PodKey, PodUid, ServiceKey};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

const NODE: &str = "here";

/// Host, and whether it is ready, serving, terminating, and on this node.
type Host = (u8, [bool; 4]);

#[derive(Debug, Clone)]
enum Event {
    Service(u8, Option<u8>),
    /// Slice, its Service, its endpoints.
    Slice(u8, Option<(u8, Vec<Host>)>),
    Pod(u8, Option<[bool; 2]>),
}

fn service(n: u8, host: u8) -> LeanService {
    serde_json::from_value(json!({
        "metadata": {"name": format!("s{n}"), "namespace": "d"},
        "spec": {"clusterIP": format!("10.96.0.{host}"), "publishNotReadyAddresses": n == 0,
                 "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "protocol": "UDP"}]},
    }))
    .unwrap()
}

fn slice(n: u8, service: u8, endpoints: &[Host]) -> LeanEndpointSlice {
    let endpoint = |(host, [ready, serving, terminating, here]): &Host| {
        json!({
            "addresses": [format!("10.1.0.{host}")], "nodeName": if *here { NODE } else { "there" },
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            "targetRef": {"kind": "Pod", "name": format!("p{host}")},
        })
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    serde_json::from_value(json!({
        "metadata": {"name": format!("x{n}"), "namespace": "d", "labels": {"kubernetes.io/service-name": format!("s{service}")}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "a", "port": 8080}, {"name": "b", "port": 53, "protocol": if n == 0 { "TCP" } else { "UDP" }}],
    }))
    .unwrap()
}

fn pod(n: u8, [serving, terminating]: [bool; 2]) -> PodEndpoint {
    PodEndpoint {
        key: PodKey::new("d", format!("p{n}")).unwrap(),
        ips: vec![Ipv4Addr::new(10, 1, 0, n).into()],
        labels: BTreeMap::new(),
        ready: serving,
        serving,
        terminating,
        ports: Vec::new(),
    }
}

fn event() -> impl Strategy<Value = Event> {
    let endpoints = prop::collection::vec((0..5u8, any::<[bool; 4]>()), 0..5);
    prop_oneof![
        3 => (0..3u8, prop::option::of(0..4u8)).prop_map(|(n, host)| Event::Service(n, host)),
        5 => (0..4u8, prop::option::weighted(0.8, (0..3u8, endpoints))).prop_map(|(n, what)| Event::Slice(n, what)),
        3 => (0..5u8, prop::option::of(any::<[bool; 2]>())).prop_map(|(n, state)| Event::Pod(n, state)),
    ]
}

fn tell(cluster: &mut Cluster, event: &Event) -> Touched {
    match event {
        Event::Service(n, Some(host)) => cluster.apply_service(service(*n, *host)),
        Event::Service(n, None) => cluster.delete_service(&ServiceKey::new("d", format!("s{n}")).unwrap()),
        Event::Slice(n, Some((of, endpoints))) => cluster.apply_slice(slice(*n, *of, endpoints)),
        Event::Slice(n, None) => cluster.delete_slice("d", &format!("x{n}")),
        Event::Pod(n, state) => {
            cluster.set_local_pod(&PodUid::new(format!("u{n}")).unwrap(), state.map(|state| pod(*n, state)).as_ref())
        }
    }
}

fn follow(cluster: &Cluster, compiler: &mut Compiler, maps: &mut LbTables, touched: &Touched) {
    for key in touched {
        let plan = match cluster.input(key) {
            Some(input) => compiler.set_service(&input),
            None => compiler.remove_service(key),
        };
        for op in &plan.0 {
            maps.apply(op);
            check_whole(maps);
        }
    }
}

/// Of each object, the last that was said.
fn last(events: &[Event]) -> Vec<Event> {
    let name = |event: &Event| match event {
        Event::Service(n, _) => (0, *n),
        Event::Slice(n, _) => (1, *n),
        Event::Pod(n, _) => (2, *n),
    };
    let last: BTreeMap<_, _> = events.iter().map(|event| (name(event), event.clone())).collect();
    last.into_values().collect()
}

/// Whom each frontend leads to, by a rule that is written differently.
fn expected(events: &[Event], cluster: &Cluster) -> BTreeSet<(String, IpAddr)> {
    let mut found = BTreeSet::new();
    for input in cluster.inputs() {
        let pick = |choose: &dyn Fn(&orlop_lb::Endpoint) -> bool| -> Vec<IpAddr> {
            input.endpoints.iter().filter(|one| choose(one)).map(|one| one.addr).collect()
        };
        let mut usable = pick(&|one| one.ready);
        if usable.is_empty() {
            usable = pick(&|one| one.serving && one.terminating);
        }
        found.extend(usable.into_iter().map(|addr| (input.service.key.to_string(), addr)));
    }
    // Nothing that an own pod knows to be bad is among them.
    for event in last(events) {
        if let Event::Pod(n, Some([false, _])) = event {
            let addr: IpAddr = Ipv4Addr::new(10, 1, 0, n).into();
            let here = |input: &orlop_lb::Input| {
                !input.service.publish_not_ready
                    && !input.endpoints.iter().any(|one| one.addr == addr && !one.local)
                    && found.contains(&(input.service.key.to_string(), addr))
            };
            assert!(!cluster.inputs().any(|input| here(&input)), "p{n} does not serve, and has connections");
        }
    }
    found
}

fn run(events: &[Event], order: &[usize]) {
    let (mut cluster, mut compiler, mut maps) = (Cluster::new(NODE), Compiler::new(), LbTables::default());
    for event in events {
        let touched = tell(&mut cluster, event);
        follow(&cluster, &mut compiler, &mut maps, &touched);
        assert_eq!(maps, compiler.tables());
        assert!(tell(&mut cluster, event).is_empty(), "{event:?} said twice touches something");
        // Nothing was left untouched that should have been.
        let (_, plan) = Compiler::restore(maps.clone(), cluster.inputs());
        assert!(plan.is_empty(), "{event:?}: {:?}", plan.0);
    }
    expected(events, &cluster);
    if events.iter().any(|event| matches!(event, Event::Pod(_, None))) {
        // A pod that went counts until its slice has followed: that is history.
        return;
    }

    // Only the last of each object, in another order.
    let mut final_events: Vec<Event> = last(events);
    final_events.retain(|event| !matches!(event, Event::Pod(..)));
    let count = final_events.len().max(1);
    for &swap in order {
        final_events.rotate_left(swap % count);
        if final_events.len() > 1 {
            final_events.swap(0, swap % count);
        }
    }
    let pods = events.iter().filter(|event| matches!(event, Event::Pod(..)));
    let (mut other, mut compiler, mut again) = (Cluster::new(NODE), Compiler::new(), LbTables::default());
    for event in pods.chain(&final_events) {
        let touched = tell(&mut other, event);
        follow(&other, &mut compiler, &mut again, &touched);
    }
    assert_eq!(shown(&maps), shown(&again));
}

fn shown(maps: &LbTables) -> String {
    format!("{:?}", targets(maps))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_order(events in prop::collection::vec(event(), 1..20), order in prop::collection::vec(0..20usize, 0..8)) {
        run(&events, &order);
    }
}

/// A list that is taken anew removes what it does not name, and nothing else.
#[test]
fn lists_begin_anew() {
    let (mut cluster, mut compiler, mut maps) = (Cluster::new(NODE), Compiler::new(), LbTables::default());
    let ready = |host| (host, [true, true, false, false]);
    for n in 0..3 {
        let touched = cluster.apply_service(service(n, n + 1));
        follow(&cluster, &mut compiler, &mut maps, &touched);
        let touched = cluster.apply_slice(slice(n, n, &[ready(n)]));
        follow(&cluster, &mut compiler, &mut maps, &touched);
    }
    let before = maps.clone();
    cluster.restarting(ListKind::Services);
    cluster.restarting(ListKind::Slices);
    for n in [0, 2] {
        assert!(cluster.apply_service(service(n, n + 1)).is_empty());
        assert!(cluster.apply_slice(slice(n, n, &[ready(n)])).is_empty());
    }
    assert_eq!(maps, before);
    let touched = cluster.restarted(ListKind::Slices);
    assert_eq!(touched.iter().map(ToString::to_string).collect::<Vec<_>>(), ["d/s1"]);
    follow(&cluster, &mut compiler, &mut maps, &touched);
    let touched = cluster.restarted(ListKind::Services);
    assert_eq!(touched.iter().map(ToString::to_string).collect::<Vec<_>>(), ["d/s1"]);
    follow(&cluster, &mut compiler, &mut maps, &touched);
    assert_eq!(targets(&maps).len(), 4);
    assert!(cluster.restarted(ListKind::Services).is_empty() && cluster.restarted(ListKind::Slices).is_empty());
}
