//! How long the parts of a batch take: criterion's times, for a person who changes one of them.
//!
//! `make parts` measures and compares with the last time; `PARTS="hit --save-baseline before"` passes options on. Times
//! differ from machine to machine and from minute to minute. Whether something became slower for everybody is told by
//! the instructions of the same parts, which `make instructions` counts.

mod batches;
mod parts;

use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn measure(criterion: &mut Criterion) {
    for mut part in parts::all() {
        criterion.bench_function(part.name, |bencher| bencher.iter(|| (part.work)()));
    }
}

criterion_group!(benches, measure);
criterion_main!(benches);
