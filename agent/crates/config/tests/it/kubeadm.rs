//! Files as kubeadm and an administrator leave them, and flags.

use orlop_config::{DropIns, Inputs, Kubeadm, KubeletFlags, NodePortAddresses, Source, environment_args, load};
use std::fs;
use std::path::Path;

/// What kubeadm writes: most fields are there with their zero.
const CONFIG: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: \"\"
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
kind: KubeletConfiguration
logging:
  flushFrequency: 0
  options:
    json: {infoBufferSize: \"0\"}
    text: {infoBufferSize: \"0\"}
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
";

#[test]
fn a_machine_that_kubeadm_prepared() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    assert_eq!(Kubeadm::find(root.path()).unwrap(), None);
    write("var/lib/kubelet/config.yaml", CONFIG);
    write(
        "var/lib/kubelet/instance-config.yaml",
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
         containerRuntimeEndpoint: unix:///var/run/crio/crio.sock\n",
    );
    write(
        "var/lib/kubelet/kubeadm-flags.env",
        "KUBELET_KUBEADM_ARGS=\"--node-ip=192.0.2.5,2001:db8::5 --pod-infra-container-image=pause:3.10 \
         --register-with-taints=a=b:NoSchedule --hostname-override=n1 --nope\"\n",
    );
    write("etc/kubernetes/bootstrap-kubelet.conf", "");
    let kubeadm = Kubeadm::find(root.path()).unwrap().unwrap();
    assert!(kubeadm.bootstrap_kubeconfig.is_some() && kubeadm.kubeconfig.is_none());

    let (flags, mut told) = KubeletFlags::parse(&kubeadm.args, &kubeadm.args_file).unwrap();
    assert_eq!(flags.node_ips.len(), 2);
    assert_eq!(flags.hostname_override.as_deref(), Some("n1"));
    let loaded = load(&Inputs { files: kubeadm.files(), flags, ..Inputs::default() }).unwrap();
    told.extend(loaded.warnings);
    let told: Vec<String> = told.iter().map(|warning| format!("{:?} {}", warning.grade, warning.field)).collect();
    assert_eq!(
        told,
        [
            "Note --pod-infra-container-image",
            "Warning --nope",
            "Warning KubeletConfiguration authentication.x509.clientCAFile",
            "Warning KubeletConfiguration cgroupDriver",
            "Note KubeletConfiguration containerRuntimeEndpoint",
        ]
    );
    let kubelet = loaded.kubelet;
    assert_eq!(kubelet.register_with_taints[0].key, "a");
    assert_eq!(kubelet.authentication.x509.client_ca_file.as_deref(), Some(Path::new("/etc/kubernetes/pki/ca.crt")));
    assert_eq!(kubelet.authorization.webhook.cache_authorized_ttl.as_secs(), 300);
    assert_eq!(kubelet.crash_loop_back_off.max_container_restart_period.as_secs(), 300);
    assert!(kubelet.rotate_certificates && !kubelet.server_tls_bootstrap);
}

/// What kubeadm puts into the ConfigMap of kube-proxy.
const PROXY: &str = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 0
  contentType: \"\"
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal: {bridgeInterface: \"\", interfaceNamePrefix: \"\"}
detectLocalMode: \"\"
enableProfiling: false
healthzBindAddress: \"\"
hostnameOverride: \"\"
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: \"\", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s,
  tcpTimeout: 0s, udpTimeout: 0s}
kind: KubeProxyConfiguration
logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}, text: {infoBufferSize: \"0\"}}, verbosity: 0}
metricsBindAddress: 127.0.0.2
mode: \"\"
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: \"\", rootHnsEndpointName: \"\", sourceVip: \"\"}
";

#[test]
fn the_proxys_configuration_of_kubeadm() {
    let source = Source { path: "proxy.yaml".into(), text: PROXY.to_owned() };
    let loaded = load(&Inputs { files: vec![source], ..Inputs::default() }).unwrap();
    let told: Vec<_> = loaded.warnings.iter().map(|warning| warning.field.as_str()).collect();
    let fields = ["clientConnection.kubeconfig", "metricsBindAddress"];
    assert_eq!(told, fields.map(|field| format!("KubeProxyConfiguration {field}")));
    let proxy = loaded.proxy;
    assert_eq!(proxy.cluster_cidrs[0].to_string(), "10.244.0.0/16");
    assert_eq!(proxy.node_port_addresses, NodePortAddresses::All);
    assert_eq!(proxy.healthz_bind_address.to_string(), "0.0.0.0:10256");
    assert_eq!(proxy.metrics_bind_address.to_string(), "127.0.0.2:10249");
}

#[test]
fn drop_ins_are_read_in_order_and_others_told() {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in [("20.conf", "b"), ("10.conf", "a"), ("15/x.conf", "m"), ("15/y.yaml", ""), ("README", "")] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let found = DropIns::read(root.path()).unwrap();
    assert_eq!(found.sources.iter().map(|source| source.text.as_str()).collect::<String>(), "amb");
    assert_eq!(found.skipped.len(), 2);
    let missing = DropIns::read(&root.path().join("none")).unwrap_err().to_string();
    assert!(missing.starts_with("read configuration /"), "{missing}");
}

#[test]
fn a_file_too_large_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len((3 << 20) + 1).unwrap();
    let error = Source::read(file.path()).unwrap_err().to_string();
    assert!(error.ends_with("is larger than 3145728 bytes"), "{error}");
}

#[track_caller]
fn check_env(text: &str, want: Result<&[&str], &str>) {
    let source = Source { path: "flags.env".into(), text: text.to_owned() };
    match (environment_args(&source, "ARGS"), want) {
        (Ok(got), Ok(want)) => assert_eq!(got, want),
        (Err(error), Err(want)) => assert_eq!(error.to_string(), want),
        (got, want) => panic!("{got:?}, wanted {want:?}"),
    }
}

#[test]
fn environment_files() {
    check_env("", Ok(&[]));
    check_env("# ARGS=1\n\n; x\nOTHER=\"--a\"\n", Ok(&[]));
    check_env("ARGS=\"--a=b  --c\"\n", Ok(&["--a=b", "--c"]));
    check_env("ARGS='--a=\"b\"'\n", Ok(&["--a=\"b\""]));
    check_env("ARGS=--a\nARGS=\"--b\\\"\"\n", Ok(&["--b\""]));
    check_env("x\n", Err("flags.env: line 1: must be NAME=VALUE"));
    check_env("\nARGS=\"--a\n", Err("flags.env: line 2: a quote has no end"));
}

#[track_caller]
fn check_flag(args: &[&str], want: &str) {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let error = KubeletFlags::parse(&args, Path::new("env")).unwrap_err();
    assert_eq!(error.to_string(), want);
}

#[test]
fn faults_of_flags() {
    check_flag(&["--max-pods=x"], "--max-pods \"x\" (env): must be a whole number");
    check_flag(&["--max-pods"], "--max-pods \"\" (env): needs a value");
    check_flag(&["--max-pods", "--v=2"], "--max-pods \"\" (env): needs a value");
    check_flag(&["--node-ip=1.2.3"], "--node-ip \"1.2.3\" (env): \"1.2.3\" must be an IP address");
    check_flag(
        &["--node-ip=192.0.2.1,192.0.2.2"],
        "--node-ip \"192.0.2.1,192.0.2.2\" (env): must be one address, or one of each family",
    );
    check_flag(&["--cloud-provider=aws"], "--cloud-provider \"aws\" (env): must be \"external\" or empty");
    check_flag(
        &["--register-with-taints=a"],
        "--register-with-taints \"a\" (env): taint \"a\" must be KEY=VALUE:EFFECT or KEY:EFFECT",
    );
    check_flag(&["--anonymous-auth=maybe"], "--anonymous-auth \"maybe\" (env): must be true or false");
}

#[test]
fn flags_as_the_kubelet_takes_them() {
    let parse = |args: &[&str], origin: &str| {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        KubeletFlags::parse(&args, Path::new(origin)).unwrap()
    };
    let (file, told) = parse(
        &[
            "--max-pods",
            "7",
            "--anonymous-auth",
            "--node-labels=a=b",
            "--node-labels",
            "c",
            "--cluster-dns=10.0.0.1",
            "stray",
            "--cluster-dns=10.0.0.2",
            "--system-reserved=cpu=1",
            "--system-reserved=memory=1Gi",
            "--kubeconfig=/a",
        ],
        "env",
    );
    assert_eq!(told.len(), 1, "{told:?}");
    let (line, _) = parse(&["--max-pods=8", "--kubeconfig=/b", "--node-labels=a=x"], "line");
    let flags = file.overlaid(line);
    assert_eq!(flags.kubeconfig.as_deref(), Some(Path::new("/b")));
    assert_eq!(format!("{:?}", flags.node_labels), r#"{"a": "x", "c": ""}"#);
    let kubelet = load(&Inputs { flags, ..Inputs::default() }).unwrap().kubelet;
    assert_eq!((kubelet.max_pods, kubelet.cluster_dns.len()), (8, 2));
    assert!(kubelet.authentication.anonymous.enabled);
    assert_eq!((kubelet.system_reserved.cpu_milli, kubelet.system_reserved.memory_bytes), (1000, 1 << 30));
}
