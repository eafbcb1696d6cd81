//! How is HTTP/2 spoken with a client?

mod answer;
mod body;
mod connection;
mod frames;
mod io;
mod request;
mod sender;
mod stream;

pub(super) use connection::serve;
pub(super) use frames::PREFACE;
