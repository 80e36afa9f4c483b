//! One container.

use super::{AdmitContext, env, mount, name, port, probe, resource, security};
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::{Container, Lifecycle, PodSecurityContext};
use orlop_model::{ContainerDesired, ContainerRole, ImageRef, ProbeKind, PullPolicy, TerminationMessagePolicy};
use std::path::PathBuf;

/// What a container has to know of its pod.
pub(super) struct Siblings<'a> {
    pub(super) cx: &'a AdmitContext,
    pub(super) host_network: bool,
    pub(super) security: Option<&'a PodSecurityContext>,
    /// Names in `spec.volumes`.
    pub(super) volumes: Vec<&'a str>,
    /// Names of all containers.
    pub(super) containers: Vec<&'a str>,
}

/// `None` when its name or image is in error.
pub(super) fn container(
    path: &Path,
    api: &Container,
    role: ContainerRole,
    pod: &Siblings<'_>,
    out: &mut Findings,
) -> Option<ContainerDesired> {
    refuse(path, api, role, out);
    let name = name::container(&path.child("name"), &api.name, out);
    let image = image(&path.child("image"), api.image.as_deref().unwrap_or_default(), out);
    let pull_policy = pull_policy(path, api, out);
    let ports = port::ports(&path.child("ports"), api.ports.as_deref().unwrap_or_default(), pod.host_network, out);
    let security =
        security::container(&path.child("securityContext"), api.security_context.as_ref(), pod.security, pod.cx, out);
    let mounts = mount::mounts(
        &path.child("volumeMounts"),
        api.volume_mounts.as_deref().unwrap_or_default(),
        &pod.volumes,
        security.privileged,
        out,
    );
    let mut one_probe = |field: &str, given, kind| probe::probe(&path.child(field), given, kind, &ports, out);
    let startup = one_probe("startupProbe", api.startup_probe.as_ref(), ProbeKind::Startup);
    let liveness = one_probe("livenessProbe", api.liveness_probe.as_ref(), ProbeKind::Liveness);
    let readiness = one_probe("readinessProbe", api.readiness_probe.as_ref(), ProbeKind::Readiness);
    let env_from = env::from(&path.child("envFrom"), api.env_from.as_deref().unwrap_or_default(), out);
    let env = env::vars(&path.child("env"), api.env.as_deref().unwrap_or_default(), &pod.containers, out);
    let resources = resource::container(&path.child("resources"), api.resources.as_ref(), out);
    let (termination_message_path, termination_message_policy) = termination_message(path, api, out);
    Some(ContainerDesired {
        name: name?,
        role,
        image: image?,
        pull_policy,
        command: api.command.clone().unwrap_or_default(),
        args: api.args.clone().unwrap_or_default(),
        working_dir: api.working_dir.as_deref().filter(|dir| !dir.is_empty()).map(PathBuf::from),
        env_from,
        env,
        ports,
        mounts,
        resources,
        security,
        startup,
        liveness,
        readiness,
        tty: api.tty.unwrap_or(false),
        stdin: api.stdin.unwrap_or(false),
        termination_message_path,
        termination_message_policy,
    })
}

/// Fields that Orlop does not act on. Every field of `Container` is named here,
/// so that a new one does not compile until it has an answer.
fn refuse(path: &Path, api: &Container, role: ContainerRole, out: &mut Findings) {
    let Container {
        args: _,
        command: _,
        env: _,
        env_from: _,
        image: _,
        image_pull_policy: _,
        lifecycle,
        liveness_probe,
        name: _,
        ports: _,
        readiness_probe,
        resize_policy,
        resources: _,
        restart_policy,
        restart_policy_rules,
        security_context: _,
        startup_probe,
        stdin: _,
        stdin_once,
        termination_message_path: _,
        termination_message_policy: _,
        tty: _,
        volume_devices,
        volume_mounts: _,
        working_dir: _,
    } = api;
    if let Some(Lifecycle { post_start, pre_stop, stop_signal }) = lifecycle {
        let path = path.child("lifecycle");
        let given = [
            ("postStart", post_start.is_some()),
            ("preStop", pre_stop.is_some()),
            ("stopSignal", stop_signal.is_some()),
        ];
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            out.not_yet(&path.child(field));
        }
    }
    if restart_policy.is_some() {
        out.not_yet(&path.child("restartPolicy"));
    }
    if restart_policy_rules.as_ref().is_some_and(|rules| !rules.is_empty()) {
        out.not_yet(&path.child("restartPolicyRules"));
    }
    if volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        out.not_yet(&path.child("volumeDevices"));
    }
    if resize_policy.as_ref().is_some_and(|rules| !rules.is_empty()) {
        out.warn(&path.child("resizePolicy"), "resizing in place is not supported by Orlop yet");
    }
    if *stdin_once == Some(true) {
        out.warn(&path.child("stdinOnce"), "not supported by Orlop yet: standard input stays open");
    }
    let probes = [
        ("livenessProbe", liveness_probe.is_some()),
        ("readinessProbe", readiness_probe.is_some()),
        ("startupProbe", startup_probe.is_some()),
    ];
    match role {
        ContainerRole::Main => {}
        ContainerRole::Init => {
            for (field, _) in probes.iter().filter(|(_, given)| *given) {
                out.forbidden(&path.child(field), "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
}

fn image(path: &Path, text: &str, out: &mut Findings) -> Option<ImageRef> {
    if text.is_empty() {
        out.required(path, "");
        return None;
    }
    if text.trim() != text {
        out.invalid(path, text, "must not have leading or trailing whitespace");
        return None;
    }
    match ImageRef::new(text) {
        Ok(image) => Some(image),
        Err(error) => {
            out.invalid(path, text, error.problem);
            None
        }
    }
}

fn pull_policy(path: &Path, api: &Container, out: &mut Findings) -> PullPolicy {
    match api.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        Some("Never") => PullPolicy::Never,
        None | Some("") if is_latest(api.image.as_deref().unwrap_or_default()) => PullPolicy::Always,
        None | Some("") => PullPolicy::IfNotPresent,
        Some(other) => {
            out.unsupported(&path.child("imagePullPolicy"), other, &["Always", "IfNotPresent", "Never"]);
            PullPolicy::IfNotPresent
        }
    }
}

/// Whether the tag is `latest`, which is also what no tag means; a digest is neither.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn termination_message(path: &Path, api: &Container, out: &mut Findings) -> (PathBuf, TerminationMessagePolicy) {
    let file = match api.termination_message_path.as_deref() {
        None | Some("") => "/dev/termination-log",
        Some(file) => {
            name::no_back_steps(&path.child("terminationMessagePath"), file, out);
            file
        }
    };
    let policy = match api.termination_message_policy.as_deref() {
        None | Some("" | "File") => TerminationMessagePolicy::File,
        Some("FallbackToLogsOnError") => TerminationMessagePolicy::FallbackToLogsOnError,
        Some(other) => {
            out.unsupported(&path.child("terminationMessagePolicy"), other, &["FallbackToLogsOnError", "File"]);
            TerminationMessagePolicy::File
        }
    };
    (PathBuf::from(file), policy)
}
