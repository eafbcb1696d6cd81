//! What is counted about pools that keep copies?

use crate::level::Level;
use crate::metrics::{Counter, Stripe};

/// Counters of one pool.
#[derive(Debug)]
pub struct KeptMetrics {
    /// By level: what was asked of reads, of writes, and what of it was achieved.
    asked: [[Counter; LEVELS]; 2],
    achieved: [[Counter; LEVELS]; 2],
    /// Writes of which it is not known what became of them.
    pub(super) unknown: Counter,
    /// Notes that a replica may lack a write.
    pub(super) hints: Counter,
    /// Uploads that were given up because the others were ahead.
    pub(super) left_behind: Counter,
    /// Reads that found replicas which disagree.
    pub(super) divergent: Counter,
    /// Values brought from one replica to another by requests, and how often that failed.
    copied: Counter,
    copy_failed: Counter,
    /// Bodies that one replica began and another ended.
    pub(super) continued: Counter,
}

const LEVELS: usize = Level::EVERY.len();

/// A counter's name and help, and where it is.
pub type Pick = (&'static str, &'static str, fn(&KeptMetrics) -> &Counter);

/// What is counted of a pool as a whole.
pub const COUNTERS: [Pick; 7] = [
    (
        "ringway_kept_unknown_total",
        "Writes answered 504, of which it is not known whether they were applied.",
        |m| &m.unknown,
    ),
    (
        "ringway_kept_hints_total",
        "Hints left because a replica did not acknowledge a write.",
        |m| &m.hints,
    ),
    (
        "ringway_kept_left_behind_total",
        "Bodies that replicas took so slowly that they were left behind.",
        |m| &m.left_behind,
    ),
    ("ringway_kept_divergent_reads_total", "Reads that found replicas which disagree.", |m| {
        &m.divergent
    }),
    (
        "ringway_kept_copied_total",
        "Values that requests brought from one replica to another.",
        |m| &m.copied,
    ),
    ("ringway_kept_copy_failed_total", "Such copies that failed.", |m| &m.copy_failed),
    (
        "ringway_kept_continued_total",
        "Answers that broke off at one replica and were continued from another.",
        |m| &m.continued,
    ),
];

fn place(level: Level) -> usize {
    match level {
        Level::One => 0,
        Level::Quorum => 1,
        Level::All => 2,
    }
}

impl KeptMetrics {
    /// Nothing counted yet, by so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let counter = || Counter::new(workers);
        let levels = || [(); 2].map(|()| [(); LEVELS].map(|()| counter()));
        Self {
            asked: levels(),
            achieved: levels(),
            unknown: counter(),
            hints: counter(),
            left_behind: counter(),
            divergent: counter(),
            copied: counter(),
            copy_failed: counter(),
            continued: counter(),
        }
    }

    pub(super) fn asked(&self, stripe: Stripe, is_write: bool, level: Level) {
        self.asked[usize::from(is_write)][place(level)].inc(stripe);
    }

    pub(super) fn achieved(&self, stripe: Stripe, is_write: bool, level: Level) {
        self.achieved[usize::from(is_write)][place(level)].inc(stripe);
    }

    pub(super) fn copied(&self, stripe: Stripe, well: bool) {
        if well { &self.copied } else { &self.copy_failed }.inc(stripe);
    }

    /// Each class and level with what was asked and what of it was achieved.
    pub fn levels(&self) -> impl Iterator<Item = (&'static str, Level, u64, u64)> {
        let classes = [("read", 0), ("write", 1)].into_iter();
        classes.flat_map(move |(name, class)| {
            Level::EVERY.into_iter().map(move |level| {
                let sum = |of: &[[Counter; LEVELS]; 2]| of[class][place(level)].sum();
                (name, level, sum(&self.asked), sum(&self.achieved))
            })
        })
    }
}
