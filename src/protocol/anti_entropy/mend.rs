//! What is to be done about one key, given what its replicas hold?

use crate::version::Version;

/// What a replica holds of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A value.
    Value(Version),
    /// A tombstone.
    Tombstone(Version),
    /// Nothing; whatever it had was at most this, its slot's watermark.
    Absent(Version),
}

impl Seen {
    /// The version that it stands for.
    #[must_use]
    pub fn version(self) -> Version {
        match self {
            Self::Value(version) | Self::Tombstone(version) | Self::Absent(version) => version,
        }
    }
}

/// What makes the replicas of a key alike. Replicas are named by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// They are.
    Nothing,
    /// The value of this version goes from one of `from` to each of `to`.
    Copy {
        /// Which.
        version: Version,
        /// Who has it.
        from: Vec<usize>,
        /// Who lacks it.
        to: Vec<usize>,
    },
    /// A tombstone of this version goes to each of `to`.
    Delete {
        /// Which.
        version: Version,
        /// Who lacks it.
        to: Vec<usize>,
    },
}

/// What makes replicas alike that hold this; `None` of one that did not answer, which is left as
/// it is.
///
/// A watermark is raised only while a slot is alike on all its replicas, and by a deletion that all
/// of them hold. So where a replica holds nothing under a watermark, a value at or under it on
/// another one came too late, and is deleted there instead of being copied.
#[must_use]
pub fn mend(seen: &[Option<Seen>]) -> Mend {
    let Some(newest) = seen.iter().flatten().map(|seen| seen.version()).max() else {
        return Mend::Nothing;
    };
    let places = |wanted: &dyn Fn(Seen) -> bool| -> Vec<usize> {
        let answered = seen.iter().enumerate().filter_map(|(at, seen)| Some((at, (*seen)?)));
        answered.filter(|(_, seen)| wanted(*seen)).map(|(at, _)| at).collect()
    };
    let is_behind = |seen: Seen| seen.version() < newest;
    // No value has the version of a deletion; if it had, the deletion would win.
    let is_value = |seen: Seen| matches!(seen, Seen::Value(_));
    let is_collected = seen.iter().flatten().any(|seen| *seen == Seen::Absent(newest));
    let is_deleted = seen.iter().flatten().any(|seen| *seen == Seen::Tombstone(newest));
    let to = match (is_collected, is_deleted) {
        // What was collected is brought to nobody. A tombstone under it means the same, and is
        // left for whoever collects.
        (true, _) => places(&is_value),
        (false, true) => places(&|seen| is_behind(seen) || is_value(seen)),
        (false, false) => {
            let (from, to) = (places(&|seen| !is_behind(seen)), places(&is_behind));
            return match to.is_empty() {
                true => Mend::Nothing,
                false => Mend::Copy { version: newest, from, to },
            };
        }
    };
    if to.is_empty() { Mend::Nothing } else { Mend::Delete { version: newest, to } }
}

/// What becomes of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// The shard has that version or a newer one, or nobody has it: the hint is dropped.
    Drop,
    /// The value that `from` holds goes to the shard.
    Copy {
        /// Who has it.
        from: usize,
        /// In this version.
        version: Version,
    },
    /// A tombstone of this version goes to the shard.
    Delete(Version),
    /// Too few answered: later again.
    Wait,
}

/// What becomes of a hint that `shard` has missed `version`, given what the replicas of the key
/// hold, itself included.
///
/// Nobody having it means that the write was never acknowledged, and only if a majority was asked:
/// the one replica that has it may be the one that is away.
#[must_use]
pub fn replay(shard: usize, version: Version, seen: &[Option<Seen>]) -> Replay {
    let Some(own) = seen[shard] else { return Replay::Wait };
    if own.version() >= version {
        return Replay::Drop;
    }
    let others = seen.iter().enumerate().filter_map(|(at, seen)| Some((at, (*seen)?)));
    let newest = others.filter(|(at, _)| *at != shard).max_by_key(|(_, seen)| seen.version());
    match newest {
        Some((from, seen)) if seen.version() >= version => match seen {
            Seen::Value(version) => Replay::Copy { from, version },
            Seen::Tombstone(version) => Replay::Delete(version),
            // Deleted and collected: what the shard has instead is at most that old.
            Seen::Absent(watermark) => match own {
                Seen::Absent(_) => Replay::Drop,
                Seen::Value(_) | Seen::Tombstone(_) => Replay::Delete(watermark),
            },
        },
        _ if 2 * seen.iter().flatten().count() > seen.len() => Replay::Drop,
        _ => Replay::Wait,
    }
}

/// Whether a tombstone may be collected, given what *all* replicas of its key hold: it is old
/// enough, and each holds it or something newer. `None` of one that did not answer: then not.
///
/// That every replica has been told an epoch which has passed its barrier is for whoever asks to
/// see to (DESIGN, section 7).
#[must_use]
pub fn is_collectable(
    tombstone: Version,
    seen: &[Option<Seen>],
    now_unix_ms: u64,
    min_age_ms: u64,
) -> bool {
    let age_ms = now_unix_ms.saturating_sub(tombstone.stamp.unix_ms());
    let holds = |seen: &Option<Seen>| seen.is_some_and(|seen| seen.version() >= tombstone);
    age_ms >= min_age_ms && seen.iter().all(holds)
}
