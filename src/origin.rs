//! Asking the VMS: which server, with which header, and what to make of its answer.

pub mod answer;
pub mod collapse;
pub mod fetch;
pub mod forward;
pub mod servers;
pub mod trust;
