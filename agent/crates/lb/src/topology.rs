//! Which of a Service port's endpoints this node uses.
//!
//! The rules are kube-proxy's (`CategorizeEndpoints` of pkg/proxy/topology.go in
//! Kubernetes 1.36): ready endpoints, or those that terminate and still serve when
//! none is ready, worked out for the cluster set and for the local set apart; hints
//! narrow the cluster set when every ready endpoint has some and one of them is for
//! this node or its zone.

use crate::{Endpoint, Hint};

/// What one endpoint is for this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// New connections under the policy `Cluster` may go there.
    pub cluster: bool,
    /// New connections under the policy `Local` may go there.
    pub local: bool,
}

/// How hints narrow the cluster set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    All,
    SameNode,
    SameZone,
}

impl Mode {
    /// As the ready endpoints' hints have it. Endpoints that are not ready do not count.
    fn of(ready: &[&Endpoint]) -> Self {
        let narrows = |hint: fn(&Endpoint) -> Hint| {
            ready.iter().all(|one| hint(one) != Hint::None) && ready.iter().any(|one| hint(one) == Hint::Here)
        };
        if narrows(|one| one.node) {
            Self::SameNode
        } else if narrows(|one| one.zone) {
            Self::SameZone
        } else {
            Self::All
        }
    }

    fn takes(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::All => true,
            Self::SameNode => endpoint.node == Hint::Here,
            Self::SameZone => endpoint.zone == Hint::Here,
        }
    }
}

/// What each of a Service port's endpoints is for this node, in their order. When the
/// cluster set is empty nothing serves the port anywhere; then the local set is
/// empty too.
pub(crate) fn categorize(endpoints: &[&Endpoint]) -> Vec<Part> {
    let ready: Vec<&Endpoint> = endpoints.iter().copied().filter(|one| one.ready).collect();
    let mode = Mode::of(&ready);
    let some_ready = !ready.is_empty();
    let some_local_ready = ready.iter().any(|one| one.local);
    let part = |one: &&Endpoint| {
        let last_resort = one.serving && one.terminating;
        Part {
            cluster: if some_ready { one.ready && mode.takes(one) } else { last_resort },
            local: one.local && if some_local_ready { one.ready } else { last_resort },
        }
    };
    endpoints.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::{Part, categorize};
    use crate::{Endpoint, Hint};

    /// `+` ready, `~` terminating and serving, `-` neither; `l` local; then the hints
    /// for zone and node: `z` and `n` here, `Z` and `N` elsewhere.
    fn endpoint(text: &str) -> Endpoint {
        let hint = |here, elsewhere| match (text.contains(here), text.contains(elsewhere)) {
            (true, _) => Hint::Here,
            (_, true) => Hint::Elsewhere,
            _ => Hint::None,
        };
        Endpoint {
            addr: [10, 0, 0, 1].into(),
            pod: None,
            local: text.contains('l'),
            ready: text.contains('+'),
            serving: !text.contains('-'),
            terminating: text.contains('~'),
            zone: hint('z', 'Z'),
            node: hint('n', 'N'),
            ports: [].into(),
        }
    }

    /// `c` in the cluster set, `l` in the local set, `b` in both, `.` in none.
    fn check(endpoints: &str, expected: &str) {
        let all: Vec<Endpoint> = endpoints.split_whitespace().map(endpoint).collect();
        let parts = categorize(&all.iter().collect::<Vec<_>>());
        let letter = |part: &Part| match (part.cluster, part.local) {
            (true, true) => 'b',
            (true, false) => 'c',
            (false, true) => 'l',
            (false, false) => '.',
        };
        assert_eq!(parts.iter().map(letter).collect::<String>(), expected, "{endpoints}");
    }

    /// The cases of kube-proxy's topology_test.go, by its names.
    #[test]
    fn as_kube_proxy() {
        // All endpoints have hints, and there are some for this zone.
        check("+z +Z +Z +z", "c..c");
        // The local set does not look at hints.
        check("+zl +Zl +Z +z", "bl.c");
        // No zone label, or a zone without endpoints: no filtering.
        check("+Z", "c");
        // An endpoint that is not ready does not count, neither its hint.
        check("+z +Z +Z -z", "c...");
        check("-z +Z +Z -z", ".cc.");
        // One hint is missing.
        check("+z +Z + +z", "cccc");
        // Same node, else same zone.
        check("+zn +ZN +ZN +zN", "c...");
        check("+zn + +ZN +zN", "cccc");
        check("+zN +ZN +ZN +zN", "c..c");
        // Node hints lack somewhere, zone hints do not.
        check("+zn +Z +ZN", "c..");
        // Topology and locality differ.
        check("+zl +Zl +z +Z", "blc.");
        // Policies.
        check("", "");
        check("+ +", "cc");
        check("+l +l", "bb");
        check("+l +", "bc");
        check("- -", "..");
        check("- +", ".c");
        check("~l ~", "bc");
        check("~ ~", "cc");
        check("+ -l ~l ~", "c.l.");
    }

    #[test]
    fn a_terminating_endpoint_of_here_waits_for_the_last_ready_one() {
        check("+l ~l", "b.");
        check("-l ~l +", ".lc");
        // Not ready and not terminating is never used, serving or not.
        check("-l", ".");
        // With publishNotReadyAddresses an endpoint is ready and terminating.
        check("+~l ~l", "b.");
    }
}
