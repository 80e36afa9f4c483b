//! The table of KubeletConfiguration (`kubelet.config.k8s.io/v1beta1`, v1.36): every field,
//! its default, its flag and what Orlop does with it. Docs and warnings come from here.

use crate::field::Kind::{
    Bool, Duration, DurationOrNanos, Float, Gates, Int, Ints, Map, Object, Quantity, Text, Texts, Thresholds,
};
use crate::field::Treatment::{NotOurs, Supported, Warned};
use crate::field::{Field, Kind, Treatment};

const fn f(path: &'static str, kind: Kind, default: &'static str, treatment: Treatment) -> Field {
    Field::new(path, kind, default, treatment)
}

const POLLED: Treatment = NotOurs("Orlop waits for events and does not poll for this");
const NO_IPTABLES: Treatment = NotOurs("Orlop needs no iptables rules");
const NO_GC: Treatment = Warned("images are not collected yet: they stay until 'orlop' removes them");
const NO_EVICTION: Treatment =
    Warned("the pressure is reported and a hard threshold held back from pods; those that run are not evicted yet");
const NO_SHUTDOWN: Treatment = Warned("pods are not stopped in order at shutdown: their monitors end with the machine");
const NO_CPU_MANAGER: Treatment = Warned("containers share all CPUs: none are set aside for one container");
const NO_NUMA: Treatment = Warned("memory and devices are not placed by NUMA node");
const NO_TREE_FOR_SYSTEM: Treatment =
    Warned("what is reserved is held back from pods; the system's own cgroups are left alone");
const NO_DEBUG_HANDLER: Treatment = Warned("the server has no such handler");
const NO_API_QUOTA: Treatment = Warned("requests to the API server are few and not throttled by number");
const NO_SERVER: Treatment = Warned("the agent does not serve its HTTPS port yet");
const NO_HEALTHZ: Treatment = Warned("the agent does not answer health checks on a port yet");
const NO_LOG_OPTION: Treatment = NotOurs("Orlop's log is set by --log-level and --log-format");

/// Every field, in the order of the type.
pub(crate) const KUBELET_FIELDS: &[Field] = &[
    f("enableServer", Bool, "true", Supported).pointer().flag("enable-server"),
    f("staticPodPath", Text, "", Supported).flag("pod-manifest-path"),
    f("podLogsDir", Text, "\"/var/log/pods\"", Supported),
    f("syncFrequency", Duration, "\"1m\"", POLLED).flag("sync-frequency"),
    f("fileCheckFrequency", Duration, "\"20s\"", NotOurs("the folder of static pods is watched, not polled"))
        .flag("file-check-frequency"),
    f("httpCheckFrequency", Duration, "\"20s\"", POLLED).flag("http-check-frequency"),
    f("staticPodURL", Text, "", Warned("no pods are read from a URL: put manifests into staticPodPath"))
        .flag("manifest-url"),
    f("staticPodURLHeader", Object, "", Warned("no pods are read from a URL: put manifests into staticPodPath"))
        .flag("manifest-url-header"),
    f("address", Text, "\"0.0.0.0\"", NO_SERVER).flag("address"),
    f("port", Int, "10250", Supported).flag("port"),
    f("readOnlyPort", Int, "", Warned("no port without authentication is opened: use port with a token"))
        .flag("read-only-port"),
    f("tlsCertFile", Text, "", Supported).flag("tls-cert-file"),
    f("tlsPrivateKeyFile", Text, "", Supported).flag("tls-private-key-file"),
    f("tlsCipherSuites", Texts, "", NO_SERVER).flag("tls-cipher-suites"),
    f("tlsCurvePreferences", Ints, "", Warned("the TLS library's curves are offered")).flag("tls-curve-preferences"),
    f("tlsMinVersion", Text, "", NO_SERVER).flag("tls-min-version"),
    f("rotateCertificates", Bool, "", Supported).flag("rotate-certificates"),
    f("serverTLSBootstrap", Bool, "", Supported).flag("rotate-server-certificates"),
    f("authentication.x509.clientCAFile", Text, "", NO_SERVER).flag("client-ca-file"),
    f("authentication.webhook.enabled", Bool, "true", NO_SERVER).pointer().flag("authentication-token-webhook"),
    f("authentication.webhook.cacheTTL", Duration, "\"2m\"", NO_SERVER).flag("authentication-token-webhook-cache-ttl"),
    f("authentication.anonymous.enabled", Bool, "false", NO_SERVER).pointer().flag("anonymous-auth"),
    f("authorization.mode", Text, "\"Webhook\"", NO_SERVER).flag("authorization-mode"),
    f("authorization.webhook.cacheAuthorizedTTL", Duration, "\"5m\"", NO_SERVER)
        .flag("authorization-webhook-cache-authorized-ttl"),
    f("authorization.webhook.cacheUnauthorizedTTL", Duration, "\"30s\"", NO_SERVER)
        .flag("authorization-webhook-cache-unauthorized-ttl"),
    f("registryPullQPS", Int, "5", Warned("pulls are limited by number, not by rate: see maxParallelImagePulls"))
        .pointer()
        .flag("registry-qps"),
    f("registryBurst", Int, "10", Warned("pulls are limited by number, not by rate: see maxParallelImagePulls"))
        .flag("registry-burst"),
    f(
        "imagePullCredentialsVerificationPolicy",
        Text,
        "\"NeverVerifyPreloadedImages\"",
        Warned("a pod may use an image that is on the node, whoever pulled it"),
    ),
    f(
        "preloadedImagesVerificationAllowlist",
        Texts,
        "",
        Warned("a pod may use an image that is on the node, whoever pulled it"),
    ),
    f("eventRecordQPS", Int, "50", Supported).pointer().flag("event-qps"),
    f("eventBurst", Int, "100", Supported).flag("event-burst"),
    f("enableDebuggingHandlers", Bool, "true", NO_SERVER).pointer().flag("enable-debugging-handlers"),
    f("enableContentionProfiling", Bool, "", NotOurs("it profiles Go's locks")).flag("contention-profiling"),
    f("healthzPort", Int, "10248", NO_HEALTHZ).pointer().flag("healthz-port"),
    f("healthzBindAddress", Text, "\"127.0.0.1\"", NO_HEALTHZ).flag("healthz-bind-address"),
    f("oomScoreAdj", Int, "-999", Warned("the service manager sets it: the unit says -999"))
        .pointer()
        .flag("oom-score-adj"),
    f("clusterDomain", Text, "", Supported).flag("cluster-domain"),
    f("clusterDNS", Texts, "", Supported).flag("cluster-dns"),
    f("streamingConnectionIdleTimeout", Duration, "\"4h\"", NO_SERVER).flag("streaming-connection-idle-timeout"),
    f("nodeStatusUpdateFrequency", Duration, "\"10s\"", Supported).flag("node-status-update-frequency"),
    f("nodeStatusReportFrequency", Duration, "\"5m\"", Supported),
    f("nodeLeaseDurationSeconds", Int, "40", Supported),
    f("imageMinimumGCAge", Duration, "\"2m\"", NO_GC).flag("minimum-image-ttl-duration"),
    f("imageMaximumGCAge", Duration, "\"0s\"", NO_GC),
    f("imageGCHighThresholdPercent", Int, "85", NO_GC).pointer().flag("image-gc-high-threshold"),
    f("imageGCLowThresholdPercent", Int, "80", NO_GC).pointer().flag("image-gc-low-threshold"),
    f("volumeStatsAggPeriod", Duration, "\"1m\"", POLLED).flag("volume-stats-agg-period"),
    f("kubeletCgroups", Text, "", Warned("the agent stays in the cgroup it was started in")).flag("kubelet-cgroups"),
    f("systemCgroups", Text, "", NO_TREE_FOR_SYSTEM).flag("system-cgroups"),
    f("cgroupRoot", Text, "", Supported).flag("cgroup-root"),
    f(
        "cgroupsPerQOS",
        Bool,
        "true",
        Warned("pods' cgroups are always below kubepods, kubepods/burstable and kubepods/besteffort"),
    )
    .pointer()
    .flag("cgroups-per-qos"),
    f(
        "cgroupDriver",
        Text,
        "\"cgroupfs\"",
        Warned("pods' cgroups are made directly below cgroupRoot, in a tree that systemd leaves alone"),
    )
    .flag("cgroup-driver"),
    f("cpuManagerPolicy", Text, "\"none\"", NO_CPU_MANAGER).flag("cpu-manager-policy"),
    f("singleProcessOOMKill", Bool, "", Warned("out of memory ends all processes of a container")).pointer(),
    f("cpuManagerPolicyOptions", Map, "", NO_CPU_MANAGER).flag("cpu-manager-policy-options"),
    f("cpuManagerReconcilePeriod", Duration, "\"10s\"", POLLED).flag("cpu-manager-reconcile-period"),
    f("memoryManagerPolicy", Text, "\"None\"", NO_NUMA).flag("memory-manager-policy"),
    f("topologyManagerPolicy", Text, "\"none\"", NO_NUMA).flag("topology-manager-policy"),
    f("topologyManagerScope", Text, "\"container\"", NO_NUMA).flag("topology-manager-scope"),
    f("topologyManagerPolicyOptions", Map, "", NO_NUMA).flag("topology-manager-policy-options"),
    f("qosReserved", Map, "", Warned("memory requests are not held back from lower QoS classes")).flag("qos-reserved"),
    f("runtimeRequestTimeout", Duration, "\"2m\"", NotOurs("there is no container runtime to ask"))
        .flag("runtime-request-timeout"),
    f("hairpinMode", Text, "\"promiscuous-bridge\"", NotOurs("a pod always reaches itself through its Service"))
        .flag("hairpin-mode"),
    f("maxPods", Int, "110", Supported).flag("max-pods"),
    f("podCIDR", Text, "", Supported).flag("pod-cidr"),
    f("podPidsLimit", Int, "-1", Supported).pointer().flag("pod-max-pids"),
    f("resolvConf", Text, "\"/etc/resolv.conf\"", Supported).pointer().flag("resolv-conf"),
    f("runOnce", Bool, "", Warned("the agent keeps running, as the kubelet refuses to do otherwise")).flag("runonce"),
    f("cpuCFSQuota", Bool, "true", Warned("CPU limits are always enforced")).pointer().flag("cpu-cfs-quota"),
    f("cpuCFSQuotaPeriod", Duration, "\"100ms\"", Warned("CPU limits are enforced over periods of 100 ms"))
        .pointer()
        .flag("cpu-cfs-quota-period"),
    f("nodeStatusMaxImages", Int, "50", Supported).pointer().flag("node-status-max-images"),
    f("maxOpenFiles", Int, "1000000", NotOurs("the service manager's limit holds")).flag("max-open-files"),
    f("contentType", Text, "\"application/vnd.kubernetes.protobuf\"", NotOurs("the API server is spoken to in JSON"))
        .flag("kube-api-content-type"),
    f("kubeAPIQPS", Int, "50", NO_API_QUOTA).pointer().flag("kube-api-qps"),
    f("kubeAPIBurst", Int, "100", NO_API_QUOTA).flag("kube-api-burst"),
    f("serializeImagePulls", Bool, "", Supported).pointer().flag("serialize-image-pulls"),
    f("maxParallelImagePulls", Int, "", Supported).pointer(),
    f("evictionHard", Thresholds, "", NO_EVICTION).pointer().flag("eviction-hard"),
    f("evictionSoft", Thresholds, "", NO_EVICTION).flag("eviction-soft"),
    f("evictionSoftGracePeriod", Map, "", NO_EVICTION).flag("eviction-soft-grace-period"),
    f("evictionPressureTransitionPeriod", Duration, "\"5m\"", Supported).flag("eviction-pressure-transition-period"),
    f("evictionMaxPodGracePeriod", Int, "", NO_EVICTION).flag("eviction-max-pod-grace-period"),
    f("evictionMinimumReclaim", Thresholds, "", Supported).flag("eviction-minimum-reclaim"),
    f("mergeDefaultEvictionSettings", Bool, "false", Supported).pointer(),
    f("podsPerCore", Int, "0", Supported).flag("pods-per-core"),
    f("enableControllerAttachDetach", Bool, "true", Supported).pointer().flag("enable-controller-attach-detach"),
    f("protectKernelDefaults", Bool, "", Warned("kernel settings are neither checked nor changed"))
        .flag("protect-kernel-defaults"),
    f("makeIPTablesUtilChains", Bool, "true", NO_IPTABLES).pointer().flag("make-iptables-util-chains"),
    f("iptablesMasqueradeBit", Int, "14", NO_IPTABLES).pointer().flag("iptables-masquerade-bit"),
    f("iptablesDropBit", Int, "15", NO_IPTABLES).pointer().flag("iptables-drop-bit"),
    f("featureGates", Gates, "", Supported).flag("feature-gates"),
    f("failSwapOn", Bool, "true", Warned("the agent starts whether the machine swaps or not; containers do not swap"))
        .pointer()
        .flag("fail-swap-on"),
    f("memorySwap.swapBehavior", Text, "", Warned("containers do not swap")),
    f("containerLogMaxSize", Quantity, "\"10Mi\"", Supported).flag("container-log-max-size"),
    f("containerLogMaxFiles", Int, "5", Supported).pointer().flag("container-log-max-files"),
    f("containerLogMaxWorkers", Int, "1", NotOurs("each pod's monitor rotates its own logs")).pointer(),
    f("containerLogMonitorInterval", Duration, "\"10s\"", NotOurs("a log is rotated by the write that fills it"))
        .pointer(),
    f(
        "configMapAndSecretChangeDetectionStrategy",
        Text,
        "\"Watch\"",
        Warned("ConfigMaps and Secrets of the node's pods are always watched"),
    ),
    f("systemReserved", Map, "", Supported).flag("system-reserved"),
    f("kubeReserved", Map, "", Supported).flag("kube-reserved"),
    f("reservedSystemCPUs", Text, "", NO_CPU_MANAGER).flag("reserved-cpus"),
    f("showHiddenMetricsForVersion", Text, "", NotOurs("Orlop hides no metrics"))
        .flag("show-hidden-metrics-for-version"),
    f("systemReservedCgroup", Text, "", NO_TREE_FOR_SYSTEM).flag("system-reserved-cgroup"),
    f("kubeReservedCgroup", Text, "", NO_TREE_FOR_SYSTEM).flag("kube-reserved-cgroup"),
    f("enforceNodeAllocatable", Texts, "[\"pods\"]", Supported).pointer().flag("enforce-node-allocatable"),
    f("allowedUnsafeSysctls", Texts, "", Supported).flag("allowed-unsafe-sysctls"),
    f(
        "volumePluginDir",
        Text,
        "\"/usr/libexec/kubernetes/kubelet-plugins/volume/exec/\"",
        Warned("FlexVolume plugins are not run"),
    )
    .flag("volume-plugin-dir"),
    f("providerID", Text, "", Supported).flag("provider-id"),
    f("kernelMemcgNotification", Bool, "", NotOurs("memory pressure is always told by the kernel"))
        .flag("kernel-memcg-notification"),
    f("logging.format", Text, "\"text\"", NO_LOG_OPTION).flag("logging-format"),
    f("logging.flushFrequency", DurationOrNanos, "\"5s\"", NO_LOG_OPTION).flag("log-flush-frequency"),
    f("logging.verbosity", Int, "0", NO_LOG_OPTION).flag("v"),
    f("logging.vmodule", Object, "", NO_LOG_OPTION).flag("vmodule"),
    f("logging.options.text.splitStream", Bool, "", NO_LOG_OPTION).flag("log-text-split-stream"),
    f("logging.options.text.infoBufferSize", Quantity, "\"0\"", NO_LOG_OPTION).flag("log-text-info-buffer-size"),
    f("logging.options.json.splitStream", Bool, "", NO_LOG_OPTION).flag("log-json-split-stream"),
    f("logging.options.json.infoBufferSize", Quantity, "\"0\"", NO_LOG_OPTION).flag("log-json-info-buffer-size"),
    f("enableSystemLogHandler", Bool, "true", NO_SERVER).pointer(),
    f("enableSystemLogQuery", Bool, "false", NO_DEBUG_HANDLER).pointer(),
    f("shutdownGracePeriod", Duration, "\"0s\"", NO_SHUTDOWN),
    f("shutdownGracePeriodCriticalPods", Duration, "\"0s\"", NO_SHUTDOWN),
    f("shutdownGracePeriodByPodPriority", Object, "", NO_SHUTDOWN),
    f(
        "crashLoopBackOff.maxContainerRestartPeriod",
        Duration,
        "\"5m\"",
        Warned("a container that fails waits up to 5 min before it is restarted"),
    )
    .pointer(),
    f("reservedMemory", Object, "", NO_NUMA).flag("reserved-memory"),
    f("enableProfilingHandler", Bool, "true", NotOurs("there is no Go profile to serve"))
        .pointer()
        .flag("enable-profiling-handler"),
    f("enableDebugFlagsHandler", Bool, "true", NO_LOG_OPTION).pointer().flag("enable-debug-flags-handler"),
    f("seccompDefault", Bool, "false", Supported).pointer().flag("seccomp-default"),
    f("memoryThrottlingFactor", Float, "0.9", Warned("memory is limited, not throttled before its limit")).pointer(),
    f("memoryReservationPolicy", Text, "\"None\"", Warned("memory requests set no memory.min")),
    f("registerWithTaints", Object, "", Supported).flag("register-with-taints"),
    f("registerNode", Bool, "true", Supported).pointer().flag("register-node"),
    f("tracing", Object, "", Warned("no traces are sent")),
    f("localStorageCapacityIsolation", Bool, "true", Warned("ephemeral-storage is always reported"))
        .pointer()
        .flag("local-storage-capacity-isolation"),
    f(
        "containerRuntimeEndpoint",
        Text,
        "\"unix:///run/containerd/containerd.sock\"",
        NotOurs("Orlop runs containers itself and asks no runtime"),
    )
    .flag("container-runtime-endpoint"),
    f("imageServiceEndpoint", Text, "", NotOurs("Orlop pulls images itself")).flag("image-service-endpoint"),
    f("failCgroupV1", Bool, "true", Warned("cgroup v1 works, and the node says so")).pointer(),
    f("userNamespaces.idsPerPod", Int, "65536", Warned("a pod's user namespace has 65536 ids")).pointer(),
];
