//! What one client did to one key, and when.

/// What was asked and, for a read, answered. `None` is the key without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that no other write of the history gives, or a deletion.
    Write(Option<u64>),
    /// What was found.
    Read(Option<u64>),
}

/// One operation on the key, between two moments of one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What it was.
    pub kind: Kind,
    /// Before it was sent.
    pub begun: u64,
    /// After its answer came. `None` of a write: nobody knows, and it may take effect at any moment
    /// after `begun`, or never. A read without an answer says nothing and is left out.
    pub ended: Option<u64>,
}
