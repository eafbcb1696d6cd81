//! Does the admin listener do what it says, on a real group of one node?

mod api;
mod openapi;
mod schema;
mod world;
