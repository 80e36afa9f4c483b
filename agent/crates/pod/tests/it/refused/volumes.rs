//! Volumes and mounts.

use super::{check, check_container, check_spec};
use crate::desired::with;

#[test]
fn volumes_and_mounts() {
    check_spec(&[
        ("volumes: [{emptyDir: {}}]", "volumes[0].name: Required value"),
        ("volumes: [{name: v}, {name: v}]", "volumes[1].name: Duplicate value: \"v\""),
        (
            "volumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}]",
            "volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        ("volumes: [{name: v, nfs: {server: s, path: /}}]", "volumes[0].nfs: Forbidden: not supported by Orlop yet"),
        (
            "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]",
            "volumes[0].persistentVolumeClaim: Forbidden: not supported by Orlop yet",
        ),
        ("volumes: [{name: v, csi: {driver: d}}]", "volumes[0].csi: Forbidden: not supported by Orlop yet"),
        ("volumes: [{name: v, ephemeral: {}}]", "volumes[0].ephemeral: Forbidden: not supported by Orlop yet"),
        ("volumes: [{name: v, image: {reference: x}}]", "volumes[0].image: Forbidden: not supported by Orlop yet"),
        ("volumes: [{name: v, hostPath: {}}]", "volumes[0].hostPath.path: Required value"),
        (
            "volumes: [{name: v, hostPath: {path: x}}]",
            "volumes[0].hostPath.path: Invalid value: \"x\": must be an absolute path",
        ),
        (
            "volumes: [{name: v, hostPath: {path: /a/../b}}]",
            "volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            "volumes: [{name: v, hostPath: {path: /a, type: Folder}}]",
            "volumes[0].hostPath.type: Unsupported value: \"Folder\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ),
        (
            "volumes: [{name: v, emptyDir: {medium: Disk}}]",
            "volumes[0].emptyDir.medium: Unsupported value: \"Disk\": supported values: \"\", \"HugePages\", \"Memory\"",
        ),
        (
            "volumes: [{name: v, emptyDir: {medium: HugePages}}]",
            "volumes[0].emptyDir.medium: Forbidden: not supported by Orlop yet",
        ),
        (
            "volumes: [{name: v, emptyDir: {sizeLimit: 1Gi}}]",
            "warning: volumes[0].emptyDir.sizeLimit: not enforced by Orlop yet on a disk",
        ),
        ("volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Gi}}]", ""),
        ("volumes: [{name: v, configMap: {}}]", "volumes[0].configMap.name: Required value"),
        ("volumes: [{name: v, secret: {}}]", "volumes[0].secret.secretName: Required value"),
        (
            "volumes: [{name: v, secret: {secretName: s, defaultMode: 512}}]",
            "volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
        ),
        (
            "volumes: [{name: v, configMap: {name: c, items: [{key: k, path: /x}, {path: a/../b}]}}]",
            "volumes[0].configMap.items[0].path: Invalid value: \"/x\": must be a relative path\nvolumes[0].configMap.items[1].key: Required value\nvolumes[0].configMap.items[1].path: Invalid value: \"a/../b\": must not contain '..'",
        ),
    ]);
    check_container(&[
        ("volumeMounts: [{name: v, mountPath: /x}]", "volumeMounts[0].name: Not found: \"v\""),
        ("volumeDevices: [{name: v, devicePath: /x}]", "volumeDevices: Forbidden: not supported by Orlop yet"),
    ]);
    for (mount, want) in [
        ("", "mountPath: Required value"),
        ("mountPath: \"/a:b\"", "mountPath: Invalid value: \"/a:b\": must not contain ':'"),
        ("mountPath: /a/../b", "mountPath: Invalid value: \"/a/../b\": must not contain '..'"),
        ("mountPath: /a, subPath: /b", "subPath: Invalid value: \"/b\": must be a relative path"),
        ("mountPath: /a, subPath: ../b", "subPath: Invalid value: \"../b\": must not contain '..'"),
        ("mountPath: /a, subPathExpr: /$(X)", "subPathExpr: Invalid value: \"/$(X)\": must be a relative path"),
        (
            "mountPath: /a, subPath: x, subPathExpr: y",
            "subPathExpr: Invalid value: \"y\": subPathExpr and subPath are mutually exclusive",
        ),
        ("mountPath: /a, recursiveReadOnly: Enabled", "recursiveReadOnly: Forbidden: not supported by Orlop yet"),
        (
            "mountPath: /a, mountPropagation: Bidirectional",
            "mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
        ),
        (
            "mountPath: /a, mountPropagation: x",
            "mountPropagation: Unsupported value: \"x\": supported values: \"Bidirectional\", \"HostToContainer\", \"None\"",
        ),
    ] {
        let spec = format!("{{volumes: [{{name: v}}], {}}}", with(&format!("volumeMounts: [{{name: v, {mount}}}]")));
        check(&spec, &format!("spec.containers[0].volumeMounts[0].{want}"));
    }
    check(
        &format!(
            "{{volumes: [{{name: v}}], {}}}",
            with("volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a}]")
        ),
        "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
    );
}

/// Each row: the sources of a projected volume, and what is wrong, below `volumes[0].projected.sources`.
#[track_caller]
fn check_sources(rows: &[(&str, &str)]) {
    for (sources, want) in rows {
        let want: Vec<String> = want.lines().map(|line| format!("volumes[0].projected.sources{line}")).collect();
        check_spec(&[(&format!("volumes: [{{name: v, projected: {{sources: [{sources}]}}}}]"), &want.join("\n"))]);
    }
}

#[test]
fn projected_volumes() {
    let bits = "must be a number between 0 and 0777 (octal), both inclusive";
    check_sources(&[
        ("", ""),
        ("{}", ""),
        ("{configMap: {name: c}}, {secret: {name: s}}, {downwardAPI: {}}, {serviceAccountToken: {path: t}}", ""),
        ("{configMap: {}}", "[0].configMap.name: Required value"),
        ("{secret: {}}", "[0].secret.name: Required value"),
        ("{configMap: {name: c}, secret: {name: s}}", "[0]: Forbidden: may not specify more than 1 volume type"),
        ("{clusterTrustBundle: {path: p}}", "[0].clusterTrustBundle: Forbidden: not supported by Orlop yet"),
        (
            "{podCertificate: {keyType: ED25519, signerName: a.b/c}}",
            "[0].podCertificate: Forbidden: not supported by Orlop yet",
        ),
        (
            "{serviceAccountToken: {path: ../t}}",
            "[0].serviceAccountToken.path: Invalid value: \"../t\": must not contain '..'",
        ),
        (
            "{serviceAccountToken: {path: t, expirationSeconds: 599}}",
            "[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            "{serviceAccountToken: {path: t, expirationSeconds: 4294967297}}",
            "[0].serviceAccountToken.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ),
        (
            "{configMap: {name: c, items: [{key: a, path: x}]}}, {secret: {name: s, items: [{key: a, path: x}]}}",
            "[1]: Invalid value: \"x\": conflicting duplicate paths",
        ),
        (
            "{configMap: {name: c, items: [{key: a, path: x, mode: 512}]}}",
            &format!("[0].configMap.items[0].mode: Invalid value: 512: {bits}"),
        ),
    ]);
    check_spec(&[(
        "volumes: [{name: v, projected: {defaultMode: -1}}]",
        &format!("volumes[0].projected.defaultMode: Invalid value: -1: {bits}"),
    )]);
}

#[test]
fn downward_volumes() {
    for (item, want) in [
        ("path: p, fieldRef: {fieldPath: metadata.labels}", ""),
        ("path: p, fieldRef: {fieldPath: \"metadata.annotations['Example.com/x']\"}", ""),
        ("path: p, resourceFieldRef: {containerName: a, resource: limits.cpu, divisor: 1m}", ""),
        ("path: p, resourceFieldRef: {containerName: a, resource: limits.hugepages-2Mi}", ""),
        ("path: p", ": Required value: one of fieldRef and resourceFieldRef is required"),
        (
            "path: p, fieldRef: {fieldPath: metadata.name}, resourceFieldRef: {containerName: a, resource: limits.cpu}",
            ": Invalid value: \"resource\": fieldRef and resourceFieldRef can not be specified simultaneously",
        ),
        (
            "path: p, fieldRef: {fieldPath: status.podIP}",
            ".fieldRef.fieldPath: Unsupported value: \"status.podIP\": supported values: \"metadata.annotations\", \"metadata.annotations['<KEY>']\", \"metadata.labels\", \"metadata.labels['<KEY>']\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
        ),
        ("path: p, resourceFieldRef: {resource: limits.cpu}", ".resourceFieldRef.containerName: Required value"),
        (
            "path: p, resourceFieldRef: {containerName: z, resource: limits.cpu}",
            ".resourceFieldRef.containerName: Not found: \"z\"",
        ),
        ("path: /p, fieldRef: {fieldPath: metadata.uid}", ".path: Invalid value: \"/p\": must be a relative path"),
    ] {
        let want = if want.is_empty() { String::new() } else { format!("volumes[0].downwardAPI.items[0]{want}") };
        check_spec(&[(&format!("volumes: [{{name: v, downwardAPI: {{items: [{{{item}}}]}}}}]"), &want)]);
    }
}
