//! How do bytes survive a crash?
//!
//! Small duties that several rooms share: replacing a file so that it is whole at every moment
//! ([`atomic`]), owning a folder so that two processes never write it ([`lock`]), and the log of
//! what replicas have missed ([`hints`]).

pub mod atomic;
pub mod hints;
pub mod lock;
