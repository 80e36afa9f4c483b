//! The plan as a table: what is seen, what is to be done.

use orlop_cni::{Action, GATEWAY_V4, HostSide, LinkNames, Observed, PodSide, Wanted, default_routes, plan};
use orlop_model::{Ifindex, PodUid};
use std::net::IpAddr;

const POD: &str = "10.1.0.2";

fn ip() -> IpAddr {
    POD.parse().unwrap()
}

fn default_route() -> ipnet::IpNet {
    "0.0.0.0/0".parse().unwrap()
}

fn wanted() -> Wanted {
    Wanted {
        names: LinkNames::of(&PodUid::new("a").unwrap()),
        addresses: vec![ip()],
        routes: default_routes(&[ip()]),
        mtu: 1500,
    }
}

/// Everything as it should be.
fn whole() -> Observed {
    let names = wanted().names;
    Observed {
        host: Some(HostSide {
            index: Ifindex::new(7).unwrap(),
            peer: Some(2),
            mac: Some(names.host_mac),
            mtu: 1500,
            up: true,
            routes: [ip()].into(),
            neighbours: [(ip(), names.pod_mac)].into(),
        }),
        pod: Some(PodSide {
            index: Ifindex::new(2).unwrap(),
            peer: Some(7),
            mac: Some(names.pod_mac),
            mtu: 1500,
            up: true,
            addresses: [ip()].into(),
            routes: [default_route()].into(),
            neighbours: [(GATEWAY_V4, names.host_mac)].into(),
        }),
        loopback_up: true,
    }
}

fn all() -> Vec<Action> {
    vec![
        Action::CreateVeth,
        Action::RaiseHost,
        Action::HostNeighbour(ip()),
        Action::HostRoute(ip()),
        Action::RaiseLoopback,
        Action::RaisePod,
        Action::PodAddress(ip()),
        Action::PodNeighbour(GATEWAY_V4),
        Action::PodRoute(default_route()),
    ]
}

fn check(what: &str, change: impl FnOnce(&mut HostSide, &mut PodSide), expected: &[Action]) {
    let mut observed = whole();
    change(observed.host.as_mut().unwrap(), observed.pod.as_mut().unwrap());
    assert_eq!(plan(&wanted(), &observed), expected, "{what}");
}

/// All steps but the loopback's, after `first`.
fn again(first: Action) -> Vec<Action> {
    let mut actions = vec![first];
    actions.extend(all().into_iter().filter(|action| *action != Action::RaiseLoopback));
    actions
}

#[test]
fn nothing_there_needs_everything_and_all_there_needs_nothing() {
    assert_eq!(plan(&wanted(), &Observed::default()), all());
    assert_eq!(plan(&wanted(), &whole()), []);
}

#[test]
fn only_what_is_missing_is_done() {
    check("host route", |host, _| host.routes.clear(), &[Action::HostRoute(ip())]);
    check("host neighbour", |host, _| host.neighbours.clear(), &[Action::HostNeighbour(ip())]);
    check("host down", |host, _| host.up = false, &[Action::RaiseHost, Action::HostRoute(ip())]);
    check("pod address", |_, pod| pod.addresses.clear(), &[Action::PodAddress(ip())]);
    check("pod route", |_, pod| pod.routes.clear(), &[Action::PodRoute(default_route())]);
    check("pod neighbour", |_, pod| pod.neighbours.clear(), &[Action::PodNeighbour(GATEWAY_V4)]);
    check("pod down", |_, pod| pod.up = false, &[Action::RaisePod, Action::PodRoute(default_route())]);
}

#[test]
fn links_that_do_not_belong_together_are_replaced() {
    let (host, pod) = (Ifindex::new(7).unwrap(), Ifindex::new(2).unwrap());
    check("other address", |host, _| host.mac = None, &again(Action::DeleteHostLink(host)));
    check("other MTU", |host, _| host.mtu = 9000, &again(Action::DeleteHostLink(host)));
    let mut both = again(Action::DeleteHostLink(host));
    both.insert(1, Action::DeletePodLink(pod));
    check("other sandbox", |host, _| host.peer = Some(99), &both);

    let only_host = Observed { pod: None, ..whole() };
    assert_eq!(plan(&wanted(), &only_host), again(Action::DeleteHostLink(host)));
    let only_pod = Observed { host: None, ..whole() };
    assert_eq!(plan(&wanted(), &only_pod), again(Action::DeletePodLink(pod)));
}
