//! The table of KubeProxyConfiguration (`kubeproxy.config.k8s.io/v1alpha1`, v1.36).

use crate::field::Kind::{Bool, Duration, DurationOrNanos, Float, Gates, Int, Object, Quantity, Text, Texts};
use crate::field::Treatment::{NotOurs, Supported, Warned};
use crate::field::{Field, Kind, Treatment};

const fn f(path: &'static str, kind: Kind, default: &'static str, treatment: Treatment) -> Field {
    Field::new(path, kind, default, treatment)
}

const NO_PROXIER: Treatment = NotOurs("Services are eBPF programs; there are no iptables, nftables or IPVS rules");
const NO_CLIENT: Treatment = NotOurs("Services are read with the node's own kubeconfig");
const ONE_NODE: Treatment = NotOurs("the agent is both kubelet and kube-proxy and has one such setting");
const NO_CONNTRACK: Treatment =
    NotOurs("Services do not use conntrack; the machine's limits are left alone, mapEntries sizes Orlop's own table");
const OWN_TIMEOUTS: Treatment = Warned(
    "a translated connection is forgotten 24h after its last packet, 1h when one end has closed; UDP after 30s, or 2m \
     when it was answered; the machine's conntrack is left alone",
);
const NO_MASQUERADE_ALL: Treatment =
    Warned("only traffic that needs it for its way back gets the node's address: services.nodePortMode, masquerade");
const NO_WINDOWS: Treatment = NotOurs("it is for Windows");
const NO_LOG_OPTION: Treatment = NotOurs("Orlop's log is set by --log-level and --log-format");
const OWN_DETECTION: Treatment = Warned("traffic is local when it comes from a pod's own interface on this node");

/// Every field, in the order of the type.
pub(crate) const PROXY_FIELDS: &[Field] = &[
    f("featureGates", Gates, "", NotOurs("no gate of kube-proxy changes what Orlop does")),
    f("clientConnection.kubeconfig", Text, "", NO_CLIENT),
    f("clientConnection.acceptContentTypes", Text, "", NO_CLIENT),
    f("clientConnection.contentType", Text, "\"application/vnd.kubernetes.protobuf\"", NO_CLIENT),
    f("clientConnection.qps", Float, "5", NO_CLIENT),
    f("clientConnection.burst", Int, "10", NO_CLIENT),
    f("logging.format", Text, "\"text\"", NO_LOG_OPTION),
    f("logging.flushFrequency", DurationOrNanos, "\"5s\"", NO_LOG_OPTION),
    f("logging.verbosity", Int, "0", NO_LOG_OPTION),
    f("logging.vmodule", Object, "", NO_LOG_OPTION),
    f("logging.options.text.splitStream", Bool, "", NO_LOG_OPTION),
    f("logging.options.text.infoBufferSize", Quantity, "\"0\"", NO_LOG_OPTION),
    f("logging.options.json.splitStream", Bool, "", NO_LOG_OPTION),
    f("logging.options.json.infoBufferSize", Quantity, "\"0\"", NO_LOG_OPTION),
    f("hostnameOverride", Text, "", NotOurs("the node's name comes from the agent's --node-name")),
    f("bindAddress", Text, "\"0.0.0.0\"", NotOurs("the node's addresses come from the agent's --node-ip")),
    f("healthzBindAddress", Text, "\"0.0.0.0:10256\"", Supported),
    f("metricsBindAddress", Text, "\"127.0.0.1:10249\"", Warned("the agent serves no metrics on a port yet")),
    f("bindAddressHardFail", Bool, "", Warned("a port that cannot be had is logged and tried again")),
    f("enableProfiling", Bool, "", NotOurs("there is no Go profile to serve")),
    f("showHiddenMetricsForVersion", Text, "", NotOurs("Orlop hides no metrics")),
    f("mode", Text, "\"iptables\"", NO_PROXIER),
    f("iptables.masqueradeBit", Int, "14", NO_PROXIER).pointer(),
    f("iptables.masqueradeAll", Bool, "", NO_MASQUERADE_ALL),
    f("iptables.localhostNodePorts", Bool, "true", Supported).pointer(),
    f("iptables.syncPeriod", Duration, "\"30s\"", NO_PROXIER),
    f("iptables.minSyncPeriod", Duration, "\"1s\"", NO_PROXIER),
    f("ipvs.syncPeriod", Duration, "\"30s\"", NO_PROXIER),
    f("ipvs.minSyncPeriod", Duration, "", NO_PROXIER),
    f("ipvs.scheduler", Text, "", Warned("a backend is chosen at random, or by services.loadBalancing: maglev")),
    f("ipvs.excludeCIDRs", Texts, "", NO_PROXIER),
    f("ipvs.strictARP", Bool, "", NO_PROXIER),
    f("ipvs.tcpTimeout", Duration, "", NO_PROXIER),
    f("ipvs.tcpFinTimeout", Duration, "", NO_PROXIER),
    f("ipvs.udpTimeout", Duration, "", NO_PROXIER),
    f("nftables.masqueradeBit", Int, "14", NO_PROXIER).pointer(),
    f("nftables.masqueradeAll", Bool, "", NO_MASQUERADE_ALL),
    f("nftables.syncPeriod", Duration, "\"30s\"", NO_PROXIER),
    f("nftables.minSyncPeriod", Duration, "\"1s\"", NO_PROXIER),
    f("winkernel.networkName", Text, "", NO_WINDOWS),
    f("winkernel.sourceVip", Text, "", NO_WINDOWS),
    f("winkernel.enableDSR", Bool, "", NO_WINDOWS),
    f("winkernel.rootHnsEndpointName", Text, "", NO_WINDOWS),
    f("winkernel.forwardHealthCheckVip", Bool, "", NO_WINDOWS),
    f("detectLocalMode", Text, "\"ClusterCIDR\"", OWN_DETECTION),
    f("detectLocal.bridgeInterface", Text, "", OWN_DETECTION),
    f("detectLocal.interfaceNamePrefix", Text, "", OWN_DETECTION),
    f("clusterCIDR", Text, "", Supported),
    f("nodePortAddresses", Texts, "", Supported),
    f("oomScoreAdj", Int, "-999", ONE_NODE).pointer(),
    f("conntrack.maxPerCore", Int, "32768", NO_CONNTRACK).pointer(),
    f("conntrack.min", Int, "131072", NO_CONNTRACK).pointer(),
    f("conntrack.tcpEstablishedTimeout", Duration, "\"24h\"", OWN_TIMEOUTS).pointer(),
    f("conntrack.tcpCloseWaitTimeout", Duration, "\"1h\"", OWN_TIMEOUTS).pointer(),
    f("conntrack.tcpBeLiberal", Bool, "", NO_CONNTRACK),
    f("conntrack.udpTimeout", Duration, "", OWN_TIMEOUTS),
    f("conntrack.udpStreamTimeout", Duration, "", OWN_TIMEOUTS),
    f("configSyncPeriod", Duration, "\"15m\"", NotOurs("Services are watched, not polled")),
    f("portRange", Text, "", NotOurs("kube-proxy itself no longer uses it")),
    f("windowsRunAsService", Bool, "", NO_WINDOWS),
];
