//! What is to be done about one key, given what its replicas hold?
//!
//! # What nobody can give
//!
//! A value can be damaged wherever it is held. Then that there is such a value is brought to those that
//! hold nothing as new: else a store that is filled meanwhile would never hear of it, and a majority
//! that it belongs to would answer as if it had never been written.
//!
//! But not to one that holds an older value whole ([`Mend::spared`]): its bytes may be the last that
//! there are of the key, and the newer value one that nobody was ever promised. Whoever was promised it
//! loses nothing by that. An acknowledged write stood on a majority, and none of these goes back to an
//! older one; only a store that took another's place can have come to hold one, and that is *fresh* until
//! it was compared. So a fresh one has to be told before it counts ([`Mend::told`]). Its older value may
//! be the last there is, too: one that it was brought, or that was acknowledged on it and a replica that
//! is now damaged. It is given up only when nobody is silent, and another replica that counts keeps it or
//! something newer, to which it is brought first; or when a majority that counts has the lost value, so
//! that the older one was overwritten for good.

use crate::protocol::holding::{Decision, Held, decide_damaged};
use crate::protocol::quorum::majority;
use crate::protocol::read::Record;
use crate::version::Version;

/// What makes the replicas of a key alike. Replicas are named by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// The newest record that anybody holds.
    pub newest: Record,
    /// Who has it; damaged, if it is lost.
    pub holders: Vec<usize>,
    /// Who lacks it and would take it; the word of it, if it is lost.
    pub to: Vec<usize>,
    /// Who holds an older value whole, while the newest is lost.
    pub spared: Vec<usize>,
    /// Who lacks it and would not: it has collected deletions up to there. Of a tombstone that is
    /// as good as having it. Of a value it cannot be, since watermarks are raised only while all
    /// replicas of a slot agree up to there; so it is a defect, to be told and not to be acted on.
    pub stuck: Vec<usize>,
    /// Nobody that answered has it to give: all of them that hold it hold it damaged. It takes a new
    /// write, or a deletion, for the key to be readable again.
    pub is_lost: bool,
}

/// What is done about a value that is lost, where some replicas are fresh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Who is told that there is such a value.
    pub to: Vec<usize>,
    /// An older value that fresh ones alone have, they, and to whom it is brought first: the next look
    /// finds it there.
    pub rescued: Option<(Version, Vec<usize>, Vec<usize>)>,
    /// Fresh ones that are not told yet, and so do not count yet.
    pub waiting: Vec<usize>,
    /// Those that count and keep an older value.
    pub spared: Vec<usize>,
}

impl Mend {
    /// Of a value that is lost: who is told of it, and who is not. `held` is what [`mend`] was given.
    #[must_use]
    pub fn told(&self, held: &[Option<Held>], is_fresh: impl Fn(usize) -> bool) -> Told {
        let (fresh, spared): (Vec<usize>, _) = self.spared.iter().partition(|at| is_fresh(**at));
        let counting = self.holders.iter().filter(|at| !is_fresh(**at)).count();
        let is_overwritten = counting >= majority(held.len());
        let is_known = held.iter().all(Option::is_some);
        let version = |at: usize| held[at].and_then(Held::record).unwrap_or(Version::NONE);
        // A deletion under a newer version than the value's is as good.
        let is_kept = |version: Version| {
            let kept = held.iter().enumerate().filter(|(at, _)| !is_fresh(*at));
            kept.filter_map(|(_, held)| held.and_then(Held::whole)).any(|whole| whole >= version)
        };
        let (mut told, waiting): (Vec<usize>, Vec<usize>) =
            fresh.iter().partition(|at| is_known && (is_overwritten || is_kept(version(**at))));
        let newest = waiting.iter().map(|at| version(*at)).max();
        let (mut later, now): (Vec<usize>, Vec<usize>) =
            self.to.iter().partition(|at| newest.is_some() && !is_fresh(**at));
        told.extend(now);
        told.sort_unstable();
        later
            .extend(spared.iter().filter(|at| newest.is_some_and(|newest| version(**at) < newest)));
        let from = |newest| waiting.iter().copied().filter(|at| version(*at) == newest).collect();
        let rescued = newest
            .filter(|_| is_known && !later.is_empty())
            .map(|newest| (newest, from(newest), later));
        Told { to: told, rescued, waiting, spared }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_alike(&self) -> bool {
        self.to.is_empty() && self.stuck.is_empty() && self.spared.is_empty()
    }
}

/// What makes replicas alike that hold this; `None` of one that did not answer, which is left as it
/// is. `None` when nobody holds anything.
#[must_use]
pub fn mend(held: &[Option<Held>]) -> Option<Mend> {
    let newest = held.iter().flatten().filter_map(|held| held.record()).max()?;
    let answered = || held.iter().enumerate().filter_map(|(at, held)| Some((at, (*held)?)));
    // No value has the version of a deletion; if it had, all would agree on the deletion.
    let is_tombstone = answered().any(|(_, held)| held == Held::Tombstone(newest));
    let newest = Record { version: newest, is_tombstone };
    let is_lost = !answered().any(|(_, held)| held.whole() == Some(newest.version));
    let (holders, to, spared, stuck) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut mend = Mend { newest, holders, to, spared, stuck, is_lost };
    for (at, held) in answered() {
        match held {
            _ if is_lost && held == Held::Damaged(newest.version) => mend.holders.push(at),
            Held::Value(_) if is_lost => mend.spared.push(at),
            _ if is_lost => match decide_damaged(held, newest.version) {
                Decision::Apply => mend.to.push(at),
                _ => mend.stuck.push(at),
            },
            _ if held.whole() == Some(newest.version) => mend.holders.push(at),
            _ if !held.covers(newest.version) => mend.to.push(at),
            _ if !is_tombstone => mend.stuck.push(at),
            _ => {}
        }
    }
    Some(mend)
}
