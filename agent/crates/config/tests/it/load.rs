//! What wins over what, and what is wrong with documents.

use orlop_config::{
    At, AuthorizationMode, EvictionSignal, Grade, Inputs, KubeletFlags, Loaded, NodePortAddresses, Source,
    SwapBehavior, load,
};
use std::path::{Path, PathBuf};

const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
const PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
const ORLOP: &str = "apiVersion: orlop.dev/v1alpha1\nkind: OrlopConfiguration\n";

fn source(name: &str, text: &str) -> Source {
    Source { path: PathBuf::from(name), text: text.to_owned() }
}

fn kubelet(text: &str) -> Source {
    source("config.yaml", &format!("{KUBELET}{text}"))
}

fn flags(args: &[&str]) -> KubeletFlags {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    KubeletFlags::parse(&args, Path::new("(flags)")).unwrap().0
}

fn read(file: &str, drop_ins: &[&str], args: &[&str]) -> Loaded {
    let drop_in = |(i, text): (usize, &&str)| source(&format!("{i}.conf"), &format!("{KUBELET}{text}"));
    let drop_ins = drop_ins.iter().enumerate().map(drop_in).collect();
    load(&Inputs { files: vec![kubelet(file)], drop_ins, flags: flags(args) }).unwrap()
}

#[test]
fn flags_over_drop_ins_over_file_over_defaults() {
    let loaded = read("maxPods: 1\nport: 1\npodsPerCore: 1\n", &["maxPods: 2\nport: 2\n", "port: 3\n"], &["--port=4"]);
    let kubelet = loaded.kubelet;
    assert_eq!((kubelet.pods_per_core, kubelet.max_pods, kubelet.port), (1, 2, 4));
    assert_eq!(kubelet.healthz_port, 10248);
}

#[test]
fn drop_ins_merge_maps_replace_lists_and_null_removes() {
    let file = "featureGates: {A: true, B: true}\nclusterDNS: [10.0.0.1, 10.0.0.2]\nstaticPodPath: /m\n";
    let loaded = read(file, &["featureGates: {B: false}\nclusterDNS: [10.0.0.3]\nstaticPodPath: null\n"], &[]);
    let gates: Vec<_> = loaded.kubelet.feature_gates.into_iter().collect();
    assert_eq!(gates, [("A".to_owned(), true), ("B".to_owned(), false)]);
    assert_eq!(loaded.kubelet.cluster_dns, ["10.0.0.3".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(loaded.kubelet.static_pod_path, None);
}

#[test]
fn feature_gates_of_flags_add_up_and_other_maps_replace() {
    let file = "featureGates: {A: true}\nsystemReserved: {cpu: 100m, memory: 1Gi}\n";
    let args = ["--feature-gates=B=true", "--system-reserved=cpu=1", "--kube-reserved=cpu=1,pid=7"];
    let kubelet = read(file, &[], &args).kubelet;
    assert_eq!(kubelet.feature_gates.len(), 2);
    assert_eq!((kubelet.system_reserved.cpu_milli, kubelet.system_reserved.memory_bytes), (1000, 0));
    assert_eq!((kubelet.kube_reserved.cpu_milli, kubelet.kube_reserved.pids), (1000, 7));
}

#[track_caller]
fn check_eviction(file: &str, drop_in: &str, args: &[&str], want: &[(EvictionSignal, At)]) {
    let hard = read(file, &[drop_in], args).kubelet.eviction_hard;
    assert_eq!(hard.into_iter().collect::<Vec<_>>(), want);
}

#[test]
fn eviction_thresholds() {
    use EvictionSignal::{ImageFsAvailable, ImageFsInodesFree, MemoryAvailable, NodeFsAvailable, NodeFsInodesFree};
    let rest = [
        (NodeFsAvailable, At::Percent(10.0)),
        (NodeFsInodesFree, At::Percent(5.0)),
        (ImageFsAvailable, At::Percent(15.0)),
        (ImageFsInodesFree, At::Percent(5.0)),
    ];
    let with = |bytes| [vec![(MemoryAvailable, At::Amount(bytes))], rest.to_vec()].concat();
    let own = "evictionHard: {memory.available: 1Gi}\n";
    check_eviction("", "", &[], &with(100 << 20));
    check_eviction(own, "", &[], &[(MemoryAvailable, At::Amount(1 << 30))]);
    check_eviction("", own, &[], &with(1 << 30));
    check_eviction(&format!("{own}mergeDefaultEvictionSettings: true\n"), "", &[], &with(1 << 30));
    check_eviction("evictionHard: {nodefs.available: 0%, memory.available: 100%}\n", "", &[], &[]);
    check_eviction("", "", &["--eviction-hard=nodefs.available<3%"], &[(NodeFsAvailable, At::Percent(3.0))]);
}

#[test]
fn defaults_that_hang_together() {
    let kubelet = read("nodeStatusUpdateFrequency: 4s\nmaxParallelImagePulls: 5\npodPidsLimit: -3\n", &[], &[]).kubelet;
    assert_eq!(kubelet.node_status_report_frequency.as_secs(), 4);
    assert!(!kubelet.serialize_image_pulls);
    assert_eq!(kubelet.pod_pids_limit, None);
    // As in the kubelet, the file decides about the report's frequency before drop-ins are read.
    let kubelet = read("", &["nodeStatusUpdateFrequency: 4s\n"], &[]).kubelet;
    assert_eq!(kubelet.node_status_update_frequency.as_secs(), 4);
    assert_eq!(kubelet.node_status_report_frequency.as_secs(), 300);
}

#[test]
fn zero_is_a_value_only_where_it_is_one() {
    let file = "healthzPort: 0\nregistryPullQPS: 0\nresolvConf: ''\nmaxPods: 0\nsyncFrequency: 0s\nclusterDomain: ''\n\
                memorySwap: {swapBehavior: LimitedSwap}\nauthorization: {mode: AlwaysAllow}\n";
    let loaded = read(file, &[], &[]);
    let kubelet = loaded.kubelet;
    assert_eq!((kubelet.healthz_port, kubelet.registry_pull_qps, kubelet.max_pods), (0, 0, 110));
    assert_eq!((kubelet.resolv_conf, kubelet.cluster_domain), (None, None));
    assert_eq!(kubelet.memory_swap.swap_behavior, SwapBehavior::LimitedSwap);
    assert_eq!(kubelet.authorization.mode, AuthorizationMode::AlwaysAllow);
}

#[test]
fn what_is_not_acted_on_is_told_once_with_its_last_place() {
    let loaded = read(
        "evictionMaxPodGracePeriod: 30\nsyncFrequency: 7s\nimageMinimumGCAge: 2m0s\ntracing: {endpoint: x}\n",
        &["evictionMaxPodGracePeriod: 60\nfeatureGates: {SidecarContainers: true, Nope: true}\n"],
        &["--cpu-manager-policy=static"],
    );
    let told: Vec<_> = loaded
        .warnings
        .iter()
        .map(|w| {
            format!("{:?} {} {}", w.grade, w.origin.display(), w.field.trim_start_matches("KubeletConfiguration "))
        })
        .collect();
    assert_eq!(
        told,
        [
            "Note config.yaml syncFrequency",
            "Warning config.yaml tracing",
            "Warning 0.conf evictionMaxPodGracePeriod",
            "Warning (flags) cpuManagerPolicy",
            "Warning 0.conf featureGates.Nope",
        ]
    );
    assert!(loaded.warnings.iter().all(|warning| !warning.instead.is_empty()));
}

#[test]
fn supported_fields_with_values_that_are_not() {
    let file = "enforceNodeAllocatable: [pods, kube-reserved]\n\
                evictionHard: {containerfs.available: 5%, pid.available: 5%}\n";
    let told: Vec<_> = read(file, &[], &[]).warnings.into_iter().map(|warning| warning.field).collect();
    let fields = ["evictionHard", "enforceNodeAllocatable kube-reserved", "evictionHard.containerfs.available"];
    assert_eq!(told, fields.map(|field| format!("KubeletConfiguration {field}")));
}

#[test]
fn several_documents_in_one_file() {
    let text = format!(
        "# all in one\n---\n{ORLOP}nodeName: n1\npodCIDRs: [10.1.0.0/24]\n---\n{KUBELET}maxPods: 7\n---\n{PROXY}\
         clusterCIDR: 10.0.0.0/8,fd00::/48\nnodePortAddresses: [192.0.2.0/24]\nmode: nftables\n"
    );
    let loaded = load(&Inputs { files: vec![source("all.yaml", &text)], ..Inputs::default() }).unwrap();
    let orlop = loaded.orlop.unwrap();
    assert_eq!((orlop.node_name.as_deref(), orlop.pod_cidrs.len()), (Some("n1"), 1));
    assert_eq!(loaded.kubelet.max_pods, 7);
    assert_eq!(loaded.proxy.cluster_cidrs.len(), 2);
    assert_eq!(loaded.proxy.node_port_addresses, NodePortAddresses::Within(vec!["192.0.2.0/24".parse().unwrap()]));
    let told: Vec<_> = loaded.warnings.iter().map(|w| (w.grade, w.field.as_str())).collect();
    assert_eq!(told, [(Grade::Note, "KubeProxyConfiguration mode")]);
}

#[track_caller]
fn check_wrong(text: &str, wanted: &str) {
    let error = load(&Inputs { files: vec![source("c.yaml", text)], ..Inputs::default() }).unwrap_err();
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn faults_name_file_and_field() {
    let check = |text: &str, wanted: &str| {
        check_wrong(&format!("{KUBELET}{text}"), &format!("configuration c.yaml: KubeletConfiguration{wanted}"));
    };
    check("evictionHrad: {}\nlogging: {x: 1}\n", " has no field evictionHrad, logging.x");
    check("maxPods: many\n", ": maxPods: must be a whole number");
    check("maxPods: -1\n", ": maxPods: invalid value: integer `-1`, expected u32");
    check(
        "logging: {flushFrequency: 5000000000}\nfileCheckFrequency: 5x\n",
        ": fileCheckFrequency: \"5x\" must be a duration such as 10s, 5m or 1h30m",
    );
    check(
        "containerLogMaxSize: 10mb\n",
        ": containerLogMaxSize: \"10mb\" must be a quantity such as 100m, 10Mi or 2Gi",
    );
    check("systemReserved: {cpu: 1}\n", ": systemReserved: must be a map of texts; put each in quotes");
    check(
        "systemReserved: {gpu: '1'}\n",
        ": systemReserved: cannot reserve \"gpu\": only cpu, memory, ephemeral-storage and pid can be",
    );
    check(
        "evictionHard: {memory.available: 101%}\n",
        ": evictionHard: memory.available: \"101%\" must be from 0% to 100%",
    );
    check(
        "evictionSoft: {memory.available: 1Gi}\n",
        ": evictionSoft: each threshold needs its evictionSoftGracePeriod",
    );
    check("clusterDNS: [10.0.0]\n", ": clusterDNS[0]: invalid IP address syntax");
    check(
        "crashLoopBackOff: {maxContainerRestartPeriod: 10m}\n",
        ": crashLoopBackOff.maxContainerRestartPeriod: must be between 1s and 300s",
    );
    check(
        "imageGCLowThresholdPercent: 90\n",
        ": imageGCLowThresholdPercent: must be less than imageGCHighThresholdPercent",
    );
    check(
        "registerWithTaints: [{key: a, effect: Never}]\n",
        ": registerWithTaints: effect \"Never\" must be one of NoSchedule, PreferNoSchedule, NoExecute",
    );
    check(
        "authorization: {mode: Node}\n",
        ": authorization.mode: unknown variant `Node`, expected `AlwaysAllow` or `Webhook`",
    );
    check("enforceNodeAllocatable: [none, pods]\n", ": enforceNodeAllocatable: nothing may stand beside none");
}

#[test]
fn faults_of_documents() {
    check_wrong(
        "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1\n",
        "configuration c.yaml: document at line 1: apiVersion of KubeletConfiguration must be \
         \"kubelet.config.k8s.io/v1beta1\", it is \"kubelet.config.k8s.io/v1\"",
    );
    check_wrong(
        &format!("{KUBELET}---\n{KUBELET}"),
        "configuration c.yaml: document at line 3: a second KubeletConfiguration; the first is at line 1",
    );
    check_wrong("[]\n", "configuration c.yaml: document at line 1: must be a mapping with apiVersion and kind");
    check_wrong(
        &format!("{ORLOP}nodename: n\n"),
        "configuration c.yaml: OrlopConfiguration: nodename: unknown field `nodename`, expected one of `manifests`, \
         `kubeconfig`, `nodeName`, `nodeIPs`, `podCIDRs`, `serviceCIDR`, `rootDir`, `stateDir`, `runDir`, `logDir`, \
         `cgroupRoot`, `bpfDir`, `images`, `monitor`, `clusterDNS`, `clusterDomain`, `nodeRouting`, \
         `vxlanVNI`, `vxlanPort`, `containerLogMaxSize`, `containerLogMaxFiles`, \
         `services`, `masquerade`, `nonMasqueradeCIDRs`, `mapEntries`",
    );
    check_wrong(
        &format!("{PROXY}clusterCIDR: 10.0.0.0/8,11.0.0.0/8\n"),
        "configuration c.yaml: KubeProxyConfiguration: clusterCIDR: \"10.0.0.0/8,11.0.0.0/8\" must be at most one \
         IPv4 and one IPv6 network",
    );
    let bad = format!("{KUBELET}---\na: [\n");
    let error = load(&Inputs { files: vec![source("c.yaml", &bad)], ..Inputs::default() }).unwrap_err().to_string();
    assert!(error.starts_with("understand configuration c.yaml: the document that starts at line 3"), "{error}");
    let drop_in = Inputs { drop_ins: vec![source("1.conf", ORLOP)], ..Inputs::default() };
    assert_eq!(
        load(&drop_in).unwrap_err().to_string(),
        "configuration 1.conf: document at line 1: a drop-in must be a KubeletConfiguration, not OrlopConfiguration"
    );
}

#[test]
fn a_wrong_drop_in_is_named_and_not_the_file() {
    let drop_in = source("1.conf", &format!("{KUBELET}evictionHard: {{x: 1Gi}}\n"));
    let error = load(&Inputs { files: vec![kubelet("")], drop_ins: vec![drop_in], ..Inputs::default() }).unwrap_err();
    assert!(
        error.to_string().starts_with("configuration 1.conf: KubeletConfiguration: evictionHard: \"x\" is no"),
        "{error}"
    );
}
