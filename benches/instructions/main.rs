//! How many instructions the parts of a batch take, held against those that they took when they were last accepted.
//!
//! Times are noisy; instructions are not. `make instructions` counts, compares with `baseline.txt`, and fails if a part
//! takes more than 5 % above it. Whoever means it says so: `make instructions ACCEPT=1` writes the file anew, and the
//! change shows in review.
//!
//! This program runs itself under valgrind, once for each part, and lets callgrind count what happens inside of
//! [`measured`] alone. It takes Debian's valgrind and nothing else: gungraun and iai-callgrind, which are made for this,
//! each need a runner of exactly their own version to be built first, keep their baselines under `target`, and cannot let
//! a baseline of another compiler pass.
//!
//! What is counted follows from the program, not from the machine: valgrind shows programs a processor with AVX2 and
//! without anything newer, so that SHA-256, memchr and the C library choose the same code on every x86-64 since Haswell.
//! It is not the SHA-256 that servers run, whose processors have instructions for it: a key counts for more here than it
//! costs, which is why answers are counted without one, too. What is drawn at random, as the seeds of hashes, moves
//! looking up by 3 % at the most, and the rest by less. Another compiler makes another program: counts are then compared
//! and shown, and nothing fails.

mod baseline;
#[path = "../parts/batches.rs"]
mod batches;
#[path = "../parts/parts.rs"]
mod parts;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

use baseline::Baseline;
use parts::Part;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Times that a part is done before it is measured: by then its tables and buffers have their size.
const WARM_UP: u64 = 200;

/// Times that it is measured. The store tidies up every 64 lookups.
const TIMES: u64 = 64 * 10;

/// How many more instructions than in the baseline a part may take: less is noise of the compiler, which a change
/// elsewhere may make inline something or not.
const TOLERANCE: f64 = 1.05;

/// Counts the instructions of the parts of a batch, and compares them with the baseline.
#[derive(Parser)]
struct Arguments {
    /// Takes what is counted for the baseline.
    #[arg(long)]
    accept: bool,
    /// Does the work of one part, for callgrind to count.
    #[arg(long, hide = true)]
    part: Option<String>,
    /// What cargo tells every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = arguments.part {
        do_often(&name);
        return ExitCode::SUCCESS;
    }
    let counted = Baseline {
        made_by: made_by(),
        instructions: parts::all().iter().map(count).collect(),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/baseline.txt");
    if arguments.accept {
        std::fs::write(&file, counted.to_string()).expect("the sources can be written");
        print!("{counted}");
        return ExitCode::SUCCESS;
    }
    let before = std::fs::read_to_string(&file).expect("the sources have a baseline");
    let before = Baseline::parse(&before).expect("the baseline was written here");
    let compared = baseline::compare(&before, &counted, TOLERANCE);
    print!("{compared}");
    ExitCode::from(u8::from(compared.has_failed()))
}

fn do_often(name: &str) {
    let parts = parts::all();
    let part = parts.into_iter().find(|part| part.name == name);
    let mut part = part.expect("this program names its own parts");
    for _ in 0..WARM_UP {
        (part.work)();
    }
    for _ in 0..TIMES {
        measured(&mut part);
    }
}

/// What callgrind knows by name: it counts from here to the end of it.
#[inline(never)]
fn measured(part: &mut Part) {
    (part.work)();
}

/// Name and instructions of a part.
fn count(part: &Part) -> (String, u64) {
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("callgrind.out");
    let this = std::env::current_exe().expect("a running program has a file");
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--quiet"])
        .arg(format!("--toggle-collect={}::measured", module_path!()))
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(this)
        .args(["--part", part.name])
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {said}", part.name);
    let told = std::fs::read_to_string(&output).expect("callgrind has written it");
    let total = told
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|total| total.trim().parse::<u64>().ok())
        .expect("callgrind tells a total");
    assert!(total > TIMES, "{}: nothing was counted", part.name);
    (part.name.to_owned(), total / TIMES)
}

/// The compiler and its target: another one makes another program.
fn made_by() -> String {
    let compiler = Command::new("rustc").arg("--version").output();
    let compiler = compiler.expect("what built this is installed");
    let version = String::from_utf8_lossy(&compiler.stdout);
    format!("{} for {}", version.trim(), std::env::consts::ARCH)
}
