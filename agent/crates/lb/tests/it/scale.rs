//! 10,000 Services with 10 endpoints each.

use orlop_lb::{
    Compiler, Endpoint, EndpointPort, Hint, Input, LbTables, Service, ServicePort, ServiceType, TargetPort,
};
use orlop_model::{Protocol, ServiceKey};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

fn input(n: u32) -> Input {
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
        addr: Ipv4Addr::from_bits(0x0b00_0000 + n * 10 + m).into(),
        pod: None,
        local: false,
        zone: Hint::None,
        node: Hint::None,
        ready: true,
        serving: true,
        terminating: false,
        ports: [EndpointPort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }].into(),
    };
    Input { service, endpoints: (0..10).map(endpoint).collect() }
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
