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
//! older one; only a store that took another's place can have come to hold one, and that is fresh until
//! it was compared. So a *fresh* one is told as well, and is not spared.

use crate::protocol::holding::{Decision, Held, decide_damaged};
use crate::protocol::read::Record;

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

impl Mend {
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
