//! The soak: everything at once, for as long as one likes, and whether the edge is at its end what it was at its start.
//!
//! People with [`phone`]s ask and write, strangers pass by so that the cache is always full, an [`operator`] purges and
//! reloads, [`trouble`] befalls the VMS, and hostile clients attack. Each answer is held against what the VMS would have
//! shown. At the end, when everybody has gone, the edge must not have grown, and must hold nothing any more.

mod news;
mod operator;
#[path = "../../drill/outage.rs"]
mod outage;
mod phone;
mod sample;
mod tally;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use vms_edge::config;

use self::news::News;
use self::operator::Operator;
use self::outage::Vms;
use self::phone::{Phone, Place};
use self::sample::{HEAD, Occupied, Rounds, Sample, halves};
use self::tally::{Counted, Numbers};
use crate::asking::{SHOWS, Widget};
use crate::bench::{Bench, Effort};
use crate::failure::{Failure, Status};
use crate::figure::float;
use crate::hostile::{Harm, Victim};
use crate::interrupt::Interrupt;
use crate::servers::{Door, Server, edge};

/// How the soak is made.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long it takes, without the time to settle at the end.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = config::duration)]
    lasting: Duration,
    /// People with phones.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    people: u64,
    /// What all of them do in a second; most of it is to ask for two batches at once.
    #[arg(long, value_name = "PER SECOND", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Strangers in a second, each of whom asks once.
    #[arg(long, value_name = "PER SECOND", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    strangers: u32,
    /// The program to soak; left out: the one beside this.
    #[arg(long, value_name = "FILE")]
    pub(crate) edge: Option<PathBuf>,
    /// Where soak.json is written.
    #[arg(long, value_name = "FOLDER", default_value = "target/soak")]
    out: PathBuf,
}

const CONFIGURATION: &str = include_str!("soak/edge.toml");

/// Threads of the edge.
const THREADS: usize = 2;

/// The first user that follows from the stand-in's rules alone.
const FIRST_USER: u64 = 3;

/// Users are numbered up to here; strangers begin anew after it.
const LAST_USER: u64 = 1_000_000;

/// Lines of the table, and samples of the summary for each of them.
const LINES: u32 = 30;
const SAMPLES_A_LINE: u32 = 4;

/// Samples are no nearer to each other.
const SAMPLES: Duration = Duration::from_secs(1);

/// The time after which everything is in memory that will be: a quarter of it all, but no less than the second, unless that
/// is more than half.
const WARM_UP: u32 = 4;
const SHORTEST_WARM_UP: Duration = Duration::from_secs(120);

/// What resident memory may grow by after that: allocators and the kernel do not give back all at once.
const GROWTH: f64 = 0.05;
const GROWTH_BYTES: u64 = 4 << 20;

/// How long after everybody has gone the edge may hold what it had of them: an unused connection to the VMS is kept for a
/// minute, and a client who is slow has his deadline.
const SETTLING: Duration = Duration::from_secs(90);

impl Arguments {
    /// One round, which is the whole.
    pub(crate) fn effort(&self) -> Effort {
        Effort {
            quick: false,
            rounds: 1,
            round_seconds: self.lasting.as_secs_f64(),
        }
    }
}

/// What came of it.
#[derive(Serialize)]
struct Summary {
    seconds: u64,
    /// Whether somebody ended it before its time.
    interrupted: bool,
    /// Before anybody asked.
    start: Occupied,
    /// After everybody had gone.
    end: Occupied,
    /// How long that took to be so.
    settled_seconds: f64,
    /// Resident memory in the first and the second half of what comes after the warm-up, at the median.
    resident_bytes: Option<[u64; 2]>,
    p50_us: f64,
    p99_us: f64,
    numbers: Numbers,
    rounds: Rounds,
    /// What is not as it should be.
    failures: Vec<String>,
    samples: Vec<Sample>,
}

/// Makes the soak, prints it, and tells whether all is well.
pub(crate) async fn run(
    arguments: &Arguments,
    bench: &Bench,
    interrupt: &mut Interrupt,
) -> Result<Status, Failure> {
    let unavailable = |error: &dyn std::fmt::Display| Failure::Unavailable(error.to_string());
    let mut vms = Vms::start().await;
    vms.stand_in().name_viewers();
    let edge = edge::start_as(bench, vms.address(), CONFIGURATION, THREADS);
    let edge = edge.map_err(|error| unavailable(&error))?;
    let summary = soaks(arguments, bench, &edge, &mut vms, interrupt).await;
    let summary = summary.map_err(|why| unavailable(&why))?;
    summary.print();
    std::fs::create_dir_all(&arguments.out).map_err(Failure::Report)?;
    let json =
        serde_json::to_string_pretty(&summary).map_err(|error| Failure::Report(error.into()))?;
    std::fs::write(arguments.out.join("soak.json"), json).map_err(Failure::Report)?;
    println!("\nWritten to {}/soak.json.", arguments.out.display());
    Ok(match (summary.interrupted, summary.failures.as_slice()) {
        (true, _) => Status::Interrupted,
        (false, []) => Status::AllWell,
        (false, _) => Status::NotReached,
    })
}

async fn soaks(
    arguments: &Arguments,
    bench: &Bench,
    edge: &Server,
    vms: &mut Vms,
    interrupt: &mut Interrupt,
) -> Result<Summary, String> {
    let admin = edge.door(Door::Admin);
    let place = Arc::new(Place {
        plain: edge.door(Door::Cache),
        http2: bench.authority().http2(edge.door(Door::Tls)),
        vms: vms.stand_in().clone(),
        news: News::default(),
        counted: Counted::default(),
    });
    let users = FIRST_USER..FIRST_USER + arguments.people;
    // What a first connection makes is there for good.
    Phone::new(&place, users.start).passes_by().await;
    let start = settles(&admin, None, &mut Vec::new()).await?;
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut interrupted = false;
    {
        let mut everybody = JoinSet::new();
        let each = f64::from(arguments.rate) / float(arguments.people);
        for user in users.clone() {
            everybody.spawn(Phone::new(&place, user).lives(each));
        }
        everybody.spawn(strangers(
            Arc::clone(&place),
            users.end,
            arguments.strangers,
        ));
        let operator = Operator::new(&place, admin.clone()).works(edge, users);
        let (victim, harm) = (victim(&place), Arc::new(Harm::default()));
        tokio::select! {
            () = operator => {}
            () = trouble::befalls(&place, vms) => {}
            () = trouble::besieges(&place, &victim, &harm) => {}
            () = watches(arguments.lasting, began, &admin, &place, &mut samples) => {}
            // What was counted by then is told.
            () = interrupt.came() => interrupted = true,
        }
        everybody.shutdown().await;
    }
    let seconds = began.elapsed().as_secs();
    // The VMS's end of connections that nobody uses is closed as well.
    vms.die().await;
    let gone = Instant::now();
    let mut failures = Vec::new();
    let end = settles(&admin, Some(&start), &mut failures).await?;
    let lasting = arguments.lasting;
    let warm_up = (lasting / WARM_UP).max(SHORTEST_WARM_UP).min(lasting / 2);
    let is_cold = |sample: &Sample| sample.seconds < warm_up.as_secs();
    let warm = samples.partition_point(is_cold);
    let resident_bytes = halves(&samples[warm..]);
    let numbers = place.counted.numbers();
    failures.extend(place.counted.words());
    let rounds = Rounds::by(&admin).await?;
    failures.extend(judges(resident_bytes, &numbers, rounds));
    let panics = edge.output().matches("panicked").count();
    if panics > 0 {
        failures.push(format!("the edge panicked {panics} times"));
    }
    let [p50_us, p99_us] = place.counted.percentiles_us();
    Ok(Summary {
        seconds,
        interrupted,
        start,
        end,
        settled_seconds: gone.elapsed().as_secs_f64(),
        resident_bytes,
        p50_us,
        p99_us,
        numbers,
        rounds,
        failures,
        samples,
    })
}

/// What is wrong with what was counted.
fn judges(resident_bytes: Option<[u64; 2]>, numbers: &Numbers, rounds: Rounds) -> Vec<String> {
    let mut failures = Vec::new();
    match resident_bytes {
        None => failures.push("it was too short to tell whether memory is flat".to_owned()),
        Some([first, last]) => {
            let grown = float(last) > float(first) * (1.0 + GROWTH) && last > first + GROWTH_BYTES;
            if grown {
                failures.push(format!("resident memory grew from {first} to {last} bytes"));
            }
        }
    }
    for (what, count) in [("failed", numbers.failed), ("wrong", numbers.wrong)] {
        if count > 0 {
            failures.push(format!("{count} answers {what}"));
        }
    }
    if numbers.batches == 0 {
        failures.push("no batch was answered".to_owned());
    }
    if rounds.leaks > 0 {
        let leaks = rounds.leaks;
        failures.push(format!(
            "a test user was shown another's items {leaks} times"
        ));
    }
    // Now and then the VMS is well.
    if rounds.ok == 0 {
        failures.push("no round of the test users showed what the VMS shows".to_owned());
    }
    failures
}

/// Waits until the edge holds no more than it did at the `start`, or as long as that may take. Without a `start`: until
/// nobody is connected.
async fn settles(
    admin: &crate::generator::connection::Destination,
    start: Option<&Occupied>,
    failures: &mut Vec<String>,
) -> Result<Occupied, String> {
    let none = Occupied {
        descriptors: u64::MAX,
        threads: u64::MAX,
        tasks: u64::MAX,
        ..Occupied::default()
    };
    let until = Instant::now() + SETTLING;
    loop {
        let now = Occupied::by(admin).await?;
        match now.more_than(start.unwrap_or(&none)) {
            None => return Ok(now),
            Some(more) if Instant::now() > until => {
                failures.push(format!("after everybody had gone there are {more}"));
                return Ok(now);
            }
            Some(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Samples and prints, until the time is over.
async fn watches(
    lasting: Duration,
    began: Instant,
    admin: &crate::generator::connection::Destination,
    place: &Place,
    samples: &mut Vec<Sample>,
) {
    println!("{HEAD}");
    let step = (lasting / (LINES * SAMPLES_A_LINE)).max(SAMPLES);
    let mut ticks = interval(step);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 0_u32.. {
        ticks.tick().await;
        match Occupied::by(admin).await {
            Ok(occupied) => samples.push(Sample {
                seconds: began.elapsed().as_secs(),
                occupied,
                numbers: place.counted.numbers(),
            }),
            Err(why) => place.counted.failed(Instant::now(), || why),
        }
        if tick.is_multiple_of(SAMPLES_A_LINE)
            && let Some(sample) = samples.last()
        {
            println!("{sample}");
        }
        if began.elapsed() >= lasting {
            return;
        }
    }
}

/// Somebody new asks, so many times a second, so that the edge has to forget.
async fn strangers(place: Arc<Place>, first: u64, per_second: u32) {
    let mut asking = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for user in (first..=LAST_USER).cycle() {
        ticks.tick().await;
        asking.spawn(Phone::new(&place, user).passes_by());
        while asking.try_join_next().is_some() {}
    }
}

/// Whom hostile clients are after; they have a token of their own, of a user whom nobody else has.
fn victim(place: &Place) -> Victim {
    let widget = Widget {
        host: "vms.local",
        token: "tok-999999-x",
        device: "phone",
        client: "ios",
        more: "",
    };
    let mut request = Vec::new();
    let intercoms = place.vms.owned(999_999);
    widget.asks(SHOWS, &intercoms[..25], &mut request);
    Victim {
        plain: place.plain.clone(),
        http2: place.http2.clone(),
        request: request.into(),
    }
}

impl Summary {
    fn print(&self) {
        let Numbers {
            batches,
            others,
            writes,
            left,
            orders,
            troubles,
            hostile,
            excused,
            failed,
            wrong,
        } = self.numbers;
        println!(
            "\n{batches} batches and {others} other requests answered and held against the VMS in {} s: {wrong} wrong, \
             {failed} failed, {excused} failed while the VMS did.\n{writes} writes, {left} clients who left, {orders} \
             purges and reloads, {troubles} troubles of the VMS, {hostile} hostile connections.\np50 {:.1} ms, p99 {:.1} \
             ms, attacks and troubles included.",
            self.seconds,
            self.p50_us / 1e3,
            self.p99_us / 1e3,
        );
        if let Some([first, last]) = self.resident_bytes {
            println!(
                "Resident memory {} KiB in the first half after the warm-up, {} KiB in the second.",
                first >> 10,
                last >> 10
            );
        }
        let Rounds { ok, leaks } = self.rounds;
        println!(
            "{ok} rounds of the test users showed just what the VMS shows, {leaks} what is another's."
        );
        let (start, end) = (&self.start, &self.end);
        println!(
            "Descriptors {} at the start, {} at the end, threads {} and {}, tasks {} and {}; {:.1} s to settle.",
            start.descriptors,
            end.descriptors,
            start.threads,
            end.threads,
            start.tasks,
            end.tasks,
            self.settled_seconds,
        );
        for failure in &self.failures {
            println!("FAIL {failure}");
        }
        if self.failures.is_empty() {
            println!("All is well.");
        }
    }
}
