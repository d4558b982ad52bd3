//! Schedules: what happens, in which order. They are drawn from a seed, and made shorter when one goes wrong.

use fastrand::Rng;

use super::history::{Asker, DEVICES, IDS, LANGUAGES, Scope, USERS};
use super::vms::Failure;

/// One thing that happens. Numbers that choose from what there is wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A phone asks.
    Ask(Ask),
    /// A client leaves.
    Leave(u8),
    /// The VMS makes an answer, which is still to be delivered.
    Process(u8),
    /// An answer arrives at the edge.
    Deliver(u8),
    /// A fetch goes wrong.
    Fail(u8, Failure),
    /// A user's write is done in the VMS: from now on an id is, or is no longer, the user's.
    Write { user: u8, id: u64, reach: Reach },
    /// The header of a write's answer arrives at the edge.
    Written(u8),
    /// An operator purges.
    Purge { scope: Scope, is_soft: bool },
    /// A token is no longer good, or good again.
    Revoke(u8),
    /// A request that passes through is answered 401 if the token is not good.
    PassThrough(u8),
    /// Time passes.
    Wait { seconds: u8 },
    /// Tasks get on by so many steps.
    Run(u8),
}

/// A phone asks for intercoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) asker: Asker,
    /// The ids whose bits are set.
    pub(super) ids: u8,
    pub(super) no_cache: bool,
    /// It holds what anybody was told of these ids, and says so.
    pub(super) holds: bool,
    pub(super) takes_gzip: bool,
}

/// What a write reaches, by the rules of the model's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The writer.
    User,
    /// The id, for everyone.
    Item,
    All,
}

/// How quiet a schedule is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Nothing fails and nothing is marked.
    Quiet,
    /// Anything.
    Wild,
}

/// What happens under a seed.
pub(super) fn drawn(seed: u64) -> Vec<Action> {
    let mut rng = Rng::with_seed(seed);
    let mood = match rng.u8(..4) {
        0 => Mood::Quiet,
        _ => Mood::Wild,
    };
    let count = rng.usize(6..40);
    let mut asked = None;
    (0..count)
        .map(|_| action(&mut rng, mood, &mut asked))
        .collect()
}

fn action(rng: &mut Rng, mood: Mood, asked: &mut Option<Ask>) -> Action {
    let kinds = match mood {
        Mood::Quiet => 60,
        Mood::Wild => 100,
    };
    match rng.u8(..kinds) {
        0..24 => Action::Ask(*asked.insert(ask(rng, *asked))),
        24..27 => Action::Leave(rng.u8(..)),
        27..34 => Action::Process(rng.u8(..)),
        34..48 => Action::Deliver(rng.u8(..)),
        48..53 => Action::Wait {
            seconds: *rng
                .choice(&[1, 1, 1, 2, 7, 13, 25, 50])
                .expect("there are some"),
        },
        53..60 => Action::Run(rng.u8(1..12)),
        60..68 => Action::Fail(rng.u8(..), failure(rng)),
        68..78 => Action::Write {
            user: rng.u8(..USERS),
            id: rng.u64(1..=IDS),
            reach: *rng
                .choice(&[Reach::User, Reach::Item, Reach::All])
                .expect("there are some"),
        },
        78..87 => Action::Written(rng.u8(..)),
        87..92 => Action::Purge {
            scope: scope(rng),
            is_soft: rng.bool(),
        },
        92..96 => Action::Revoke(rng.u8(..USERS)),
        _ => Action::PassThrough(rng.u8(..USERS)),
    }
}

/// Somebody asks for something, or for what was asked just before: by the same phone, in another language, on another phone,
/// or as another user.
fn ask(rng: &mut Rng, before: Option<Ask>) -> Ask {
    let drawn = Ask {
        asker: Asker {
            user: rng.u8(..USERS),
            // Seldom the second, so that one phone asks often enough.
            device: u8::from(rng.u8(..4) == 0) % DEVICES,
            language: u8::from(rng.u8(..4) == 0) % LANGUAGES,
        },
        ids: rng.u8(1..1 << IDS),
        no_cache: rng.u8(..16) == 0,
        holds: rng.u8(..4) == 0,
        takes_gzip: rng.u8(..4) == 0,
    };
    let Some(before) = before else { return drawn };
    let Asker {
        user,
        device,
        language,
    } = drawn.asker;
    let asker = match rng.u8(..8) {
        0..2 => before.asker,
        2 => Asker {
            language,
            ..before.asker
        },
        3 => Asker {
            device,
            ..before.asker
        },
        4 => Asker {
            user,
            ..before.asker
        },
        _ => return drawn,
    };
    Ask {
        asker,
        ids: before.ids,
        takes_gzip: before.takes_gzip,
        ..drawn
    }
}

fn failure(rng: &mut Rng) -> Failure {
    *rng.choice(&[
        Failure::Refused,
        Failure::TimedOut,
        Failure::Reset,
        Failure::Status(500),
        Failure::Status(503),
        Failure::Malformed,
        Failure::Panic,
    ])
    .expect("there are some")
}

fn scope(rng: &mut Rng) -> Scope {
    match rng.u8(..5) {
        0 | 1 => Scope::User(rng.u8(..USERS)),
        2 | 3 => Scope::Item(rng.u64(1..=IDS)),
        _ => Scope::All,
    }
}

/// The schedule without what it does not need in order to fail.
pub(super) fn shortened(
    mut schedule: Vec<Action>,
    fails: impl Fn(&[Action]) -> bool,
) -> Vec<Action> {
    loop {
        let shorter = (0..schedule.len()).rev().find_map(|left_out| {
            let mut shorter = schedule.clone();
            shorter.remove(left_out);
            fails(&shorter).then_some(shorter)
        });
        match shorter {
            Some(shorter) => schedule = shorter,
            None => return schedule,
        }
    }
}
