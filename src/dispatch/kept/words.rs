//! What came of an exchange with a replica, in one word?
//!
//! For the span of the exchange, and for the sentence that names who is away. Few and stable words:
//! dashboards group by them.

use crate::drivers::native::{Committal, Committed, Doubt, Fault, Got, Held, Refused, Staged};
use crate::net::upstream::ConnectError;
use crate::protocol::holding::Effect;
use crate::protocol::replica::{Page, Refusal};

/// What a replica answered.
pub(super) trait Word {
    /// In one word.
    fn word(&self) -> &'static str;
}

impl Word for Staged {
    fn word(&self) -> &'static str {
        "staged"
    }
}

impl Word for Committed {
    fn word(&self) -> &'static str {
        match self.effect {
            Effect::Applied => "applied",
            Effect::Superseded => "superseded",
            // `forgotten` is what became of a stage.
            Effect::Forgotten => "collected",
        }
    }
}

impl Word for Committal {
    fn word(&self) -> &'static str {
        match self {
            Self::Committed(committed) => committed.word(),
            Self::NotStaged => Refusal::NotStaged.word(),
        }
    }
}

impl Word for Held {
    fn word(&self) -> &'static str {
        match self {
            Self::Value(_) => "value",
            Self::Tombstone(_) => "tombstone",
            Self::Damaged(_) => "damaged",
            Self::Absent(_) => "absent",
        }
    }
}

impl Word for Got {
    fn word(&self) -> &'static str {
        match self {
            Self::Value(_) => "value",
            Self::Nothing(held) => held.word(),
            Self::Other(_) => "overwritten",
            Self::Outside => "outside",
        }
    }
}

impl Word for Page {
    fn word(&self) -> &'static str {
        "listed"
    }
}

/// That it forgot what it had staged.
impl Word for () {
    fn word(&self) -> &'static str {
        "forgotten"
    }
}

/// What went wrong.
pub(super) fn word_for(fault: &Fault) -> &'static str {
    match fault {
        Fault::NotSent(ConnectError::Local(_)) => "node_exhausted",
        Fault::NotSent(ConnectError::Tls(_)) => "tls",
        Fault::NotSent(_) => "connect",
        Fault::Refused(Refused::Foreign(_)) => Refusal::Foreign.word(),
        Fault::Refused(Refused::StaleEpoch(_)) => Refusal::StaleEpoch.word(),
        Fault::Refused(Refused::Said(refusal)) => refusal.word(),
        Fault::Refused(Refused::Status(_)) => "status",
        Fault::Unsure(Doubt::Broke) => "reset",
        Fault::Unsure(Doubt::TimedOut) => "timeout",
        Fault::Unsure(Doubt::BadAnswer(_)) => "bad_answer",
        Fault::Unsure(Doubt::Store) => Refusal::Unknown.word(),
    }
}

/// The same as half a sentence, for whoever asks what is the matter with the replica.
pub(super) fn sentence_for(word: &str) -> String {
    match word {
        "node_exhausted" => "this node cannot open more connections".to_owned(),
        "tls" => "there is no TLS session with it".to_owned(),
        "overflow" => "it has as many requests in flight as it may".to_owned(),
        "connect" => "it cannot be connected to".to_owned(),
        "foreign" => "another store answers there".to_owned(),
        "status" => "what answers there is no store of this release".to_owned(),
        "reset" => "it broke the connection".to_owned(),
        "timeout" => "it did not answer in time".to_owned(),
        "bad_answer" => "its answer cannot be understood".to_owned(),
        "unknown" => "its disk failed".to_owned(),
        refusal => format!("it refuses: {refusal}"),
    }
}
