//! The pod's own fields, and all of them together.

use super::container::{Siblings, container};
use super::port::HostPorts;
use super::{AdmitContext, deletion, dns, name, namespace, resource, security, toleration, volume};
use crate::bandwidth;
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use orlop_model::{ContainerDesired, ContainerRole, PodDesired, PodKey, PodUid, RestartPolicy};
use std::collections::HashSet;

const GRACE_SECS_DEFAULT: u64 = 30;

/// `None` when the pod's key is in error; containers in error are left out, so
/// the result counts only if nothing was found.
pub(super) fn spec(
    meta: &ObjectMeta,
    api: &PodSpec,
    uid: PodUid,
    key: Option<PodKey>,
    cx: &AdmitContext,
    out: &mut Findings,
) -> Option<PodDesired> {
    let path = Path::new("spec");
    refuse(&path, api, cx, out);
    warn(&path, api, out);
    let (host_network, host_pid, host_ipc) =
        (api.host_network.unwrap_or(false), api.host_pid.unwrap_or(false), api.host_ipc.unwrap_or(false));
    let annotations = meta.annotations.clone().unwrap_or_default();
    bandwidth::warn(&Path::new("metadata").child("annotations"), &annotations, host_network, out);
    let share_process_namespace = api.share_process_namespace.unwrap_or(false);
    if share_process_namespace && host_pid {
        out.invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    let shares = security::HostShares { network: host_network, ipc: host_ipc };
    let pod_security = security::pod(&path.child("securityContext"), api.security_context.as_ref(), shares, cx, out);
    let container_names: Vec<&str> =
        api.init_containers.iter().flatten().chain(&api.containers).map(|container| container.name.as_str()).collect();
    let api_volumes = api.volumes.as_deref().unwrap_or_default();
    let volumes = volume::volumes(&path.child("volumes"), api_volumes, &container_names, out);
    let containers = containers(&path, api, cx, out);
    let names = (namespace(meta), meta.name.as_deref().unwrap_or_default());
    let (hostname, domain) = dns::hostname(&path, api, names, cx, out);
    let gates = api.readiness_gates.iter().flatten().map(|gate| gate.condition_type.clone()).collect();
    let overhead = resource::overhead(&path.child("overhead"), api.overhead.as_ref(), out);
    let termination_grace_secs = grace(&path, api, out);
    let account = api.service_account_name.as_deref().or(api.service_account.as_deref()).unwrap_or_default();
    if !account.is_empty() {
        name::subdomain(&path.child("serviceAccountName"), account, out);
    }
    Some(PodDesired {
        uid,
        labels: meta.labels.clone().unwrap_or_default(),
        annotations,
        node_name: cx.node_name.clone(),
        service_account: if account.is_empty() { "default" } else { account }.to_owned(),
        host_network,
        host_pid,
        host_ipc,
        share_process_namespace,
        hostname,
        domain,
        hostname_as_fqdn: api.set_hostname_as_fqdn.unwrap_or(false),
        restart_policy: restart_policy(&path, api, out),
        termination_grace_secs,
        active_deadline_secs: active_deadline(&path, api, out),
        qos: resource::qos(&containers),
        resources: resource::pod(&containers, overhead),
        containers,
        volumes,
        security: pod_security,
        dns: dns::dns(&path, api, names.0, cx, out),
        host_aliases: dns::host_aliases(
            &path.child("hostAliases"),
            api.host_aliases.as_deref().unwrap_or_default(),
            out,
        ),
        pull_secrets: pull_secrets(api),
        service_links: api.enable_service_links.unwrap_or(true),
        readiness_gates: gates,
        tolerations: toleration::tolerations(
            &path.child("tolerations"),
            api.tolerations.as_deref().unwrap_or_default(),
            out,
        ),
        priority: api.priority.unwrap_or(0),
        priority_class: api.priority_class_name.clone().filter(|name| !name.is_empty()),
        generation: meta.generation,
        deletion: deletion(meta, termination_grace_secs),
        spec_hash: crate::fingerprint::spec_hash(api),
        key: key?,
    })
}

/// An entry without a name means nothing; the API server lets it through.
fn pull_secrets(api: &PodSpec) -> Vec<String> {
    api.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()).filter(|name| !name.is_empty()).collect()
}

fn containers(path: &Path, api: &PodSpec, cx: &AdmitContext, out: &mut Findings) -> Vec<ContainerDesired> {
    let init = api.init_containers.as_deref().unwrap_or_default();
    let main = api.containers.as_slice();
    if main.is_empty() {
        out.required(&path.child("containers"), "");
    }
    let pod = Siblings {
        cx,
        host_network: api.host_network.unwrap_or(false),
        security: api.security_context.as_ref(),
        volumes: api.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect(),
        containers: init.iter().chain(main).map(|container| container.name.as_str()).collect(),
    };
    let mut names = HashSet::new();
    let mut host_ports = HostPorts::default();
    let mut all = Vec::new();
    let groups: [(&str, &[Container], ContainerRole); 2] =
        [("initContainers", init, ContainerRole::Init), ("containers", main, ContainerRole::Main)];
    for (field, group, role) in groups {
        for (index, one) in group.iter().enumerate() {
            let path = path.child(field).index(index);
            if !one.name.is_empty() && !names.insert(one.name.as_str()) {
                out.duplicate(&path.child("name"), &one.name);
            }
            let desired = container(&path, one, role, &pod, out);
            if let (Some(desired), ContainerRole::Main) = (&desired, role) {
                host_ports.take(&path.child("ports"), &desired.ports, out);
            }
            all.extend(desired);
        }
    }
    all
}

fn restart_policy(path: &Path, api: &PodSpec, out: &mut Findings) -> RestartPolicy {
    match api.restart_policy.as_deref() {
        None | Some("" | "Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        Some(other) => {
            out.unsupported(&path.child("restartPolicy"), other, &["Always", "Never", "OnFailure"]);
            RestartPolicy::Always
        }
    }
}

fn grace(path: &Path, api: &PodSpec, out: &mut Findings) -> u64 {
    let Some(secs) = api.termination_grace_period_seconds else { return GRACE_SECS_DEFAULT };
    u64::try_from(secs).unwrap_or_else(|_| {
        out.invalid(&path.child("terminationGracePeriodSeconds"), secs, "must be greater than or equal to 0");
        GRACE_SECS_DEFAULT
    })
}

fn active_deadline(path: &Path, api: &PodSpec, out: &mut Findings) -> Option<u64> {
    let secs = api.active_deadline_seconds?;
    match u64::try_from(secs) {
        Ok(1..=2_147_483_647) => return u64::try_from(secs).ok(),
        Ok(_) | Err(_) => {
            out.invalid(&path.child("activeDeadlineSeconds"), secs, "must be between 1 and 2147483647, inclusive");
        }
    }
    None
}

/// Fields that Orlop does not act on: refused here, or warned of by `warn`. Every
/// field of `PodSpec` is named here, so that a new one does not compile until it
/// has an answer. What only a scheduler reads is no node's business.
fn refuse(path: &Path, api: &PodSpec, cx: &AdmitContext, out: &mut Findings) {
    let PodSpec {
        active_deadline_seconds: _,
        affinity: _,
        automount_service_account_token: _,
        containers: _,
        dns_config: _,
        dns_policy: _,
        enable_service_links: _,
        ephemeral_containers: _,
        host_aliases: _,
        host_ipc: _,
        host_network: _,
        host_pid: _,
        host_users,
        hostname: _,
        hostname_override: _,
        image_pull_secrets: _,
        init_containers: _,
        node_name,
        node_selector: _,
        os,
        overhead: _,
        preemption_policy: _,
        priority: _,
        priority_class_name: _,
        readiness_gates: _,
        resource_claims,
        resources,
        restart_policy: _,
        runtime_class_name,
        scheduler_name: _,
        scheduling_gates,
        scheduling_group: _,
        security_context: _,
        service_account: _,
        service_account_name: _,
        set_hostname_as_fqdn: _,
        share_process_namespace: _,
        subdomain: _,
        termination_grace_period_seconds: _,
        tolerations: _,
        topology_spread_constraints: _,
        volumes: _,
    } = api;
    let text = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let wrong_without = [
        ("hostUsers", *host_users == Some(false)),
        ("resourceClaims", resource_claims.as_ref().is_some_and(|claims| !claims.is_empty())),
        ("resources", resources.is_some()),
        ("runtimeClassName", text(runtime_class_name)),
        ("schedulingGates", scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())),
    ];
    for (field, _) in wrong_without.iter().filter(|(_, given)| *given) {
        out.not_yet(&path.child(field));
    }
    if let Some(name) = node_name.as_deref().filter(|name| !name.is_empty() && *name != cx.node_name) {
        out.invalid(&path.child("nodeName"), name, format_args!("this node is {:?}", cx.node_name));
    }
    if let Some(os) = os.as_ref().filter(|os| os.name != "linux") {
        out.unsupported(&path.child("os").child("name"), &os.name, &["linux"]);
    }
}

/// Fields without which the pod can run: it is told.
fn warn(path: &Path, api: &PodSpec, out: &mut Findings) {
    let some = |count: Option<usize>| count.is_some_and(|count| count > 0);
    let bound = api.node_name.as_deref().is_some_and(|name| !name.is_empty());
    let runs_without = [
        ("affinity", api.affinity.is_some() && !bound, "there is no scheduler here: the pod runs on this node"),
        (
            "nodeSelector",
            some(api.node_selector.as_ref().map(|s| s.len())) && !bound,
            "there is no scheduler here: the pod runs on this node",
        ),
        (
            "ephemeralContainers",
            some(api.ephemeral_containers.as_ref().map(Vec::len)),
            "not supported by Orlop yet: they are not started",
        ),
    ];
    for (field, _, why) in runs_without.iter().filter(|(_, given, _)| *given) {
        out.warn(&path.child(field), *why);
    }
}
