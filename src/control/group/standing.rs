//! Does this node still belong to its cluster?
//!
//! A node that was removed hears no more of Raft, and the one message that tells it may be lost. So
//! it asks: when a member says that it was removed, and when it has heard no leader for long. What
//! is said unasked is a hint and no more, or one message, sent by mistake or by a stranger, would
//! end a node for ever. What counts is the answer of a leader that has applied everything that was
//! agreed before it was asked, as a majority confirms ([`wire::STANDING`]).

use std::collections::VecDeque;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, sleep, sleep_until};

use super::ask::{self, ATTEMPT};
use super::leadership::Leadership;
use super::part::{Group, lock};
use super::wire::{self, Answer, AskStanding, Standing};
use crate::ids::PeerAddress;

/// A node asks when it has heard no leader for so many of the largest election timeouts: when
/// elections that it does not see must long be over.
const SILENT_TIMEOUTS: u32 = 5;

/// The least time between two rounds of questions, however many hints come.
const PAUSE_MS: u64 = 500;

/// Of how many nodes in a row the word for who leads is taken.
const HINTS_MAX: usize = 8;

impl Group {
    /// Has the node ask whether it belongs to the cluster any more.
    pub fn doubt_membership(&self) {
        self.shared().doubt.notify_one();
    }

    /// A leader of this term or a later one has spoken to this node.
    pub(super) fn hears_a_leader(&self) {
        *lock(&self.shared().heard) = Some(Instant::now());
    }

    /// Asks whenever there is a reason to, until it is certain that the node was removed.
    pub(super) async fn look_for_removal(&self) {
        let mut asked = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = self.shared().doubt.notified() => {}
                () = self.hears_nobody(asked) => {}
            }
            if self.was_removed_for_certain().await {
                self.shared().removed.send_replace(true);
                return;
            }
            asked = Instant::now();
            sleep(Duration::from_millis(PAUSE_MS + self.shared().draw_below(PAUSE_MS))).await;
        }
    }

    /// Returns when no leader was heard for long, and not before it is long after `asked`.
    async fn hears_nobody(&self, asked: Instant) {
        let long = self.shared().options.timing.election_most() * SILENT_TIMEOUTS;
        let mut from = asked;
        loop {
            sleep_until(from + long).await;
            let leads = matches!(*self.shared().leadership.borrow(), Leadership::Leader { .. });
            let heard = if leads { Some(Instant::now()) } else { *lock(&self.shared().heard) };
            match heard {
                Some(heard) if heard > from => from = heard,
                _ => return,
            }
        }
    }

    async fn was_removed_for_certain(&self) -> bool {
        let Some(member) = self.member() else { return false };
        let body = wire::encode(&AskStanding { node: member.node });
        let mut next = self.others();
        let mut hints = 0;
        while let Some(address) = next.pop_front() {
            let peers = &self.shared().options.peers;
            let answer = peers.call(&address, wire::STANDING, body.clone(), ATTEMPT).await;
            let Ok(answer) = answer else { continue };
            match ask::read::<Standing>(&answer) {
                Ok(Answer::Done(Standing { removed })) => return removed,
                Ok(Answer::NotLeader(Some(leader)))
                    if leader.node != member.node && hints < HINTS_MAX =>
                {
                    hints += 1;
                    next.push_front(leader.address);
                }
                _ => {}
            }
        }
        false
    }

    /// Where the other members are, as far as this node knows.
    fn others(&self) -> VecDeque<PeerAddress> {
        let Some(running) = self.shared().running() else { return VecDeque::new() };
        let me = running.member.node;
        let state = self.state();
        let agreed = state.nodes().iter().filter(|(node, _)| **node != me);
        let mut others: VecDeque<_> = agreed.map(|(_, node)| node.address.clone()).collect();
        let metrics = running.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        // A node that never got the state knows at least whom the membership names.
        for (node, peer) in metrics.membership_config.nodes() {
            if let Ok(address) = peer.addr.parse()
                && *node != me.0
                && !others.contains(&address)
            {
                others.push_back(address);
            }
        }
        others
    }
}
