//! `/etc/hosts` of a pod, in the kubelet's format (pkg/kubelet/kubelet_pods.go).

use orlop_model::HostAlias;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The file of a pod with a network of its own. `domain` is what follows the host
/// name in the pod's full name, if it has one.
#[must_use]
pub fn hosts(ips: &[IpAddr], hostname: &str, domain: Option<&str>, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        let _ = match domain.filter(|domain| !domain.is_empty()) {
            Some(domain) => writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}"),
            None => writeln!(text, "{ip}\t{hostname}"),
        };
    }
    push_aliases(&mut text, aliases);
    text
}

/// The file of a pod in the node's network: the node's own text and the aliases.
#[must_use]
pub fn node_hosts(node: &str, aliases: &[HostAlias]) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{node}");
    push_aliases(&mut text, aliases);
    text
}

fn push_aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
                        ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n\
                        fe00::2\tip6-allrouters\n";

    #[test]
    fn as_the_kubelet_writes_it() {
        let ips: Vec<IpAddr> = vec!["10.1.0.4".parse().unwrap(), "fd00::4".parse().unwrap()];
        let alias = HostAlias { ip: "10.0.0.9".parse().unwrap(), hostnames: vec!["foo".into(), "foo.bar".into()] };
        for (domain, aliases, want) in [
            (None, vec![], "10.1.0.4\tweb\nfd00::4\tweb\n"),
            (Some(""), vec![], "10.1.0.4\tweb\nfd00::4\tweb\n"),
            (
                Some("sub.default.svc.cluster.local"),
                vec![],
                "10.1.0.4\tweb.sub.default.svc.cluster.local\tweb\nfd00::4\tweb.sub.default.svc.cluster.local\tweb\n",
            ),
            (
                None,
                vec![alias.clone()],
                "10.1.0.4\tweb\nfd00::4\tweb\n\n# Entries added by HostAliases.\n10.0.0.9\tfoo\tfoo.bar\n",
            ),
        ] {
            assert_eq!(hosts(&ips, "web", domain, &aliases), format!("{HEAD}{want}"));
        }
        assert_eq!(
            node_hosts("127.0.0.1 localhost\n", &[alias]),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n\n\
             # Entries added by HostAliases.\n10.0.0.9\tfoo\tfoo.bar\n"
        );
    }
}
