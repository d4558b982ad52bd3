//! The edge's behaviour through real sockets: one edge and one VMS per test, on ports of their own.

mod support;
