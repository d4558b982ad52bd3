//! Runs [`vms_edge_fuzz::admin`] on what libFuzzer makes up.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vms_edge_fuzz::admin(data));
