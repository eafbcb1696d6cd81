//! What is to be done about one key, given what its replicas hold?

use crate::protocol::holding::Held;
use crate::protocol::read::Record;

/// What makes the replicas of a key alike. Replicas are named by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// The newest record that anybody holds.
    pub newest: Record,
    /// Who has it.
    pub holders: Vec<usize>,
    /// Who lacks it and would take it.
    pub to: Vec<usize>,
    /// Who lacks it and would not: it has collected deletions up to there. Of a tombstone that is
    /// as good as having it. Of a value it cannot be, since watermarks are raised only while all
    /// replicas of a slot agree up to there; so it is a defect, to be told and not to be acted on.
    pub stuck: Vec<usize>,
    /// Nobody has it to give: all that held it hold it damaged. It takes a new write, or a deletion,
    /// to make the replicas alike.
    pub is_lost: bool,
}

impl Mend {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_alike(&self) -> bool {
        self.to.is_empty() && self.stuck.is_empty() && !self.is_lost
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
    let (holders, to, stuck) = (Vec::new(), Vec::new(), Vec::new());
    let mut mend = Mend { newest, holders, to, stuck, is_lost };
    if is_lost {
        return Some(mend);
    }
    for (at, held) in answered() {
        match held {
            _ if held.whole() == Some(newest.version) => mend.holders.push(at),
            _ if !held.covers(newest.version) => mend.to.push(at),
            _ if !is_tombstone => mend.stuck.push(at),
            _ => {}
        }
    }
    Some(mend)
}
