//! The pod's own fields, and what Orlop does not do.

use super::{LABEL, SUBDOMAIN, check, check_container, check_spec};
use crate::desired::{admit_pod, pod};

#[test]
fn what_orlop_does_not_do_is_never_ignored() {
    let later = "Forbidden: not supported by Orlop yet";
    check_container(&[
        ("lifecycle: {preStop: {exec: {command: [x]}}}", &format!("lifecycle.preStop: {later}")),
        ("lifecycle: {postStart: {exec: {command: [x]}}}", &format!("lifecycle.postStart: {later}")),
        ("lifecycle: {stopSignal: SIGUSR1}", &format!("lifecycle.stopSignal: {later}")),
        ("restartPolicy: Always", &format!("restartPolicy: {later}")),
        ("securityContext: {procMount: Unmasked}", &format!("securityContext.procMount: {later}")),
        ("securityContext: {appArmorProfile: {type: Localhost}}", &format!("securityContext.appArmorProfile: {later}")),
    ]);
    check(
        "{containers: [{name: a, image: x:1}], initContainers: [{name: s, image: x:1, restartPolicy: Always}]}",
        "spec.initContainers[0].restartPolicy: Forbidden: not supported by Orlop yet",
    );
    check_spec(&[
        ("hostUsers: false", &format!("hostUsers: {later}")),
        ("hostUsers: true", ""),
        ("runtimeClassName: gvisor", &format!("runtimeClassName: {later}")),
        ("readinessGates: [{conditionType: x}]", ""),
        ("schedulingGates: [{name: x}]", &format!("schedulingGates: {later}")),
        ("resourceClaims: [{name: x}]", &format!("resourceClaims: {later}")),
        ("resources: {limits: {cpu: 1}}", &format!("resources: {later}")),
        ("hostnameOverride: x.y", ""),
        ("securityContext: {supplementalGroupsPolicy: Strict, fsGroupChangePolicy: OnRootMismatch}", ""),
        (
            "securityContext: {supplementalGroupsPolicy: Loose}",
            "securityContext.supplementalGroupsPolicy: Unsupported value: \"Loose\": supported values: \"Merge\", \"Strict\"",
        ),
        ("os: {name: windows}", "os.name: Unsupported value: \"windows\": supported values: \"linux\""),
        ("nodeName: n2", "nodeName: Invalid value: \"n2\": this node is \"n1\""),
        ("nodeName: n1, nodeSelector: {disk: ssd}", ""),
        ("nodeSelector: {disk: ssd}", "warning: nodeSelector: there is no scheduler here: the pod runs on this node"),
        ("affinity: {}", "warning: affinity: there is no scheduler here: the pod runs on this node"),
        ("enableServiceLinks: false", ""),
        ("enableServiceLinks: true", ""),
        ("automountServiceAccountToken: true", ""),
        ("imagePullSecrets: [{name: s}, {}]", ""),
        (
            "ephemeralContainers: [{name: d, image: x:1}]",
            "warning: ephemeralContainers: not supported by Orlop yet: they are not started",
        ),
        ("tolerations: [{operator: Exists}], priority: 5, schedulerName: s", ""),
    ]);
    let rejection = admit_pod(&pod("{hostUsers: false, containers: [{name: a, image: x:1}]}")).unwrap_err();
    assert_eq!(rejection.reason, "NotSupported");
}

#[test]
fn the_pods_own_fields() {
    check_spec(&[
        (
            "restartPolicy: Sometimes",
            "restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ),
        (
            "terminationGracePeriodSeconds: -1",
            "terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "activeDeadlineSeconds: 0",
            "activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            "dnsPolicy: Cluster",
            "dnsPolicy: Unsupported value: \"Cluster\": supported values: \"ClusterFirst\", \"ClusterFirstWithHostNet\", \"Default\", \"None\"",
        ),
        (
            "dnsPolicy: None",
            "dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
        ),
        (
            "dnsConfig: {nameservers: [x]}",
            "dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            "hostAliases: [{ip: 10.0.0.300, hostnames: [a]}]",
            "hostAliases[0].ip: Invalid value: \"10.0.0.300\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        ("hostnameOverride: a_b", &format!("hostnameOverride: Invalid value: \"a_b\": {SUBDOMAIN}")),
        (
            "hostnameOverride: a, hostNetwork: true, setHostnameAsFQDN: true",
            "hostnameOverride: Forbidden: may not be set when `setHostnameAsFQDN` is true\nhostnameOverride: Forbidden: may not be set when `hostNetwork` is true",
        ),
        (
            "tolerations: [{operator: In}]",
            "tolerations[0].operator: Unsupported value: \"In\": supported values: \"Equal\", \"Exists\", \"Gt\", \"Lt\"",
        ),
        (
            "tolerations: [{operator: Equal}]",
            "tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
        ("hostname: a_b", &format!("hostname: Invalid value: \"a_b\": {LABEL}")),
        ("subdomain: a.b", &format!("subdomain: Invalid value: \"a.b\": {LABEL}")),
        (
            "shareProcessNamespace: true, hostPID: true",
            "shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
        ),
        (
            "securityContext: {runAsUser: -1, fsGroup: 4294967296}",
            "securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive\nsecurityContext.fsGroup: Invalid value: 4294967296: must be between 0 and 2147483647, inclusive",
        ),
        (
            "securityContext: {sysctls: [{name: kernel.msgmax, value: \"1\"}]}",
            "securityContext.sysctls[0].name: Forbidden: unsafe sysctls must be allowed in the node's configuration",
        ),
        ("securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: \"1\"}]}", ""),
        (
            "hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: \"1\"}]}",
            "securityContext.sysctls[0].name: Forbidden: may not be set in a pod that uses the node's own namespace for it",
        ),
        (
            "securityContext: {sysctls: [{name: ../../etc, value: \"1\"}]}",
            "securityContext.sysctls[0].name: Invalid value: \"../../etc\": is not the name of a sysctl",
        ),
        (
            "securityContext: {seccompProfile: {type: Localhost}}",
            "securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
    ]);
    check_container(&[
        (
            "securityContext: {privileged: true, allowPrivilegeEscalation: false}",
            "securityContext.allowPrivilegeEscalation: Invalid value: false: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            "securityContext: {capabilities: {add: [net-admin]}}",
            "securityContext.capabilities.add[0]: Invalid value: \"net-admin\": is not the name of a capability",
        ),
        (
            "securityContext: {seccompProfile: {type: Strict}}",
            "securityContext.seccompProfile.type: Unsupported value: \"Strict\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
        ),
        (
            "imagePullPolicy: Sometimes",
            "imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            "terminationMessagePolicy: Log",
            "terminationMessagePolicy: Unsupported value: \"Log\": supported values: \"FallbackToLogsOnError\", \"File\"",
        ),
    ]);
}

#[test]
fn sysctls_in_the_kubelets_words() {
    for (fields, want) in [
        ("securityContext: {sysctls: [{name: kernel/msgmax, value: x}]}", "\"kernel.msgmax\" not allowlisted"),
        (
            "hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.tcp_rmem, value: x}]}",
            "\"net.ipv4.tcp_rmem\" not allowed with host net enabled",
        ),
        (
            "hostIPC: true, securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: x}]}",
            "\"kernel.shm_rmid_forced\" not allowed with host ipc enabled",
        ),
    ] {
        let refusal =
            admit_pod(&pod(&format!("{{containers: [{{name: a, image: x}}], {fields}}}"))).unwrap_err().refusal();
        assert_eq!(refusal.reason, "SysctlForbidden");
        assert_eq!(refusal.message, format!("forbidden sysctl: {want}"));
    }
    let refusal = admit_pod(&pod("{hostUsers: false, containers: [{name: a, image: x}]}")).unwrap_err().refusal();
    assert_eq!(
        (refusal.reason.as_str(), refusal.message.as_str()),
        ("NotSupported", "Pod \"web\" is invalid: spec.hostUsers: Forbidden: not supported by Orlop yet")
    );
}
