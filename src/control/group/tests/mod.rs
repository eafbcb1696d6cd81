//! Does a group of real nodes keep its promises? Real logs and snapshots on a real disk, and
//! between the nodes a transport in memory that loses what a test wants lost.

mod belief;
mod conformance;
mod damage;
mod line;
mod nodes;
mod recovery;
mod space;
mod three;
mod trust;
