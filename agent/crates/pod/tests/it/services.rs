//! Variables of Services, as pkg/kubelet/envvars has them.

use orlop_model::{Protocol, ServiceKey};
use orlop_pod::env::{ServiceLink, ServiceLinkPort, service_variables};

fn service(namespace: &str, name: &str, ip: &str, ports: &[(&str, Protocol, u16)]) -> ServiceLink {
    let port = |&(name, protocol, port): &(&str, Protocol, u16)| ServiceLinkPort {
        name: (!name.is_empty()).then(|| name.to_owned()),
        protocol,
        port,
    };
    ServiceLink {
        key: ServiceKey::new(namespace, name).unwrap(),
        cluster_ip: ip.parse().ok(),
        ports: ports.iter().map(port).collect(),
    }
}

fn world() -> Vec<ServiceLink> {
    vec![
        service("default", "kubernetes", "10.96.0.1", &[("https", Protocol::Tcp, 443)]),
        service("shop", "kubernetes", "10.96.0.2", &[("", Protocol::Tcp, 1)]),
        service("shop", "super-db", "fd00::9", &[("p", Protocol::Udp, 80), ("q-r", Protocol::Tcp, 81)]),
        service("shop", "headless", "None", &[("", Protocol::Tcp, 80)]),
        service("other", "web", "10.96.0.3", &[("", Protocol::Tcp, 80)]),
    ]
}

#[track_caller]
fn check(namespace: &str, links: bool, want: &str) {
    let got: Vec<String> =
        service_variables(&world(), namespace, links).iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut want: Vec<&str> = want.split_whitespace().collect();
    want.sort_unstable();
    let mut got: Vec<&str> = got.iter().map(String::as_str).collect();
    got.sort_unstable();
    assert_eq!(got, want, "{namespace} {links}");
}

const MASTER: &str = "KUBERNETES_SERVICE_HOST=10.96.0.1 KUBERNETES_SERVICE_PORT=443 KUBERNETES_SERVICE_PORT_HTTPS=443
    KUBERNETES_PORT=tcp://10.96.0.1:443 KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
    KUBERNETES_PORT_443_TCP_PROTO=tcp KUBERNETES_PORT_443_TCP_PORT=443 KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1";

#[test]
fn the_api_server_is_always_told_of() {
    check("default", true, MASTER);
    check("default", false, MASTER);
    check("shop", false, MASTER);
    check("empty", true, MASTER);
}

#[test]
fn services_of_the_namespace() {
    let web = "WEB_SERVICE_HOST=10.96.0.3 WEB_SERVICE_PORT=80 WEB_PORT=tcp://10.96.0.3:80
        WEB_PORT_80_TCP=tcp://10.96.0.3:80 WEB_PORT_80_TCP_PROTO=tcp WEB_PORT_80_TCP_PORT=80
        WEB_PORT_80_TCP_ADDR=10.96.0.3";
    check("other", true, &format!("{MASTER} {web}"));
    check(
        "shop",
        true,
        "KUBERNETES_SERVICE_HOST=10.96.0.2 KUBERNETES_SERVICE_PORT=1 KUBERNETES_PORT=tcp://10.96.0.2:1
        KUBERNETES_PORT_1_TCP=tcp://10.96.0.2:1 KUBERNETES_PORT_1_TCP_PROTO=tcp KUBERNETES_PORT_1_TCP_PORT=1
        KUBERNETES_PORT_1_TCP_ADDR=10.96.0.2
        SUPER_DB_SERVICE_HOST=fd00::9 SUPER_DB_SERVICE_PORT=80 SUPER_DB_SERVICE_PORT_P=80 SUPER_DB_SERVICE_PORT_Q_R=81
        SUPER_DB_PORT=udp://[fd00::9]:80 SUPER_DB_PORT_80_UDP=udp://[fd00::9]:80 SUPER_DB_PORT_80_UDP_PROTO=udp
        SUPER_DB_PORT_80_UDP_PORT=80 SUPER_DB_PORT_80_UDP_ADDR=fd00::9 SUPER_DB_PORT_81_TCP=tcp://[fd00::9]:81
        SUPER_DB_PORT_81_TCP_PROTO=tcp SUPER_DB_PORT_81_TCP_PORT=81 SUPER_DB_PORT_81_TCP_ADDR=fd00::9",
    );
}
