//! vms-edge: a caching edge proxy in front of a video management system.
//!
//! Mobile widgets ask the VMS for up to 25 intercoms at once. The edge answers what it knows from memory, asks the VMS
//! only for the ids it does not know, and puts the answer together so that no widget can tell. Every other request
//! passes through untouched.
//!
//! # The way of a request
//!
//! [`listen`] accepts the connection that it comes on: TLS, limits and deadlines are there. [`edge`] receives it: a plain
//! batch whose answer is at hand before Pingora does, all else in Pingora's phases.
//! [`request`] finds out whether it is a batch, and whose. [`batch`] tells the story: [`cache`] says what is known,
//! [`origin`] asks the VMS for the rest, [`reply`] puts the answer together. [`app`] builds all of them from a [`config`]
//! and replaces what follows from it, [`process`] listens to signals, and [`ops`] shows operators what happens.
//!
//! Imports run one way: `config` < `request` < `cache` < `origin` < `reply` < `ops` < `batch` < `listen` < `edge` < `app` <
//! `process` < `main`. Parts that decide are pure functions of their input and a given time; parts that do I/O are thin.
//!
//! Beside that order stand those that only `main`, the tests and what makes the package use: [`cli`], the command line,
//! which knows `config` alone; [`demo`], a small VMS to try the edge on with a tour, which takes answers apart as `origin`
//! does; and [`guide`], the operator's, which is text. Two know nothing at all, and every room may use them: `waited` is a
//! stopwatch, and `planted` lets tests break a promise on purpose.
//!
//! # What always holds
//!
//! - Items are stored and found under a [`Key`](request::key::Key) only, and a key can be made only from a request that
//!   was checked. Serving one user's item to another does not compile.
//! - What the edge does not fully understand goes to the VMS as it came, and is not stored.
//! - An answer is made of the bytes the VMS sent, is complete, or is the VMS's own.

#[macro_use]
mod planted;

pub mod app;
pub mod batch;
pub mod cache;
pub mod cli;
pub mod config;
pub mod demo;
pub mod edge;
pub mod guide;
pub mod listen;
pub mod ops;
pub mod origin;
pub mod process;
pub mod reply;
pub mod request;
mod waited;
