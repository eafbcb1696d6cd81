//! Who looks after leases, verdicts and barriers?

mod overview;

pub use overview::{NodeReport, Overview};
