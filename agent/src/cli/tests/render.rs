//! What people see.

use super::fake::Fake;
use crate::api::{
    BackendCountersView, BackendView, ClusterView, ConditionView, ContainerView, CountersView, HostPortView, ImageView,
    NodeView, PodCountersView, PodDetail, PodView, Response, ServicePortView, ServiceView, TableView, Traffic,
};
use crate::cli::{counters, describe, images, node, ps, services, tables};
use jiff::{SignedDuration, Timestamp};
use orlop_model::{Event, EventKind};
use std::collections::BTreeMap;
use std::io::{self, Write};

fn now() -> Timestamp {
    "2026-01-31T10:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// Compares what is written with a golden; its first line end is not part of it.
fn check(write: impl FnOnce(&mut dyn Write) -> io::Result<()>, golden: &str) {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text == golden.trim_start_matches('\n'), "is:\n{text}");
}

fn container(name: &str) -> ContainerView {
    ContainerView {
        name: name.into(),
        init: false,
        image: "docker.io/library/nginx:1.27".into(),
        image_id: None,
        id: None,
        state: "waiting".into(),
        reason: Some("ContainerCreating".into()),
        message: None,
        exit_code: None,
        started: None,
        finished: None,
        last: None,
        ready: false,
        restarts: 0,
        pid: None,
        ports: Vec::new(),
        resources: Vec::new(),
        mounts: Vec::new(),
        probes: Vec::new(),
    }
}

fn running(name: &str) -> ContainerView {
    ContainerView {
        image_id: Some("sha256:aa".into()),
        id: Some("c0ffee".into()),
        state: "running".into(),
        reason: None,
        started: Some(ago(312)),
        ready: true,
        restarts: 2,
        pid: Some(4711),
        last: Some("Error, exit code 1, 2026-01-31T09:54:40Z".into()),
        ports: vec!["80/TCP".into(), "443/TCP".into()],
        resources: vec!["cpu 100m/500m".into(), "memory 64Mi/128Mi".into()],
        mounts: vec!["/etc/config from config (ro)".into()],
        probes: vec!["readiness http-get :80/ every 10s".into()],
        ..container(name)
    }
}

fn init(name: &str) -> ContainerView {
    ContainerView {
        init: true,
        state: "terminated".into(),
        reason: Some("Completed".into()),
        exit_code: Some(0),
        started: Some(ago(400)),
        finished: Some(ago(390)),
        ready: true,
        ..container(name)
    }
}

fn web() -> PodView {
    PodView {
        namespace: "default".into(),
        name: "web".into(),
        uid: "0b5c".into(),
        status: "Running".into(),
        phase: "Running".into(),
        ready: true,
        ips: vec!["10.1.0.4".parse().unwrap(), "fd00::4".parse().unwrap()],
        started: Some(ago(3 * 86_400 + 4 * 3_600)),
        qos: "Burstable".into(),
        host_network: false,
        containers: vec![init("setup"), running("app"), ContainerView { restarts: 0, ..running("sidecar") }],
    }
}

fn waiting() -> PodView {
    PodView {
        namespace: "prod".into(),
        name: "a-name-that-is-rather-long".into(),
        status: "ContainerCreating".into(),
        phase: "Pending".into(),
        ready: false,
        ips: Vec::new(),
        started: None,
        containers: vec![container("app")],
        ..web()
    }
}

#[test]
fn pods() {
    check(
        |out| ps::table(&[web(), waiting()], now(), out),
        "
NAMESPACE   NAME                         READY   STATUS              RESTARTS        AGE         IP
default     web                          2/2     Running             2 (5m12s ago)   3d4h        10.1.0.4,fd00::4
prod        a-name-that-is-rather-long   0/1     ContainerCreating   0               <unknown>   <none>
",
    );
}

#[test]
fn containers() {
    check(
        |out| ps::containers(&[web(), waiting()], now(), out),
        "
NAMESPACE   POD                          CONTAINER      READY   STATE                                 RESTARTS   AGE         PID   ID       IMAGE                          IMAGE ID
default     web                          setup (init)   true    terminated (Completed, exit code 0)          0   6m40s    <none>   <none>   docker.io/library/nginx:1.27   <none>
default     web                          app            true    running                                      2   5m12s      4711   c0ffee   docker.io/library/nginx:1.27   sha256:aa
default     web                          sidecar        true    running                                      0   5m12s      4711   c0ffee   docker.io/library/nginx:1.27   sha256:aa
prod        a-name-that-is-rather-long   app            false   waiting (ContainerCreating)                  0   <none>   <none>   <none>   docker.io/library/nginx:1.27   <none>
",
    );
}

#[test]
fn images_one_row_a_name() {
    let image = |names: &[&str], created: Option<&str>| ImageView {
        names: names.iter().map(|&name| name.into()).collect(),
        id: "sha256:aa".into(),
        size: 4_415_488,
        layers: 2,
        created: created.map(Into::into),
        used_by: 1,
    };
    check(
        |out| {
            images::table(
                &[image(&["app:1", "app:latest"], Some("2026-01-30T10:00:00Z")), image(&[], None)],
                now(),
                out,
            )
        },
        "
NAME         ID             SIZE   LAYERS   CREATED   PODS
app:1        sha256:aa   4.21MiB        2   24h ago      1
app:latest   sha256:aa   4.21MiB        2   24h ago      1
<none>       sha256:aa   4.21MiB        2   <none>       1
",
    );
}

#[test]
fn services_one_row_a_backend() {
    let backend = |addr: &str, state: &str, pod: Option<&str>| BackendView {
        addr: addr.parse().unwrap(),
        port: 8080,
        state: state.into(),
        pod: pod.map(Into::into),
    };
    let port = |port, node_port, backends| ServicePortView {
        name: (port == 80).then(|| "http".into()),
        protocol: "TCP".into(),
        port,
        node_port,
        backends,
    };
    let service = |name: &str, kind: &str, ips: &[&str], ports| ServiceView {
        namespace: "default".into(),
        name: name.into(),
        kind: kind.into(),
        cluster_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        external_local: false,
        internal_local: false,
        session_affinity_s: None,
        source_ranges: Vec::new(),
        health_check_node_port: None,
        other_proxy: false,
        ports,
        created: Some(ago(90)),
    };
    let both = vec![
        backend("10.1.0.4", "active", Some("default/web")),
        backend("10.1.0.5", "draining", None),
        backend("fd00::4", "active", Some("default/web")),
    ];
    let balanced = ServiceView {
        external_ips: vec!["198.51.100.7".parse().unwrap()],
        load_balancer_ips: vec!["192.0.2.7".parse().unwrap()],
        external_local: true,
        session_affinity_s: Some(10800),
        source_ranges: vec!["10.0.0.0/8".into(), "fd00::/8".into()],
        health_check_node_port: Some(32000),
        ..service("lb", "LoadBalancer", &["10.96.0.8"], vec![port(443, Some(30443), Vec::new())])
    };
    let list = [
        service("web", "NodePort", &["10.96.0.7", "fd00:96::7"], vec![port(80, Some(30080), both)]),
        service("db", "ClusterIP", &[], vec![port(5432, None, Vec::new())]),
        service("empty", "ClusterIP", &["10.96.0.9"], Vec::new()),
    ];
    check(
        |out| services::table(&list, now(), out),
        "
NAMESPACE   NAME    TYPE        FRONTEND                     NODE PORT   EXTERNAL   POLICY   BACKEND          STATE      POD           AGE
default     web     NodePort    10.96.0.7:80/TCP (http)      30080       <none>     <none>   10.1.0.4:8080    active     default/web   90s
default     web     NodePort    10.96.0.7:80/TCP (http)      30080       <none>     <none>   10.1.0.5:8080    draining   <none>        90s
default     web     NodePort    [fd00:96::7]:80/TCP (http)   30080       <none>     <none>   [fd00::4]:8080   active     default/web   90s
default     db      ClusterIP   None:5432/TCP                <none>      <none>     <none>   <none>           <none>     <none>        90s
default     empty   ClusterIP   <none>                       <none>      <none>     <none>   <none>           <none>     <none>        90s
",
    );
    let mut out = Vec::new();
    services::table(&[balanced], now(), &mut out).unwrap();
    let row = "192.0.2.7,198.51.100.7   external=Local,affinity=10800s,from=10.0.0.0/8+fd00::/8,health=32000   <none>";
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(row), "{text}");
}

#[test]
fn host_ports_after_services() {
    let port = |address: &str, taken_by: Option<&str>| HostPortView {
        pod: "default/web".into(),
        address: address.into(),
        target: "10.1.0.4:80".into(),
        taken_by: taken_by.map(Into::into),
    };
    let ports = [port("0.0.0.0:8080/TCP", None), port("192.0.2.7:30080/TCP", Some("default/other"))];
    check(
        |out| {
            writeln!(out, "services")?;
            services::host_port_table(&ports, out)
        },
        "
services

HOST PORT             POD           BACKEND       STATE
0.0.0.0:8080/TCP      default/web   10.1.0.4:80   active
192.0.2.7:30080/TCP   default/web   10.1.0.4:80   taken by default/other
",
    );
    check(|out| services::host_port_table(&[], out), "");
}

#[test]
fn tables_with_their_share() {
    let table = |map: &str, entries, max_entries, failed_inserts| TableView {
        map: map.into(),
        entries,
        max_entries,
        failed_inserts,
        purpose: "What for.".into(),
    };
    check(
        |out| tables::table(&[table("FLOWS", 131_071, 131_072, 7), table("PODS", 0, 4096, 0)], out),
        "
MAP     ENTRIES       OF    %   FAILED INSERTS   WHAT IT HOLDS
FLOWS    131071   131072   99                7   What for.
PODS          0     4096    0                0   What for.
",
    );
}

fn some_counters() -> CountersView {
    let traffic = |packets, bytes, connections| Traffic { packets, bytes, connections };
    let drops = |reason: &str, packets| BTreeMap::from([(reason.to_owned(), packets)]);
    CountersView {
        pods: vec![PodCountersView {
            namespace: "default".into(),
            name: "web".into(),
            received: traffic(1000, 1_500_000, 12),
            sent: traffic(7, 512, 0),
            drops_in: drops("no-backend", 3),
            drops_out: drops("source-spoofed", 1),
        }],
        backends: vec![BackendCountersView {
            service: "default/web:80".into(),
            backend: "10.1.0.4:8080".into(),
            pod: Some("default/web".into()),
            connections: 12,
            packets_to: 100,
            bytes_to: 2048,
            packets_from: 90,
            bytes_from: 900,
        }],
        node_drops: drops("malformed", 2),
        not_counted: vec!["kube-system/proxy: host network".into()],
    }
}

#[test]
fn counters_for_people_and_exact() {
    check(
        |out| counters::table(&some_counters(), false, out),
        "
NAMESPACE   POD   IN PACKETS   IN BYTES   IN CONNS   OUT PACKETS   OUT BYTES   OUT CONNS   DROPS
default     web         1000    1.43MiB         12             7        512B           0       4

SERVICE          BACKEND         POD           CONNS   PACKETS TO   BYTES TO   PACKETS FROM   BYTES FROM
default/web:80   10.1.0.4:8080   default/web      12          100    2.00KiB             90         900B

DROPPED AT    WAY   REASON           PACKETS
default/web   in    no-backend             3
default/web   out   source-spoofed         1
node          any   malformed              2

Not counted:
  kube-system/proxy: host network
",
    );
    let mut out = Vec::new();
    counters::table(&some_counters(), true, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("  1500000  "));
}

fn events() -> Vec<Event> {
    let event = |kind, reason: &str, message: &str, count, first, last| Event {
        kind,
        reason: reason.into(),
        message: message.into(),
        count,
        first: ago(first),
        last: ago(last),
    };
    vec![
        event(EventKind::Normal, "Pulled", "image app:1 is present", 1, 400, 400),
        event(EventKind::Warning, "BackOff", "back-off 10s\nrestarting app", 4, 300, 20),
    ]
}

#[test]
fn a_node() {
    let view = NodeView {
        name: "n1".into(),
        version: "0.1.0".into(),
        started: ago(60),
        addresses: vec!["192.168.7.2".parse().unwrap()],
        pod_cidrs: vec!["10.1.0.0/24".into()],
        service_cidr: None,
        manifests: Some("/etc/orlop/manifests".into()),
        cluster: Some(ClusterView {
            registered: true,
            pods: Some(3),
            pod_status_patches: 7,
            pod_status_failures: 1,
            events_created: 9,
            ..ClusterView::default()
        }),
        problems: Vec::new(),
        events: BTreeMap::from([("Service default/web".into(), events())]),
    };
    check(
        |out| node::text(&view, now(), out),
        "
Name:           n1
Agent Version:  0.1.0
Agent Started:  2026-01-31T09:59:00Z (60s ago)
Addresses:      192.168.7.2
Pod CIDRs:      10.1.0.0/24
Service CIDR:   <none>
Manifests:      /etc/orlop/manifests
API Server:
  Registered:     yes
  Pods Wanted:    3
  Pod Patches:    7, 1 failed
  Node Patches:   0
  Lease Renewals: 0
  Events:         9 created, 0 counted up, 0 dropped
Problems:  <none>
Events of Service default/web:
  Type      Reason    Age                Message
  Normal    Pulled    6m40s              image app:1 is present
  Warning   BackOff   20s (x4 over 5m)   back-off 10s restarting app
",
    );
}

#[test]
fn a_pod() {
    check(|out| describe::text(&detail(), now(), out), DESCRIBED);
}

/// A pod with something in every field.
pub fn detail() -> PodDetail {
    PodDetail {
        pod: PodView { containers: vec![init("setup"), running("app")], ..web() },
        source: Some("/etc/orlop/manifests/web.yaml".into()),
        labels: BTreeMap::from([("app".into(), "web".into()), ("tier".into(), "front".into())]),
        annotations: BTreeMap::new(),
        conditions: vec![ConditionView {
            kind: "Ready".into(),
            status: "False".into(),
            reason: Some("ContainersNotReady".into()),
            message: Some("app is not ready".into()),
            since: Some(ago(30)),
        }],
        volumes: vec!["config: ConfigMap web-config".into()],
        services: vec!["default/web".into()],
        host_ports: Vec::new(),
        cgroup: "kubepods/burstable/pod0b5c".into(),
        start_phases: vec![("network".into(), 1_200), ("create".into(), 18_400)],
        events: events(),
    }
}

#[test]
fn documents_read_back_as_what_they_were() {
    let pods = vec![web(), waiting()];
    let fake = Fake::saying(Response::Pods(pods.clone()));
    let json = fake.run(&["ps", "-o", "json"]).stdout;
    assert_eq!(serde_json::from_str::<Vec<PodView>>(&json).unwrap(), pods);
    let yaml = fake.run(&["ps", "-o", "yaml"]).stdout;
    assert_eq!(serde_saphyr::from_str::<Vec<PodView>>(&yaml).unwrap(), pods, "{yaml}");
    let only = fake.run(&["ps", "-o", "json", "-n", "prod"]).stdout;
    assert_eq!(serde_json::from_str::<Vec<PodView>>(&only).unwrap(), pods[1..]);
}

const DESCRIBED: &str = "
Name:             web
Namespace:        default
UID:              0b5c
Source:           /etc/orlop/manifests/web.yaml
Start Time:       2026-01-28T06:00:00Z (3d4h ago)
Labels:           app=web
                  tier=front
Annotations:      <none>
Status:           Running
QoS Class:        Burstable
Host Network:     false
IP:               10.1.0.4
                  fd00::4
Cgroup:           kubepods/burstable/pod0b5c
Init Containers:
  setup:
    Container ID:     <none>
    PID:              <none>
    Image:            docker.io/library/nginx:1.27
    Image ID:         <none>
    Ports:            <none>
    State:            Terminated
      Reason:         Completed
      Exit Code:      0
      Started:        2026-01-31T09:53:20Z (6m40s ago)
      Finished:       2026-01-31T09:53:30Z (6m30s ago)
    Last State:       <none>
    Ready:            True
    Restart Count:    0
Containers:
  app:
    Container ID:     c0ffee
    PID:              4711
    Image:            docker.io/library/nginx:1.27
    Image ID:         sha256:aa
    Ports:            80/TCP, 443/TCP
    State:            Running
      Started:        2026-01-31T09:54:48Z (5m12s ago)
    Last State:       Error, exit code 1, 2026-01-31T09:54:40Z
    Ready:            True
    Restart Count:    2
    Resources:
      cpu 100m/500m
      memory 64Mi/128Mi
    Probes:
      readiness http-get :80/ every 10s
    Mounts:
      /etc/config from config (ro)
Conditions:
  Type    Status   Since   Reason               Message
  Ready   False    30s     ContainersNotReady   app is not ready
Volumes:
  config: ConfigMap web-config
Services:
  default/web
Start Phases:
  Phase       Took
  network   1.20ms
  create    18.4ms
  total     19.6ms
Events:
  Type      Reason    Age                Message
  Normal    Pulled    6m40s              image app:1 is present
  Warning   BackOff   20s (x4 over 5m)   back-off 10s restarting app
";
