//! What goes on while nobody asks?
//!
//! Each module is one long loop on the control runtime, never on a worker's: a request is not to
//! wait for housekeeping. Loops hold no state that matters; the pure rooms and the agreed state
//! do, so a loop may be stopped at any point and begun anew.

pub mod heal;
pub mod probe;
pub mod spans;
