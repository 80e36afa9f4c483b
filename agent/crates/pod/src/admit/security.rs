//! Security contexts: the container's wins over the pod's.

use super::AdmitContext;
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, PodSecurityContext, SeccompProfile as ApiSeccomp, SecurityContext, Sysctl,
};
use orlop_model::{ContainerSecurity, PodSecurity, SeccompProfile};
use std::path::PathBuf;

/// Sysctls that are namespaced and cannot harm another pod (the kubelet's safe set).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

fn id(path: &Path, value: Option<i64>, out: &mut Findings) -> Option<u32> {
    let value = value?;
    match i32::try_from(value).ok().and_then(|v| u32::try_from(v).ok()) {
        Some(id) => Some(id),
        None => {
            out.invalid(path, value, "must be between 0 and 2147483647, inclusive");
            None
        }
    }
}

fn seccomp(path: &Path, api: Option<&ApiSeccomp>, out: &mut Findings) -> Option<SeccompProfile> {
    let api = api?;
    let local = api.localhost_profile.as_deref();
    if local.is_some() && api.type_ != "Localhost" {
        out.invalid(
            &path.child("localhostProfile"),
            local.unwrap_or_default(),
            "can only be set when seccomp type is Localhost",
        );
    }
    match (api.type_.as_str(), local) {
        ("RuntimeDefault", _) => Some(SeccompProfile::RuntimeDefault),
        ("Unconfined", _) => Some(SeccompProfile::Unconfined),
        ("Localhost", Some(file)) if !file.is_empty() => {
            super::name::relative_path(&path.child("localhostProfile"), file, out);
            Some(SeccompProfile::Localhost(PathBuf::from(file)))
        }
        ("Localhost", _) => {
            out.required(&path.child("localhostProfile"), "must be set when seccomp type is Localhost");
            None
        }
        ("", _) => {
            out.required(&path.child("type"), "type is required when seccompProfile is set");
            None
        }
        (other, _) => {
            out.unsupported(&path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]);
            None
        }
    }
}

fn app_armor(path: &Path, api: Option<&AppArmorProfile>, out: &mut Findings) {
    match api.map(|profile| profile.type_.as_str()) {
        None | Some("Unconfined") => {}
        Some("RuntimeDefault") => out.warn(path, "AppArmor profiles are not applied by Orlop yet"),
        Some("Localhost") => out.not_yet(path),
        Some(other) => out.unsupported(&path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

fn capabilities(path: &Path, list: Option<&Vec<String>>, out: &mut Findings) -> Vec<String> {
    let mut names = Vec::new();
    for (index, name) in list.into_iter().flatten().enumerate() {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare.is_empty() || !bare.bytes().all(|c| c.is_ascii_uppercase() || c == b'_') {
            out.invalid(&path.index(index), name, "is not the name of a capability");
        }
        names.push(bare.to_owned());
    }
    names
}

/// One container's effective context.
pub(super) fn container(
    path: &Path,
    api: Option<&SecurityContext>,
    pod: Option<&PodSecurityContext>,
    cx: &AdmitContext,
    out: &mut Findings,
) -> ContainerSecurity {
    let (default, pod_default) = (SecurityContext::default(), PodSecurityContext::default());
    let (api, pod) = (api.unwrap_or(&default), pod.unwrap_or(&pod_default));
    let SecurityContext {
        allow_privilege_escalation,
        app_armor_profile,
        capabilities: caps,
        privileged,
        proc_mount,
        read_only_root_filesystem,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_options,
        seccomp_profile,
        windows_options,
    } = api;
    app_armor(&path.child("appArmorProfile"), app_armor_profile.as_ref(), out);
    if proc_mount.as_deref().is_some_and(|kind| kind != "Default") {
        out.not_yet(&path.child("procMount"));
    }
    if se_linux_options.is_some() {
        out.warn(&path.child("seLinuxOptions"), "SELinux labels are not applied by Orlop yet");
    }
    if windows_options.is_some() {
        out.forbidden(&path.child("windowsOptions"), "cannot be set for a Linux pod");
    }
    let Capabilities { add, drop } = caps.clone().unwrap_or_default();
    let caps_path = path.child("capabilities");
    let capabilities_add = capabilities(&caps_path.child("add"), add.as_ref(), out);
    let capabilities_drop = capabilities(&caps_path.child("drop"), drop.as_ref(), out);
    let privileged = privileged.unwrap_or(false);
    if *allow_privilege_escalation == Some(false) {
        let path = path.child("allowPrivilegeEscalation");
        if privileged {
            out.invalid(&path, false, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if capabilities_add.iter().any(|name| name == "SYS_ADMIN") {
            out.invalid(
                &path,
                false,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    let own = seccomp(&path.child("seccompProfile"), seccomp_profile.as_ref(), out);
    // The pod's own profile is checked once, in `pod`.
    let inherited = seccomp(&Path::new(""), pod.seccomp_profile.as_ref(), &mut Findings::default());
    let default = if cx.seccomp_default { SeccompProfile::RuntimeDefault } else { SeccompProfile::Unconfined };
    let user = id(&path.child("runAsUser"), *run_as_user, out);
    let group = id(&path.child("runAsGroup"), *run_as_group, out);
    let inherit = |value: Option<i64>| value.and_then(|v| u32::try_from(v).ok());
    ContainerSecurity {
        run_as_user: user.or(inherit(pod.run_as_user)),
        run_as_group: group.or(inherit(pod.run_as_group)),
        run_as_non_root: run_as_non_root.or(pod.run_as_non_root).unwrap_or(false),
        privileged,
        read_only_root: read_only_root_filesystem.unwrap_or(false),
        allow_privilege_escalation: allow_privilege_escalation.unwrap_or(true),
        capabilities_add,
        capabilities_drop,
        seccomp: if privileged { SeccompProfile::Unconfined } else { own.or(inherited).unwrap_or(default) },
    }
}

/// What of `spec.securityContext` is the pod's own.
pub(super) fn pod(
    path: &Path,
    api: Option<&PodSecurityContext>,
    shares: HostShares,
    cx: &AdmitContext,
    out: &mut Findings,
) -> PodSecurity {
    let Some(api) = api else { return PodSecurity::default() };
    let PodSecurityContext {
        app_armor_profile,
        fs_group,
        fs_group_change_policy,
        run_as_group,
        run_as_non_root: _,
        run_as_user,
        se_linux_change_policy: _,
        se_linux_options,
        seccomp_profile,
        supplemental_groups,
        supplemental_groups_policy,
        sysctls,
        windows_options,
    } = api;
    app_armor(&path.child("appArmorProfile"), app_armor_profile.as_ref(), out);
    seccomp(&path.child("seccompProfile"), seccomp_profile.as_ref(), out);
    id(&path.child("runAsUser"), *run_as_user, out);
    id(&path.child("runAsGroup"), *run_as_group, out);
    if se_linux_options.is_some() {
        out.warn(&path.child("seLinuxOptions"), "SELinux labels are not applied by Orlop yet");
    }
    if windows_options.is_some() {
        out.forbidden(&path.child("windowsOptions"), "cannot be set for a Linux pod");
    }
    // It says what happens to volumes that outlive pods, of which Orlop has none.
    match fs_group_change_policy.as_deref() {
        None | Some("Always" | "OnRootMismatch") => {}
        Some(other) => out.unsupported(&path.child("fsGroupChangePolicy"), other, &["Always", "OnRootMismatch"]),
    }
    let strict_groups = match supplemental_groups_policy.as_deref() {
        None | Some("Merge") => false,
        Some("Strict") => true,
        Some(other) => {
            out.unsupported(&path.child("supplementalGroupsPolicy"), other, &["Merge", "Strict"]);
            false
        }
    };
    let groups = path.child("supplementalGroups");
    let supplemental_groups = supplemental_groups
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, group)| id(&groups.index(index), Some(*group), out))
        .collect();
    PodSecurity {
        supplemental_groups,
        strict_groups,
        fs_group: id(&path.child("fsGroup"), *fs_group, out),
        sysctls: self::sysctls(&path.child("sysctls"), sysctls.as_deref().unwrap_or_default(), shares, cx, out),
    }
}

/// Which of the node's namespaces the pod uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostShares {
    pub(super) network: bool,
    pub(super) ipc: bool,
}

fn sysctls(
    path: &Path,
    api: &[Sysctl],
    shares: HostShares,
    cx: &AdmitContext,
    out: &mut Findings,
) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (index, sysctl) in api.iter().enumerate() {
        let path = path.index(index).child("name");
        // Both separators are allowed; the kernel's files have '/'.
        let name = sysctl.name.replace('/', ".");
        let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|p| name.starts_with(p));
        let net = name.starts_with("net.");
        let valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
        if name.is_empty() {
            out.required(&path, "");
        } else if name.len() > 253 || !name.bytes().all(valid) || name.split('.').any(str::is_empty) {
            out.invalid(&path, &sysctl.name, "is not the name of a sysctl");
        } else if all.iter().any(|(other, _)| *other == name) {
            out.duplicate(&path, &name);
        } else if (net && shares.network) || (ipc && shares.ipc) {
            let why = if net { "not allowed with host net enabled" } else { "not allowed with host ipc enabled" };
            out.sysctl(&path, &name, why, "may not be set in a pod that uses the node's own namespace for it");
        } else if !SAFE_SYSCTLS.contains(&name.as_str()) && !cx.allowed_sysctls.iter().any(|rule| allows(rule, &name)) {
            let message = "unsafe sysctls must be allowed in the node's configuration";
            out.sysctl(&path, &name, "not allowlisted", message);
        } else if !net && !ipc {
            out.invalid(&path, &sysctl.name, "is not namespaced");
        }
        all.push((name, sysctl.value.clone()));
    }
    all
}

/// A rule is a name or a prefix that ends in `*`, as `allowedUnsafeSysctls` has them.
fn allows(rule: &str, name: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => rule == name,
    }
}
