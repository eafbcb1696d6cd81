//! Bytes that survive: small durable steps on files and folders.

pub mod folder;
