//! How do bytes reach clients and shards?
//!
//! Sockets, deadlines, buffers and the HTTP/1.1 codec. This room knows bytes, messages and time;
//! it knows no pool, key or ring. Everything here but the listener belongs to one worker thread
//! and takes no lock.

pub mod buffer;
pub mod http1;
pub mod listener;
pub mod timers;
pub mod upstream;
pub mod wire;
