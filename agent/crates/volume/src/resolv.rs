//! `/etc/resolv.conf` of a pod (pkg/kubelet/network/dns/dns.go).

use orlop_model::DnsDesired;
use std::fmt::Write as _;

/// Name servers, from `MaxDNSNameservers` (pkg/apis/core/validation) and glibc's MAXNS.
const NAMESERVERS_MAX: usize = 3;
/// Search domains, from `MaxDNSSearchPaths`.
const SEARCHES_MAX: usize = 32;
/// Characters of all search domains with the spaces between them, from `MaxDNSSearchListChars`.
const SEARCH_CHARS_MAX: usize = 2048;

/// Bytes of one search domain: with more, glibc 2.28 aborts.
const SEARCH_BYTES_MAX: usize = 253;

/// A file's text, and what did not fit into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Content of `/etc/resolv.conf`.
    pub text: String,
    /// A sentence for each limit that was hit, for an event (`DNSConfigForming`).
    pub left_out: Vec<String>,
}

/// The pod's file. `node` is the node's own file; it is used only when
/// [`DnsDesired::from_node`] says so, and then comes first: servers and domains are
/// added to it, options replace its own of the same name.
#[must_use]
pub fn resolv_conf(dns: &DnsDesired, node: &str) -> ResolvConf {
    let mut lists = if dns.from_node { parse(node) } else { Lists::default() };
    lists.nameservers.extend(dns.nameservers.iter().map(ToString::to_string));
    lists.searches.extend(dns.searches.iter().cloned());
    dns.options.iter().for_each(|option| lists.set_option(option));
    unique(&mut lists.nameservers);
    unique(&mut lists.searches);
    let mut left_out = Vec::new();
    lists.limit(&mut left_out);
    ResolvConf { text: lists.text(), left_out }
}

/// Search domains of the node's file, which a pod with the cluster's name servers has
/// after the cluster's own.
#[must_use]
pub fn node_searches(node: &str) -> Vec<String> {
    parse(node).searches
}

#[derive(Default)]
struct Lists {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The last `search` line counts, as in glibc; `domain` and `sortlist` are not taken over.
fn parse(text: &str) -> Lists {
    let mut lists = Lists::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => lists.nameservers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                let plain = |word: &str| word.strip_suffix('.').unwrap_or(word).to_owned();
                lists.searches = words.filter(|word| *word != ".").map(plain).collect();
            }
            Some("options") => words.for_each(|option| lists.set_option(option)),
            _ => {}
        }
    }
    lists
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

impl Lists {
    /// The last of a name counts.
    fn set_option(&mut self, option: &str) {
        let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
        self.options.retain(|old| name(old) != name(option));
        self.options.push(option.to_owned());
    }

    fn limit(&mut self, left_out: &mut Vec<String>) {
        if self.nameservers.len() > NAMESERVERS_MAX {
            self.nameservers.truncate(NAMESERVERS_MAX);
            let kept = self.nameservers.join(" ");
            left_out.push(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {kept}"
            ));
        }
        let before = self.searches.len();
        self.searches.truncate(SEARCHES_MAX);
        self.searches.retain(|search| search.len() <= SEARCH_BYTES_MAX);
        while self.searches.join(" ").len() > SEARCH_CHARS_MAX {
            self.searches.pop();
        }
        if self.searches.len() != before {
            let kept = self.searches.join(" ");
            left_out.push(format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {kept}"
            ));
        }
    }

    /// In the order in which containerd and CRI-O write it.
    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            let _ = writeln!(text, "search {}", self.searches.join(" "));
        }
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(from_node: bool, servers: &[&str], searches: &[&str], options: &[&str]) -> DnsDesired {
        let own = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        let nameservers = servers.iter().map(|ip| ip.parse().unwrap()).collect();
        DnsDesired { from_node, nameservers, searches: own(searches), options: own(options) }
    }

    fn check(dns: &DnsDesired, node: &str, text: &str, left_out: usize) {
        let got = resolv_conf(dns, node);
        assert_eq!(got.text, text, "{dns:?}");
        assert_eq!(got.left_out.len(), left_out, "{:?}", got.left_out);
    }

    #[test]
    fn servers_searches_and_options() {
        let node = "# made by hand\nsearch old.example\nnameserver 192.0.2.1\nsearch a.example. b.example ; x\n\
                    options ndots:1 rotate\ndomain c\n";
        check(&dns(false, &[], &[], &[]), node, "", 0);
        check(
            &dns(false, &["10.96.0.10"], &["default.svc.cluster.local"], &["ndots:5"]),
            node,
            "search default.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
            0,
        );
        check(
            &dns(true, &["fd00::10", "192.0.2.1"], &["c.example", "a.example"], &["ndots:5"]),
            node,
            "search a.example b.example c.example\nnameserver 192.0.2.1\nnameserver fd00::10\noptions rotate ndots:5\n",
            0,
        );
    }

    #[test]
    fn limits_are_the_kubelets() {
        check(
            &dns(false, &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"], &[], &[]),
            "",
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
            1,
        );
        let many: Vec<String> = (0..33).map(|n| format!("d{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&dns(false, &[], &many, &[]), "", &format!("search {}\n", many[..32].join(" ")), 1);
        let too_long = "x".repeat(254);
        check(&dns(false, &[], &["a", &too_long, "b"], &[]), "search . c", "search a b\n", 1);
        check(&dns(true, &[], &[], &[]), "search . c.", "search c\n", 0);
        check(&dns(true, &[], &[], &[]), "options ndots:1 rotate\noptions ndots:2", "options rotate ndots:2\n", 0);
        assert_eq!(node_searches("search x\nsearch a. ."), ["a"]);
        let long: Vec<String> = (0..20).map(|n| format!("{n}.{}", "x".repeat(120))).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        let got = resolv_conf(&dns(false, &[], &long, &[]), "");
        assert!(got.text.len() <= "search \n".len() + SEARCH_CHARS_MAX && got.text.len() > 1900, "{}", got.text.len());
        assert_eq!(got.left_out.len(), 1);
    }
}
