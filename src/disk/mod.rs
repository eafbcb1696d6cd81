//! How do bytes survive a crash?
//!
//! Two small duties that several rooms share: replacing a file so that it is whole at every
//! moment ([`atomic`]), and owning a folder so that two processes never write it ([`lock`]).

pub mod atomic;
pub mod lock;
