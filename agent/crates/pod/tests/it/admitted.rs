//! What becomes of a pod that is admitted: defaults, merges, sums.

use crate::desired::{admit_pod, desired, pod, with};
use orlop_model::{
    ContainerDesired, EnvSource, MountPropagation, PodDesired, ProbeAction, PullPolicy, QosClass, RestartPolicy,
    SeccompProfile, VolumeSource,
};

fn only(fields: &str) -> ContainerDesired {
    desired(&with(fields)).containers.remove(0)
}

#[test]
fn defaults() {
    let pod = desired(&with(""));
    assert_eq!((pod.key.to_string().as_str(), pod.hostname.as_str()), ("default/web", "web"));
    assert_eq!(pod.restart_policy, RestartPolicy::Always);
    assert_eq!((pod.termination_grace_secs, pod.active_deadline_secs), (30, None));
    assert_eq!((pod.service_account.as_str(), pod.node_name.as_str()), ("default", "n1"));
    assert_eq!(pod.dns.nameservers, ["10.96.0.10".parse::<std::net::IpAddr>().unwrap()]);
    let searches = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"];
    assert_eq!(pod.dns.searches, searches);
    assert_eq!(pod.dns.options, ["ndots:5"]);
    let container = &pod.containers[0];
    assert_eq!(container.termination_message_path.to_str(), Some("/dev/termination-log"));
    assert_eq!(container.security.seccomp, SeccompProfile::Unconfined);
    assert!(container.security.allow_privilege_escalation && !container.security.privileged);
    let volume = |spec: &str| {
        desired(&format!("{{containers: [{{name: a, image: x}}], volumes: [{spec}]}}")).volumes.remove(0).source
    };
    assert_eq!(volume("{name: v}"), VolumeSource::EmptyDir { memory: false, size_limit: None });
    let VolumeSource::ConfigMap { default_mode, optional, .. } = volume("{name: v, configMap: {name: c}}") else {
        panic!()
    };
    assert_eq!((default_mode, optional), (0o644, false));
    let probe = only("readinessProbe: {httpGet: {port: 80}}").readiness.unwrap();
    assert_eq!((probe.initial_delay_secs, probe.period_secs, probe.timeout_secs), (0, 10, 1));
    assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
    assert!(matches!(probe.action, ProbeAction::HttpGet { ref path, host: None, port: 80, .. } if path == "/"));
    let named = only("ports: [{name: web, containerPort: 8080}], livenessProbe: {tcpSocket: {port: web}}");
    assert_eq!(named.liveness.unwrap().action, ProbeAction::TcpSocket { host: None, port: 8080 });
    let mounted =
        desired(&format!("{{volumes: [{{name: v}}], {}}}", with("volumeMounts: [{name: v, mountPath: data}]")));
    let mount = &mounted.containers[0].mounts[0];
    assert_eq!((mount.mount_path.to_str(), mount.propagation), (Some("/data"), MountPropagation::None));
}

#[test]
fn pull_policies() {
    for (image, want) in [
        ("busybox", PullPolicy::Always),
        ("busybox:latest", PullPolicy::Always),
        ("busybox:1", PullPolicy::IfNotPresent),
        ("localhost:5000/busybox", PullPolicy::Always),
        ("localhost:5000/busybox:1", PullPolicy::IfNotPresent),
        ("busybox@sha256:00", PullPolicy::IfNotPresent),
        ("busybox:latest@sha256:00", PullPolicy::IfNotPresent),
    ] {
        let pod = desired(&format!("containers: [{{name: a, image: \"{image}\"}}]"));
        assert_eq!(pod.containers[0].pull_policy, want, "{image}");
    }
}

#[test]
fn quality_of_service_and_the_pods_resources() {
    let container = |name: &str, resources: &str| format!("{{name: {name}, image: x, resources: {{{resources}}}}}");
    let full = "limits: {cpu: 1, memory: 1Gi}";
    let check = |init: &str, main: &[&str], qos, cpu: (u64, Option<u64>), memory: (u64, Option<u64>)| {
        let names = ["a", "b", "c"];
        let main: Vec<String> = main.iter().zip(names).map(|(r, name)| container(name, r)).collect();
        let init = if init == "-" { String::new() } else { format!("initContainers: [{}], ", container("i", init)) };
        let spec = format!("{{{init}overhead: {{cpu: 10m}}, containers: [{}]}}", main.join(", "));
        let pod: PodDesired = desired(&spec);
        let got = &pod.resources;
        assert_eq!(pod.qos, qos, "{spec}");
        assert_eq!((got.cpu_request_milli, got.cpu_limit_milli), cpu, "{spec}");
        assert_eq!((got.memory_request, got.memory_limit), memory, "{spec}");
    };
    const GI: u64 = 1 << 30;
    use QosClass::{BestEffort, Burstable, Guaranteed};
    check("-", &[""], BestEffort, (10, None), (0, None));
    check("-", &["limits: {cpu: 0}"], BestEffort, (10, None), (0, None));
    check("-", &[full], Guaranteed, (1010, Some(1010)), (GI, Some(GI)));
    check("-", &[full, full], Guaranteed, (2010, Some(2010)), (2 * GI, Some(2 * GI)));
    check("-", &[full, ""], Burstable, (1010, None), (GI, None));
    check("-", &["limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1}"], Guaranteed, (1010, Some(1010)), (GI, Some(GI)));
    check("-", &["limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}"], Burstable, (510, Some(1010)), (GI, Some(GI)));
    check("-", &["limits: {cpu: 1}"], Burstable, (1010, Some(1010)), (0, None));
    check("-", &["requests: {memory: 1Gi}"], Burstable, (10, None), (GI, None));
    check("limits: {cpu: 3, memory: 2Gi}", &[full, full], Guaranteed, (3010, Some(3010)), (2 * GI, Some(2 * GI)));
    check("requests: {cpu: 3}", &[full], Burstable, (3010, None), (GI, None));
    check("", &[full], Burstable, (1010, None), (GI, None));
}

#[test]
fn security_contexts_merge() {
    let spec = "{securityContext: {runAsUser: 1000, runAsGroup: 1001, runAsNonRoot: true, fsGroup: 7, supplementalGroups: [8], seccompProfile: {type: RuntimeDefault}}, containers: [{name: a, image: x}, {name: b, image: x, securityContext: {runAsUser: 0, runAsNonRoot: false, seccompProfile: {type: Unconfined}, capabilities: {add: [cap_net_admin], drop: [ALL]}}}, {name: c, image: x, securityContext: {privileged: true}}]}";
    let pod = desired(spec);
    let [a, b, c] = [0, 1, 2].map(|index| &pod.containers[index].security);
    assert_eq!((a.run_as_user, a.run_as_group, a.run_as_non_root), (Some(1000), Some(1001), true));
    assert_eq!(a.seccomp, SeccompProfile::RuntimeDefault);
    assert_eq!((b.run_as_user, b.run_as_group, b.run_as_non_root), (Some(0), Some(1001), false));
    assert_eq!(b.seccomp, SeccompProfile::Unconfined);
    assert_eq!(
        (b.capabilities_add.as_slice(), b.capabilities_drop.as_slice()),
        (&["NET_ADMIN".to_owned()][..], &["ALL".to_owned()][..])
    );
    assert_eq!((c.privileged, &c.seccomp), (true, &SeccompProfile::Unconfined));
    assert_eq!((pod.security.fs_group, pod.security.supplemental_groups.as_slice()), (Some(7), &[8][..]));
}

#[test]
fn host_names() {
    for (fields, name, want) in [
        ("", "web", ("web", None)),
        ("hostname: h, subdomain: s", "web", ("h", Some("s.default.svc.cluster.local"))),
        ("hostname: h, subdomain: s, setHostnameAsFQDN: true", "web", ("h", Some("s.default.svc.cluster.local"))),
        ("hostname: h, subdomain: s, hostnameOverride: o.p", "web", ("o.p", None)),
        ("hostNetwork: true, hostname: h", "web", ("node-one", None)),
        ("", "a.b", ("a.b", None)),
        ("", &format!("{}-x", "a".repeat(62)), (&"a".repeat(62), None)),
    ] {
        let mut pod = pod(&format!("{{containers: [{{name: a, image: x}}], {fields}}}"));
        pod.metadata.name = Some(name.to_owned());
        let got = admit_pod(&pod).unwrap().pod;
        assert_eq!((got.hostname.as_str(), got.domain.as_deref()), want, "{fields} {name}");
    }
    let kernel = |fields: &str| {
        let name = desired(&format!("{{containers: [{{name: a, image: x}}], {fields}}}")).kernel_hostname();
        name.map_err(|error| error.to_string())
    };
    assert_eq!(kernel("hostname: h, subdomain: s").unwrap(), "h");
    assert_eq!(kernel("hostname: h, setHostnameAsFQDN: true").unwrap(), "h");
    assert_eq!(kernel("hostname: h, subdomain: s, setHostnameAsFQDN: true").unwrap(), "h.s.default.svc.cluster.local");
    let long = "l".repeat(40);
    assert_eq!(
        kernel(&format!("hostname: {long}, subdomain: s, setHostnameAsFQDN: true")).unwrap_err(),
        format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {long}.s.default.svc.cluster.local is too long (64 characters is the max, 68 characters requested)"
        )
    );
}

#[test]
fn name_resolution() {
    let dns = |fields: &str| desired(&format!("{{containers: [{{name: a, image: x}}], {fields}}}")).dns;
    assert!(dns("dnsPolicy: Default").from_node);
    assert!(dns("hostNetwork: true").from_node);
    assert!(!dns("hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet").from_node);
    let own = dns(
        "dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], searches: [a.b], options: [{name: ndots, value: \"2\"}, {name: rotate}]}",
    );
    assert_eq!((own.nameservers.len(), own.searches.as_slice()), (1, &["a.b".to_owned()][..]));
    assert_eq!(own.options, ["ndots:2", "rotate"]);
    let merged = dns("dnsConfig: {nameservers: [1.1.1.1, 10.96.0.10], options: [{name: ndots, value: \"2\"}]}");
    assert_eq!((merged.nameservers.len(), merged.options.as_slice()), (2, &["ndots:2".to_owned()][..]));
    let bare = orlop_pod::AdmitContext { cluster_dns: Vec::new(), ..crate::desired::context() };
    let admitted = orlop_pod::admit(&pod(&with("")), orlop_model::PodUid::new("u").unwrap(), &bare).unwrap();
    assert!(admitted.pod.dns.from_node);
    assert_eq!(admitted.warnings[0].path, "spec.dnsPolicy");
}

#[test]
fn variables_keep_their_references() {
    let env = only("env: [{name: A, value: \"$(B)\"}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}, {name: D, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a/b']\"}}}]").env;
    assert_eq!(env[0].source, EnvSource::Value("$(B)".to_owned()));
    assert_eq!(
        env[1].source,
        EnvSource::Resource { container: None, resource: "limits.memory".to_owned(), divisor: 1 << 20 }
    );
    assert_eq!(env[2].source, EnvSource::Field("metadata.labels['a/b']".to_owned()));
}

#[test]
fn a_spec_is_known_by_its_content() {
    assert_eq!(desired(&with("")).spec_hash, desired(&with("")).spec_hash);
    assert_ne!(desired(&with("")).spec_hash, desired(&with("command: [x]")).spec_hash);
}

#[test]
fn deletion_is_counted_back_from_its_deadline() {
    let mut pod = pod(&with(""));
    let by: jiff::Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(by));
    pod.metadata.deletion_grace_period_seconds = Some(60);
    let deletion = admit_pod(&pod).unwrap().pod.deletion.unwrap();
    assert_eq!((deletion.at, deletion.grace_secs), (crate::world::epoch(), 60));
}

#[test]
fn an_image_that_changes() {
    let pod = |a: &str, b: &str| {
        desired(&format!(
            "{{containers: [{{name: a, image: '{a}'}}, {{name: b, image: '{b}'}}], initContainers: [{{name: i, image: '{a}'}}], activeDeadlineSeconds: {}}}",
            a.len()
        ))
    };
    assert_eq!(orlop_pod::redefined(&pod("x:1", "y:1"), &pod("x:1", "y:1")), []);
    let changed = orlop_pod::redefined(&pod("x:1", "y:1"), &pod("x:22", "y:1"));
    let said: Vec<(&str, &str)> = changed.iter().map(|(name, why)| (name.as_str(), why.as_str())).collect();
    assert_eq!(said, [("a", "Container a definition changed, will be restarted")]);
}
