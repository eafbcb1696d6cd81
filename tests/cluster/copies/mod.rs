//! Do three copies behave as one while stores and proxies are killed, stopped, cut off and slowed?

mod clients;
mod faults;
mod judgement;
mod world;

mod anew;
mod foreign;
mod halves;
mod histories;
mod promise;
mod replaced;
