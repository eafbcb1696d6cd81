//! Which of the rules does the driver keep?
//!
//! The machines have no switches. A rule is switched off out here: the driver falsifies what a
//! machine is told, or passes over what it answers, as a mistaken runner would.

use crate::runner;

/// The rules that guard safety, by their numbers in DESIGN, section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Rule 1: A lease runs out.
    LeasesRunOut,
    /// Rule 2: It is counted from the sending of its renewal, not from the receipt of its grant.
    CountedFromSending,
    /// Rule 2: The clock that it is counted by goes on while the machine sleeps.
    ClockCountsSleep,
    /// Rule 4, and the margin of each lease: the rates of two clocks differ by a tenth at most.
    ClocksWithinATenth,
    /// Rule 3: A grant ends with the leader's last quorum-confirmed heartbeat + lease.
    BoundByQuorum,
    /// Rule 4: A new leader grants nothing before it has applied the first entry of its term.
    ReadyBeforeGranting,
    /// Rule 4: A new leader waits for the leases of its predecessors.
    WaitForPredecessors,
    /// Rule 4: It waits even when all the nodes that it knows have reported: there are nodes that it does
    /// not know.
    WaitForUnknown,
    /// Rule 4: It waits for the longest lease that was ever agreed, not for the present one.
    WaitForLongest,
    /// Rule 5: The lease, and the time of the pin, are looked at again before success.
    LastLook,
    /// Rule 6: An epoch is reported only with nothing older in flight.
    ReportNothingInFlight,
    /// Rule 7: An advance waits for nodes that are silent.
    WaitForSilent,
    /// Rule 7: A former incarnation counts until its lease is over.
    WaitForFormerIncarnations,
    /// Rule 7: A removed node counts until its lease is over.
    WaitForRemoved,
    /// Rule 8: The floor is raised in memory when the advance is proposed.
    FloorInMemory,
    /// Rule 8: The floor is raised in the state when the advance is applied.
    FloorInState,
    /// A barrier takes effect in the very term whose book allowed it, or not at all.
    GoodInItsTerm,
    /// DESIGN, section 6: a verdict needs a majority of the lease holders.
    MajorityOfHolders,
}

impl Rule {
    pub const ALL: [Rule; 18] = [
        Self::LeasesRunOut,
        Self::CountedFromSending,
        Self::ClockCountsSleep,
        Self::ClocksWithinATenth,
        Self::BoundByQuorum,
        Self::ReadyBeforeGranting,
        Self::WaitForPredecessors,
        Self::WaitForUnknown,
        Self::WaitForLongest,
        Self::LastLook,
        Self::ReportNothingInFlight,
        Self::WaitForSilent,
        Self::WaitForFormerIncarnations,
        Self::WaitForRemoved,
        Self::FloorInMemory,
        Self::FloorInState,
        Self::GoodInItsTerm,
        Self::MajorityOfHolders,
    ];
}

/// All rules, or all but one.
pub type Rules = runner::Rules<Rule>;
