//! The edge on one machine, without a VMS: a stand-in for it, and a tour of what the edge does.

pub mod tour;
pub mod vms;
