//! Host name, `/etc/resolv.conf` and `/etc/hosts` of the pod.

use super::AdmitContext;
use super::name;
use super::port::IP_RULE;
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::{HostAlias as ApiAlias, PodDNSConfig, PodSpec};
use orlop_model::{DnsDesired, HostAlias};
use std::net::IpAddr;

/// glibc reads no more (`MAXNS`), and the API server takes no more.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;
/// The kernel's `__NEW_UTS_LEN`.
const HOSTNAME_CHARS_MAX: usize = 64;

/// What `dnsPolicy` and `dnsConfig` make of the node's settings.
pub(super) fn dns(path: &Path, spec: &PodSpec, namespace: &str, cx: &AdmitContext, out: &mut Findings) -> DnsDesired {
    let host_network = spec.host_network.unwrap_or(false);
    let policy = path.child("dnsPolicy");
    let cluster = || DnsDesired {
        from_node: false,
        nameservers: cx.cluster_dns.clone(),
        searches: cluster_searches(namespace, cx),
        options: vec!["ndots:5".to_owned()],
    };
    let node = || DnsDesired { from_node: true, ..DnsDesired::default() };
    let mut dns = match spec.dns_policy.as_deref() {
        None | Some("" | "ClusterFirst") if host_network => node(),
        None | Some("" | "ClusterFirst" | "ClusterFirstWithHostNet") => {
            if cx.cluster_dns.is_empty() {
                let given = spec.dns_policy.as_deref().filter(|text| !text.is_empty()).unwrap_or("ClusterFirst");
                out.warn(&policy, format!("the node has no cluster DNS address configured and cannot create Pod using {given:?} policy. Falling back to \"Default\" policy."));
                node()
            } else {
                cluster()
            }
        }
        Some("Default") => node(),
        Some("None") => {
            let empty = spec.dns_config.as_ref().and_then(|c| c.nameservers.as_ref()).is_none_or(Vec::is_empty);
            if empty {
                let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
                out.required(&path.child("dnsConfig").child("nameservers"), why);
            }
            DnsDesired::default()
        }
        Some(other) => {
            out.unsupported(&policy, other, &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]);
            DnsDesired::default()
        }
    };
    if let Some(config) = &spec.dns_config {
        merge(&path.child("dnsConfig"), config, &mut dns, out);
    }
    dns
}

fn cluster_searches(namespace: &str, cx: &AdmitContext) -> Vec<String> {
    let mut searches = Vec::new();
    if !cx.cluster_domain.is_empty() {
        let domain = &cx.cluster_domain;
        searches.extend([format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()]);
    }
    for search in &cx.node_searches {
        if !searches.contains(search) {
            searches.push(search.clone());
        }
    }
    searches
}

fn merge(path: &Path, config: &PodDNSConfig, dns: &mut DnsDesired, out: &mut Findings) {
    let at = path.child("nameservers");
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if servers.len() > NAMESERVERS_MAX {
        out.invalid(&at, servers, format_args!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for (index, text) in servers.iter().enumerate() {
        match text.parse::<IpAddr>() {
            Ok(ip) if !dns.nameservers.contains(&ip) => dns.nameservers.push(ip),
            Ok(_) => {}
            Err(_) => out.invalid(&at.index(index), text, IP_RULE),
        }
    }
    let at = path.child("searches");
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > SEARCHES_MAX {
        out.invalid(&at, searches, format_args!("must not have more than {SEARCHES_MAX} search paths"));
    }
    if searches.iter().map(|s| s.len() + 1).sum::<usize>() > SEARCH_CHARS_MAX + 1 {
        let why =
            format!("must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list");
        out.invalid(&at, searches, why);
    }
    for (index, search) in searches.iter().enumerate() {
        // A trailing dot is allowed, and so is the root alone.
        let bare = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        if search != "." {
            name::subdomain(&at.index(index), bare.trim_matches('-'), out);
        }
        if !dns.searches.contains(search) {
            dns.searches.push(search.clone());
        }
    }
    let at = path.child("options");
    for (index, option) in config.options.iter().flatten().enumerate() {
        let name = option.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            out.required(&at.index(index), "must not be empty");
            continue;
        }
        dns.options.retain(|given| given.split(':').next() != Some(name));
        dns.options.push(match option.value.as_deref() {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        });
    }
}

/// The host name, at most 63 characters, and the rest of the fully qualified name
/// (the kubelet's `GeneratePodHostNameAndDomain`). Whether both together fit into the
/// kernel is found when the sandbox is made.
pub(super) fn hostname(
    path: &Path,
    spec: &PodSpec,
    (namespace, pod): (&str, &str),
    cx: &AdmitContext,
    out: &mut Findings,
) -> (String, Option<String>) {
    let given = spec.hostname.as_deref().filter(|text| !text.is_empty());
    if let Some(text) = given {
        name::label(&path.child("hostname"), text, out);
    }
    let subdomain = spec.subdomain.as_deref().filter(|text| !text.is_empty());
    if let Some(text) = subdomain {
        name::label(&path.child("subdomain"), text, out);
    }
    let short = |text: &str| {
        let short: String = text.chars().take(63).collect();
        short.trim_end_matches(['-', '.']).to_owned()
    };
    if let Some(text) = spec.hostname_override.as_deref() {
        hostname_override(path, spec, text, out);
        return (short(text), None);
    }
    if spec.host_network.unwrap_or(false) {
        return (cx.node_hostname.clone(), None);
    }
    let domain = subdomain.map(|sub| format!("{sub}.{namespace}.svc.{}", cx.cluster_domain));
    (short(given.unwrap_or(pod)), domain)
}

fn hostname_override(path: &Path, spec: &PodSpec, text: &str, out: &mut Findings) {
    let at = path.child("hostnameOverride");
    name::subdomain(&at, text, out);
    if text.len() > HOSTNAME_CHARS_MAX {
        out.invalid(&at, text, format_args!("must be no more than {HOSTNAME_CHARS_MAX} characters"));
    }
    for (field, set) in [("setHostnameAsFQDN", spec.set_hostname_as_fqdn), ("hostNetwork", spec.host_network)] {
        if set == Some(true) {
            out.forbidden(&at, &format!("may not be set when `{field}` is true"));
        }
    }
}

/// `hostAliases`.
pub(super) fn host_aliases(path: &Path, api: &[ApiAlias], out: &mut Findings) -> Vec<HostAlias> {
    let mut aliases = Vec::new();
    for (index, alias) in api.iter().enumerate() {
        let path = path.index(index);
        let hostnames = alias.hostnames.clone().unwrap_or_default();
        for (index, hostname) in hostnames.iter().enumerate() {
            name::subdomain(&path.child("hostnames").index(index), hostname, out);
        }
        match alias.ip.parse() {
            Ok(ip) => aliases.push(HostAlias { ip, hostnames }),
            Err(_) => out.invalid(&path.child("ip"), &alias.ip, IP_RULE),
        }
    }
    aliases
}
