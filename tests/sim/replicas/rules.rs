//! Which of the rules do stores and runners keep?
//!
//! The machines have no switches. A rule is switched off out here: a runner falsifies what a machine
//! is told or passes over what it says, and a store does what it must not.

use crate::runner;

/// The rules that guard safety on replicated pools (DESIGN, section 7).
///
/// That an absent key answers its slot's watermark, and that the watermark refuses, are not among
/// them: with clocks that are right within the age of what is collected, and stores that fence,
/// nothing that happens here needs them. They are there for when one of these fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A write has one version for ever: nobody stamps anew after "superseded".
    OneVersion,
    /// A quorum write asks what a majority holds before it chooses its version.
    AskBeforeChoosing,
    /// A read brings the newest to a majority before it answers.
    RepairBeforeAnswer,
    /// A hint is never an acknowledgement.
    HintsAreNoAcks,
    /// A record is on disk before it is answered.
    DurableBeforeAnswer,
    /// A tombstone is dropped only when all replicas hold it.
    TombstonesEverywhere,
    /// A replica that replaced another is no witness before it is filled.
    FreshProvesNothing,
    /// Of a value that nobody can give, a replica that replaced another is told before it is filled.
    LossesAreTold,
    /// A store refuses what began under an older epoch than it was told.
    StoresFence,
}

impl Rule {
    pub const ALL: [Rule; 9] = [
        Self::OneVersion,
        Self::AskBeforeChoosing,
        Self::RepairBeforeAnswer,
        Self::HintsAreNoAcks,
        Self::DurableBeforeAnswer,
        Self::TombstonesEverywhere,
        Self::FreshProvesNothing,
        Self::LossesAreTold,
        Self::StoresFence,
    ];
}

/// All rules, or all but one.
pub type Rules = runner::Rules<Rule>;
