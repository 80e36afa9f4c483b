//! 10,000 Services with 10 endpoints each.

use orlop_lb::{
    Compiler, Endpoint, EndpointPort, Hint, Input, LbTables, Service, ServiceMore, ServicePort, ServiceSettings,
    ServiceType, TargetPort,
};
use orlop_model::{Protocol, ServiceKey};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

fn input(n: u32) -> Input {
    sized(n, 10)
}

fn sized(n: u32, endpoints: u32) -> Input {
    let port = ServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port: TargetPort::Number(8080),
        node_port: None,
    };
    let service = Service {
        key: ServiceKey::new("default", format!("s{n}")).unwrap(),
        created: None,
        kind: ServiceType::ClusterIP,
        headless: false,
        cluster_ips: vec![Ipv4Addr::from_bits(0x0a60_0000 + n).into()],
        families: Vec::new(),
        family_policy: None,
        selector: BTreeMap::new(),
        publish_not_ready: false,
        ports: vec![port],
        external_name: None,
        other_proxy: false,
        more: None,
    };
    let endpoint = |m: u32| Endpoint {
        addr: Ipv4Addr::from_bits(0x0b00_0000 + n * endpoints + m).into(),
        pod: None,
        local: false,
        zone: Hint::None,
        node: Hint::None,
        ready: true,
        serving: true,
        terminating: false,
        ports: [EndpointPort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }].into(),
    };
    Input { service, endpoints: (0..endpoints).map(endpoint).collect() }
}

/// One change among many touches only its Service. Times are printed, not judged.
#[test]
fn one_of_ten_thousand() {
    let inputs: Vec<Input> = (0..10_000).map(input).collect();
    let start = Instant::now();
    let (compiler, plan) = Compiler::restore(LbTables::default(), inputs.clone());
    println!("all at once: {:?}", start.elapsed());
    let tables = compiler.tables();
    assert_eq!((tables.frontends.len(), tables.slots.len(), tables.backends.len()), (10_000, 10_000, 100_000));
    assert_eq!(plan.len(), 120_000);

    let start = Instant::now();
    let (mut compiler, plan) = Compiler::restore(tables, inputs.clone());
    println!("restore: {:?}", start.elapsed());
    assert!(plan.is_empty());

    let mut input = inputs[5_000].clone();
    input.endpoints.pop();
    let start = Instant::now();
    let plan = compiler.set_service(&input);
    println!("one endpoint: {:?}", start.elapsed());
    assert_eq!(plan.len(), 4);
}

/// Policies and hints: what one endpoint does in one Service moves nothing elsewhere,
/// also where Services share their endpoints.
#[test]
fn neighbours_stay_as_they_are() {
    let more =
        ServiceMore { external_local: true, internal_local: true, affinity_s: Some(60), ..ServiceMore::default() };
    let with_policies = |n: u32| {
        let mut input = input(n);
        // Every two Services have the same endpoints.
        input.endpoints = sized(n / 2, 10).endpoints;
        for (m, endpoint) in input.endpoints.iter_mut().enumerate() {
            endpoint.local = m % 3 == 0;
            endpoint.zone = if m % 2 == 0 { Hint::Here } else { Hint::Elsewhere };
        }
        (input.service.kind, input.service.more) = (ServiceType::NodePort, Some(Box::new(more.clone())));
        input.service.ports[0].node_port = Some(u16::try_from(20_000 + n).unwrap());
        input
    };
    let (mut compiler, _) = Compiler::restore(LbTables::default(), (0..1_000).map(with_policies));
    let mut input = with_policies(500);
    input.endpoints[3].zone = Hint::Here;
    let before = compiler.tables();
    let plan = compiler.set_service(&input);
    // A new list, two frontends, the old list; the backend was the other's all along.
    assert_eq!(plan.len(), 1 + 2 + 1, "{:?}", plan.0);
    let number = compiler.numbers(&input.service.key).next().unwrap();
    let others = |tables: LbTables| tables.frontends.into_iter().filter(move |(_, one)| one.service != number);
    assert!(others(before).eq(others(compiler.tables())));
}

/// One Service with very many endpoints. Times are printed, not judged.
#[test]
fn one_large_service() {
    let mut input = sized(0, 10_000);
    for settings in [ServiceSettings::default(), ServiceSettings { maglev: Some(16_381), dsr: false }] {
        (input.service.kind, input.service.ports[0].node_port) = (ServiceType::NodePort, Some(30_080));
        let mut compiler = Compiler::with_settings(settings);
        assert_eq!(
            compiler.set_service(&input).0.len() as u32,
            10_000 + 625 + settings.maglev.map_or(0, |_| 1_024) + 2
        );
        let removed = input.endpoints.pop().unwrap();
        let start = Instant::now();
        let plan = compiler.set_service(&input);
        println!("one of 10,000 endpoints, {settings:?}: {:?}, {} operations", start.elapsed(), plan.len());
        input.endpoints.push(removed);
    }
}
