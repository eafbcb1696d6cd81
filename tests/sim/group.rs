//! The Raft group, as an abstract log.
//!
//! Raft itself is not what is tested here: openraft is, elsewhere. What stands for it has its
//! promises, and is as unkind as they allow. There is at most one leader of the latest term; what is
//! committed stays and is in every later leader's log; what a leader has only appended may be lost
//! at a change of leaders, from any point on, or be committed by its successor. A deposed leader may
//! go on believing that it leads; what it appends is lost, and nobody confirms its heartbeats.

use std::sync::Arc;

use ringway::cluster::Envelope;
use ringway::ids::Term;

/// One entry of the log.
#[derive(Debug)]
pub struct Entry {
    /// The term of the leader that appended it.
    pub term: Term,
    /// `None`: the first entry of a term.
    pub envelope: Option<Envelope>,
    /// The process that asked for it and waits until it has applied it.
    pub waits: Option<usize>,
}

/// The group as one who sees everything would.
#[derive(Debug, Default)]
pub struct Group {
    /// What is committed.
    pub log: Vec<Arc<Entry>>,
    /// What the leader has appended besides.
    tail: Vec<Arc<Entry>>,
    /// The latest term.
    pub term: Term,
    /// The process that leads in it.
    pub leader: Option<usize>,
}

impl Group {
    /// A process begins to lead in a new term. Returns up to where its log reaches, once it has
    /// appended its first entry.
    pub fn elect(&mut self, process: usize, rng: &mut fastrand::Rng) -> usize {
        self.term = self.term.next();
        self.leader = Some(process);
        self.tail.truncate(rng.usize(0..=self.tail.len()));
        self.append(Entry { term: self.term, envelope: None, waits: None })
    }

    /// The leader of the latest term appends. Returns up to where its log reaches.
    pub fn append(&mut self, entry: Entry) -> usize {
        self.tail.push(Arc::new(entry));
        self.log.len() + self.tail.len()
    }

    /// A majority has everything up to `upto`. Returns how much is committed newly.
    pub fn commit(&mut self, upto: usize) -> usize {
        let new = upto.saturating_sub(self.log.len()).min(self.tail.len());
        self.log.extend(self.tail.drain(..new));
        new
    }
}
