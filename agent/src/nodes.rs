//! The other nodes of the cluster: their pods are reached from here, and the data path
//! knows their ranges and addresses.
//!
//! ```text
//!   watch of Nodes ──▶ Nodes::take ──┐
//!   links, routes, tunnels (netlink) ┼─▶ follow ─▶ PeerNetwork::reconcile ─▶ NodesView, events
//!   a step that failed, after a while┘
//! ```
//!
//! Nothing is changed before the list of Nodes was whole once: until then the kernel has
//! what the agent before left there. A node without an API server has no peers.

mod known;
mod view;

pub(crate) use view::NodesView;

use crate::events::NODE;
use crate::node::Node;
use crate::pod::chain;
use known::Known;
use orlop_apiclient::WatchEvent;
use orlop_cni::{CniError, LinkNames, PeerMode, PeerNetwork, PeerProblem, PeersReport, ROUTE_PROTOCOL};
use orlop_kernel::{LinkEvent, Netns, RouteEvent, RouteEvents};
use orlop_lb::LeanNode;
use orlop_model::EventKind;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Changes come in bursts: a device, its state, its addresses; Nodes at the start of a cluster.
const SETTLE: Duration = Duration::from_millis(20);
/// After a step that failed, at first and at most.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Nodes {
    network: PeerNetwork,
    known: Mutex<Known>,
    changed: Notify,
    view: watch::Sender<Arc<NodesView>>,
}

impl Nodes {
    /// The other nodes as seen from the namespace `netns`; none are known yet.
    pub fn new(netns: Netns) -> Self {
        Self {
            network: PeerNetwork::new(netns),
            known: Mutex::default(),
            changed: Notify::new(),
            view: watch::Sender::default(),
        }
    }

    /// What the data path has to know of nodes and devices, now and whenever it changes.
    pub fn view(&self) -> watch::Receiver<Arc<NodesView>> {
        self.view.subscribe()
    }

    /// An event of the watch of Nodes, this one's among them.
    pub fn take(&self, event: WatchEvent<LeanNode>) {
        if self.known().take(event) {
            self.changed.notify_one();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while it is held")
    }
}

/// Looks once, so that there is a view; [`follow`] keeps all of it true.
pub(crate) async fn begin(node: Arc<Node>) -> Follower {
    let mut follower = Follower { node, told: BTreeSet::new(), report: PeersReport::default() };
    follower.reconcile().await;
    follower
}

/// Keeps routes, tunnels and the view true, for ever.
pub(crate) async fn follow(mut follower: Follower) {
    let mut retry = RETRY_MIN;
    loop {
        // Listen first, then look: nothing is missed.
        let mut events = listen();
        loop {
            let again = follower.reconcile().await;
            let wait = again || events.is_none();
            let look_again =
                async { if wait { tokio::time::sleep(retry).await } else { std::future::pending().await } };
            let changed = follower.node.nodes.changed.notified();
            tokio::select! {
                () = changed => {}
                () = look_again => retry = (retry * 2).min(RETRY_MAX),
                () = concerned(&follower, &mut events) => {}
            }
            if !again {
                retry = RETRY_MIN;
            }
            tokio::time::sleep(SETTLE).await;
            match &mut events {
                Some(events) => while events.try_next().is_some() {},
                None => break,
            }
        }
    }
}

/// Waits for an event that concerns routes to other nodes. A socket that has failed for good is let go.
async fn concerned(follower: &Follower, from: &mut Option<RouteEvents>) {
    let Some(events) = from else { return std::future::pending().await };
    while let Some(event) = events.next().await {
        if follower.concerns(&event) {
            return;
        }
    }
    *from = None;
}

fn listen() -> Option<RouteEvents> {
    match Netns::current().and_then(|netns| RouteEvents::open(&netns)) {
        Ok(events) => Some(events),
        Err(error) => {
            tracing::warn!(err = %chain(&error), "routes are not followed");
            None
        }
    }
}

/// What was found and told so far.
pub(crate) struct Follower {
    node: Arc<Node>,
    /// Problems that there is an event of.
    told: BTreeSet<PeerProblem>,
    /// What was found last.
    report: PeersReport,
}

impl Follower {
    /// Makes everything as it should be; whether another try is worth it after a while.
    async fn reconcile(&mut self) -> bool {
        let (node, settings) = (Arc::clone(&self.node), self.node.config.peers);
        let (own, peers) = node.nodes.known().all(&node);
        let (network, input) = (node.nodes.network.clone(), peers.clone());
        let work = move || match &input {
            Some(peers) => network.reconcile(&own, peers, settings).map(|report| (own, report)),
            None => network.look().map(|report| (own, report)),
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(|source| CniError::Worker { source });
        match done.and_then(|done| done) {
            Ok((own, report)) => {
                self.tell(&report.problems);
                let again = report.is_worth_another_try();
                if report.steps > 0 {
                    let (peers, tunnels) = (peers.as_ref().map_or(0, |peers| peers.len()), report.tunnels.len());
                    let problems = report.problems.len();
                    tracing::info!(
                        steps = report.steps,
                        peers,
                        tunnels,
                        problems,
                        "routes to other nodes were changed"
                    );
                }
                self.show(NodesView::new(own, peers, &report));
                self.report = report;
                again
            }
            Err(error) => {
                tracing::warn!(err = %chain(&error), "routes to other nodes cannot be looked at");
                true
            }
        }
    }

    /// Tells of each problem once, until it has been solved.
    fn tell(&mut self, problems: &[PeerProblem]) {
        let now: BTreeSet<PeerProblem> = problems.iter().cloned().collect();
        for problem in now.difference(&self.told) {
            self.node.events.record(NODE, EventKind::Warning, problem.reason(), problem.to_string());
        }
        for problem in self.told.difference(&now) {
            tracing::info!(problem = %problem, "solved");
        }
        self.told = now;
    }

    fn show(&self, view: NodesView) {
        self.node.nodes.view.send_if_modified(|shown| {
            let new = **shown != view;
            if new {
                *shown = Arc::new(view);
            }
            new
        });
    }

    /// Pods' links come and go all the time and concern nobody else.
    fn concerns(&self, event: &RouteEvent) -> bool {
        let tunnel = |index| self.report.tunnels.iter().any(|tunnel| tunnel.index == index);
        match event {
            RouteEvent::Gone { protocol: ROUTE_PROTOCOL, .. } => self.node.config.peers.mode != PeerMode::None,
            // What stood in the way may be gone.
            RouteEvent::Gone { .. } => !self.told.is_empty(),
            RouteEvent::NeighbourGone(link) => tunnel(*link),
            RouteEvent::Link(LinkEvent::Gone(link)) => {
                tunnel(*link) || self.report.uplinks.iter().any(|uplink| uplink.index == *link)
            }
            RouteEvent::Link(LinkEvent::Changed(link)) => {
                let as_before = self
                    .report
                    .uplinks
                    .iter()
                    .any(|uplink| (uplink.index, uplink.up, uplink.mtu) == (link.index, link.up, link.mtu));
                let pods = LinkNames::is_host_side(&link.name) || LinkNames::is_attachment(&link.name);
                !pods && !as_before
            }
            RouteEvent::Link(LinkEvent::Addresses(_) | LinkEvent::Lost) => true,
        }
    }
}
