//! What may an operator ask of a node, and how?
//!
//! Two listeners, apart because they face different people. *Telemetry* holds no secret and
//! changes nothing: it may face the network, for Prometheus and the balancer in front. *Admin*
//! listens on loopback unless told otherwise; every change there needs the token that lies in
//! `data_dir/admin.token`, readable by the node's user alone, also on loopback: a browser or
//! another user of the machine can reach loopback too.

pub mod actions;
pub mod api;
pub mod asked;
pub mod cluster;
pub mod control;
pub mod copies;
pub mod http;
pub mod locate;
pub mod nodes;
pub mod openapi;
pub mod plan;
pub mod process;
pub mod repair;
pub mod ring;
pub mod routes;
pub mod status;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod token;
pub mod warnings;
