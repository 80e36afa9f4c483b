//! A watch's events with each list in one piece.

use super::WatchEvent;
use std::collections::VecDeque;

/// What a watch tells, for collections that are small enough to be held twice for a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchChange<T> {
    /// This is all there is; what is not in it is gone. An object may be in it twice, the newer last.
    Restarted(Vec<T>),
    /// An object is new or changed.
    Applied(T),
    /// An object is gone; this was its last state.
    Deleted(T),
}

/// Gathers lists.
#[derive(Debug)]
pub(super) struct Gather<T> {
    /// The list that is coming.
    list: Option<Vec<T>>,
    /// What went while it came, to be told after it.
    gone: Vec<T>,
    ready: VecDeque<WatchChange<T>>,
}

impl<T> Gather<T> {
    pub(super) fn new() -> Self {
        Self { list: None, gone: Vec::new(), ready: VecDeque::new() }
    }

    pub(super) fn push(&mut self, event: WatchEvent<T>) {
        match (event, &mut self.list) {
            (WatchEvent::Begin, _) => {
                self.list = Some(Vec::new());
                self.gone.clear();
            }
            (WatchEvent::Item(object) | WatchEvent::Applied(object), Some(list)) => list.push(object),
            (WatchEvent::Deleted(object), Some(_)) => self.gone.push(object),
            (WatchEvent::Done, _) => {
                self.ready.extend(self.list.take().map(WatchChange::Restarted));
                self.ready.extend(self.gone.drain(..).map(WatchChange::Deleted));
            }
            (WatchEvent::Item(object) | WatchEvent::Applied(object), None) => {
                self.ready.push_back(WatchChange::Applied(object));
            }
            (WatchEvent::Deleted(object), None) => self.ready.push_back(WatchChange::Deleted(object)),
        }
    }

    pub(super) fn pop(&mut self) -> Option<WatchChange<T>> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_in_one_piece() {
        let mut gather = Gather::new();
        let mut got = Vec::new();
        for event in [
            WatchEvent::Begin,
            WatchEvent::Item(1),
            // It broke off and begins anew.
            WatchEvent::Begin,
            WatchEvent::Item(2),
            WatchEvent::Deleted(2),
            WatchEvent::Item(3),
            WatchEvent::Done,
            WatchEvent::Applied(4),
            WatchEvent::Deleted(3),
            WatchEvent::Begin,
            WatchEvent::Done,
        ] {
            gather.push(event);
            got.extend(std::iter::from_fn(|| gather.pop()));
        }
        let want = [
            WatchChange::Restarted(vec![2, 3]),
            WatchChange::Deleted(2),
            WatchChange::Applied(4),
            WatchChange::Deleted(3),
            WatchChange::Restarted(vec![]),
        ];
        assert_eq!(got, want);
    }
}
