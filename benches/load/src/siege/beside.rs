//! How long somebody who does nothing wrong waits beside those who do, and what each of them costs.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vms_edge::demo::vms::{Fault, Times};

use super::neighbour::Neighbour;
use super::{CONFIGURATION, Siege};
use crate::figure::{Figure, Unit, float};
use crate::generator::answer::Coding;
use crate::generator::tally::Tally;
use crate::hostile::{Attack, Harm, Victim};
use crate::machine::CoreTime;
use crate::priority::kept_waiting;
use crate::rows::questions::{Prepared, batches};
use crate::rows::rounds::failures;
use crate::rows::{Fault as Impossible, Goal, Measured, Row};
use crate::servers::{Door, Server, edge};

const GOAL: Goal = Goal::Most(2.0);

const SAYS: &str = "16 phones ask for batches of 10 items from memory, each some 50 times a second, two of them on a new \
     connection each time. The p99 of what they wait, \
     the attack under way, against the p99 before it, at one core of the edge's; attackers and the VMS have the generator's \
     core at the lowest priority.";

/// An attack, the row it fills, and how many attack.
pub(super) struct Besieged {
    pub(super) row: Row,
    pub(super) attack: Attack,
    pub(super) clients: usize,
    /// What the edge's configuration has beside that of the siege.
    limits: &'static str,
}

/// The recommended limit of how often an address may connect.
const PACE: &str = "\n[limits]\naddress_connection_rate = 200\n";

/// The same with [`PACE`].
const fn paced(name: &'static str, what: &'static str, attack: Attack, clients: usize) -> Besieged {
    Besieged {
        limits: PACE,
        ..besieged(name, what, attack, clients)
    }
}

const fn besieged(
    name: &'static str,
    what: &'static str,
    attack: Attack,
    clients: usize,
) -> Besieged {
    let row = Row {
        name,
        what,
        goal: GOAL,
        says: SAYS,
    };
    Besieged {
        row,
        attack,
        clients,
        limits: "",
    }
}

pub(super) static ALL: [Besieged; 13] = [
    besieged(
        "idle",
        "p99 of a hit beside 10,000 idle connections, against undisturbed",
        Attack::Idle,
        10_000,
    ),
    besieged(
        "slow-headers",
        "the same beside 1,000 clients whose headers drip",
        Attack::SlowHeaders,
        1_000,
    ),
    besieged(
        "slow-bodies",
        "the same beside 1,000 clients whose bodies drip",
        Attack::SlowBodies,
        1_000,
    ),
    besieged(
        "slow-readers",
        "the same beside 500 clients who hardly read",
        Attack::SlowReaders,
        500,
    ),
    besieged(
        "stalled-streams",
        "the same beside 100 clients with 100 streams of HTTP/2 each that may not be answered",
        Attack::StalledStreams,
        100,
    ),
    besieged(
        "rapid-resets",
        "the same beside rapid resets over HTTP/2",
        Attack::RapidResets,
        4,
    ),
    besieged(
        "empty-frames",
        "the same beside floods of empty DATA over HTTP/2",
        Attack::EmptyFrames,
        4,
    ),
    besieged(
        "handshakes",
        "the same beside handshakes of TLS that lead to nothing",
        Attack::Handshakes,
        4,
    ),
    paced(
        "paced-resets",
        "beside rapid resets, where an address may connect 200 times a second",
        Attack::RapidResets,
        4,
    ),
    paced(
        "paced-frames",
        "beside floods of empty DATA, where an address may connect 200 times a second",
        Attack::EmptyFrames,
        4,
    ),
    paced(
        "paced-handshakes",
        "beside handshakes of TLS, where an address may connect 200 times a second",
        Attack::Handshakes,
        4,
    ),
    besieged(
        "garbage",
        "the same beside what is no request",
        Attack::Garbage,
        100,
    ),
    besieged(
        "endless",
        "the same beside a VMS whose answers to others never end",
        Attack::EndlessAnswers,
        20,
    ),
];

/// Where the neighbour is at home; attackers are elsewhere.
const NEIGHBOURHOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// How long attackers may take to be there.
const GATHERING: Duration = Duration::from_secs(120);

/// What passes until an attack is what it will be.
const BEGINNING: Duration = Duration::from_millis(500);

/// A stage, set: an edge that remembers what its neighbour asks for.
pub(super) struct Stage {
    pub(super) edge: Server,
    pub(super) neighbour: Neighbour,
    pub(super) victim: Victim,
    vms: crate::bench::Vms,
}

impl Stage {
    /// The edge has the configuration of the siege, and `limits` beside.
    pub(super) async fn set(siege: &Siege, limits: &str) -> Result<Self, Impossible> {
        let bench = &siege.bench;
        let vms = bench.vms()?;
        let configuration = format!("{CONFIGURATION}{limits}");
        let edge = edge::start_as(bench, vms.address(), &configuration, 1)?;
        let questions = batches(&vms.stand_in, 10);
        let prepared: Vec<Prepared> = questions
            .iter()
            .map(|question| question.prepared(Coding::Identity))
            .collect();
        let victim = Victim {
            plain: edge.door(Door::Cache),
            http2: bench.authority().http2(edge.door(Door::Tls)),
            request: prepared[0].request.as_slice().into(),
        };
        let door = edge.door(Door::Cache).coming_from(NEIGHBOURHOOD);
        let mut neighbour = Neighbour::new(&door, prepared);
        let met = neighbour.meets().await;
        met.map_err(|why| Impossible::Vms(std::io::Error::other(why)))?;
        Ok(Self {
            edge,
            neighbour,
            victim,
            vms,
        })
    }
}

/// What somebody waited, in each round.
#[derive(Default)]
pub(super) struct Waited {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    tally: Tally,
}

impl Waited {
    /// As many rounds as are made.
    pub(super) async fn by(siege: &Siege, neighbour: &mut Neighbour) -> Self {
        let bench = &siege.bench;
        let mut waited = Self::default();
        for round in 0..bench.effort().rounds {
            let tally = neighbour.asks(bench.round(), round as u64).await;
            waited.p50_us.push(tally.percentile_us(0.5));
            waited.p99_us.push(tally.percentile_us(0.99));
            waited.tally.merge(&tally);
        }
        waited
    }

    pub(super) fn failures(&self, when: &str) -> Vec<String> {
        failures(when, &self.tally)
    }

    pub(super) fn figures(self, when: &str) -> [Figure; 2] {
        [("p50", self.p50_us), ("p99", self.p99_us)].map(|(of, rounds)| {
            Figure::median_of(format!("{of} {when}"), rounds, Unit::Microseconds)
        })
    }
}

/// What was spent of the cores so far.
struct Clocks {
    at: Instant,
    cpu: Duration,
    edge_waited: Duration,
    phones_waited: Duration,
    cores: CoreTime,
}

/// What was spent of the cores in some time, in percent of it.
struct Spent {
    cpu: f64,
    edge_waited: f64,
    phones_waited: f64,
    stolen: f64,
}

impl Clocks {
    fn now(edge: &Server) -> Self {
        Self {
            at: Instant::now(),
            cpu: edge.cpu(),
            edge_waited: edge.kept_waiting(),
            phones_waited: kept_waiting(),
            cores: CoreTime::now(),
        }
    }

    fn since(&self, before: &Self) -> Spent {
        let passed = self.at - before.at;
        // A thread that ends takes its times with it.
        let share = |now: Duration, before: Duration| {
            now.saturating_sub(before).as_secs_f64() / passed.as_secs_f64() * 100.0
        };
        Spent {
            cpu: share(self.cpu, before.cpu),
            edge_waited: share(self.edge_waited, before.edge_waited),
            phones_waited: share(self.phones_waited, before.phones_waited),
            stolen: self.cores.stolen_since(before.cores),
        }
    }
}

pub(super) async fn measure(siege: &Siege, besieged: &Besieged) -> Result<Measured, Impossible> {
    let Besieged {
        attack,
        clients,
        limits,
        ..
    } = *besieged;
    let clients = siege.bench.of(clients.div_ceil(10), clients);
    let mut stage = Stage::set(siege, limits).await?;
    let bench = &siege.bench;
    bench.tells(&format!("undisturbed, before {}", attack.name()));
    let clocks = Clocks::now(&stage.edge);
    let quiet = Waited::by(siege, &mut stage.neighbour).await;
    let undisturbed = Clocks::now(&stage.edge).since(&clocks);
    if attack == Attack::EndlessAnswers {
        // What is answered from memory stays so.
        stage.vms.stand_in.fault(Fault::Endless, Times::Always);
    }
    let before = stage.edge.occupied_bytes();
    bench.tells(&format!("beside {clients} × {}", attack.name()));
    let harm = Arc::new(Harm::default());
    let attacking = siege.attacks(attack, &stage.victim, clients, &harm);
    let mut measured = Measured::default();
    let gathered = gathers(attack, clients, &harm).await;
    let clocks = Clocks::now(&stage.edge);
    let disturbed = Waited::by(siege, &mut stage.neighbour).await;
    let beside = Clocks::now(&stage.edge).since(&clocks);
    let open = harm.open.load(Ordering::Relaxed);
    let grown = stage.edge.occupied_bytes().saturating_sub(before);
    attacking.abort();
    if let Err(why) = gathered {
        measured.failures.push(why);
    }
    let believed = harm.believed.load(Ordering::Relaxed);
    if believed > 0 {
        let why = format!("{believed} times what is no request was answered");
        measured.failures.push(why);
    }
    measured.failures.extend(quiet.failures("undisturbed"));
    measured.failures.extend(disturbed.failures("beside"));
    let (quiet, disturbed) = (quiet.figures("undisturbed"), disturbed.figures("beside"));
    measured.value = disturbed[1].value / quiet[1].value;
    measured.figures.extend(quiet);
    measured.figures.extend(disturbed);
    let made = harm.made.load(Ordering::Relaxed);
    for (of, value, unit) in [
        ("connections open", float(open), Unit::Count),
        ("connections made", float(made), Unit::Count),
        ("memory grown by", float(grown) / 1e6, Unit::MegaBytes),
        (
            "memory each",
            float(grown) / float(open.max(1)) / 1024.0,
            Unit::Kib,
        ),
        ("CPU of the edge", beside.cpu, Unit::Percent),
        (
            "the edge kept from its core",
            beside.edge_waited,
            Unit::Percent,
        ),
        (
            "the phones kept from theirs",
            beside.phones_waited,
            Unit::Percent,
        ),
        (
            "taken by the host undisturbed",
            undisturbed.stolen,
            Unit::Percent,
        ),
        ("taken by the host beside", beside.stolen, Unit::Percent),
    ] {
        measured.figures.push(Figure::once(of, value, unit));
    }
    Ok(measured)
}

/// Waits until the attackers are there; those who are closed again and again are never all open at once.
async fn gathers(attack: Attack, clients: usize, harm: &Harm) -> Result<(), String> {
    let wanted = clients as u64;
    let until = Instant::now() + GATHERING;
    let has_come = || match attack {
        Attack::Idle => harm.open.load(Ordering::Relaxed) >= wanted,
        _ => harm.made.load(Ordering::Relaxed) >= wanted,
    };
    while !has_come() {
        if Instant::now() > until {
            let open = harm.open.load(Ordering::Relaxed);
            return Err(format!("only {open} of {clients} attackers came"));
        }
        sleep(Duration::from_millis(50)).await;
    }
    sleep(BEGINNING).await;
    Ok(())
}
