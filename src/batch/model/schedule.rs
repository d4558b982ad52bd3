//! Schedules: what happens, in which order. They are drawn from a seed, and made shorter when one goes wrong.

use std::fmt;

use fastrand::Rng;

use super::history::{DEVICES, IDS, Scope, USERS};
use super::phones::{Trait, Who};
use super::vms::Failure;

/// One thing that happens. Numbers that choose from what there is wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Somebody asks for some ids.
    Ask(Ask),
    /// What was asked before is asked again, by somebody else perhaps.
    Again { nth: u8, by: Option<Who> },
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
    /// The VMS's answers begin to depend on the zone.
    Vary,
    /// The edge gets another one of its configurations, or the same again.
    Reload(u8),
    /// All that is stored has to make room.
    Squeeze,
    /// What waits to be coded is coded.
    Code,
    /// Time passes.
    Wait { seconds: u8 },
    /// Tasks get on by so many steps.
    Run(u8),
}

/// An action, and what the tasks make of it.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) action: Action,
    /// Which of them get on afterwards, and how far. It belongs to this step alone, so that the others are the same
    /// without it.
    pub(super) seed: u64,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.action.fmt(f)
    }
}

/// What somebody asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) who: Who,
    /// Those whose bits are set.
    pub(super) ids: u8,
    pub(super) no_cache: bool,
    /// With the tags of all that this phone was told at this address before, whoever asked then.
    pub(super) holds: bool,
    pub(super) gzip: bool,
    /// So plainly that it is looked for before anything else, if it may be.
    pub(super) plainly: bool,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:#b}", self.who, self.ids)?;
        let manner = [
            (self.no_cache, "not from memory"),
            (self.holds, "with tags"),
            (self.gzip, "compressed"),
            (self.plainly, "plainly"),
        ];
        let mut manner = manner.iter().filter(|(is_so, _)| *is_so);
        manner.try_for_each(|(_, manner)| write!(f, ", {manner}"))
    }
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

/// Who may ask in a schedule: few, so that they meet.
struct Cast {
    users: u8,
    devices: u8,
    /// In what they may differ beside.
    traits: Vec<Trait>,
}

impl Cast {
    fn drawn(rng: &mut Rng) -> Self {
        if rng.bool() {
            return Self {
                users: USERS,
                devices: DEVICES,
                traits: Vec::new(),
            };
        }
        let of = |rng: &mut Rng| *rng.choice(&Trait::ALL).expect("there are some");
        Self {
            users: rng.u8(1..=2),
            devices: rng.u8(1..=2),
            traits: (0..rng.u8(1..=2)).map(|_| of(rng)).collect(),
        }
    }

    fn one(&self, rng: &mut Rng) -> Who {
        let who = Who::plain(rng.u8(..self.users), rng.u8(..self.devices));
        let traits = self.traits.iter();
        traits.fold(who, |who, of| who.with(*of, rng.u8(..of.kinds())))
    }

    /// Something that matters to just them.
    fn turn(&self, rng: &mut Rng) -> Action {
        match rng.choice(&self.traits) {
            Some(Trait::Zone) => Action::Vary,
            // An endpoint goes and comes, and something is marked meanwhile.
            Some(Trait::Path) => match rng.u8(..3) {
                0 => Action::Purge {
                    scope: Scope::Item(rng.u64(1..=IDS)),
                    is_soft: false,
                },
                1 => Action::Reload(0),
                _ => Action::Reload(2),
            },
            Some(_) => Action::Reload(rng.u8(..2)),
            None => Action::Squeeze,
        }
    }

    fn asks(&self, rng: &mut Rng) -> Ask {
        Ask {
            who: self.one(rng),
            ids: rng.u8(1..1 << IDS),
            no_cache: rng.u8(..16) == 0,
            holds: rng.u8(..4) == 0,
            gzip: rng.u8(..4) == 0,
            plainly: rng.bool(),
        }
    }
}

/// What happens under a seed.
pub(super) fn drawn(seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let mood = match rng.u8(..4) {
        0 => Mood::Quiet,
        _ => Mood::Wild,
    };
    let cast = Cast::drawn(&mut rng);
    let count = rng.usize(6..40);
    let steps = (0..count).map(|_| Step {
        action: action(&mut rng, mood, &cast),
        seed: rng.u64(..),
    });
    steps.collect()
}

fn action(rng: &mut Rng, mood: Mood, cast: &Cast) -> Action {
    let kinds = match mood {
        Mood::Quiet => 62,
        Mood::Wild => 102,
    };
    let turns = if cast.traits.is_empty() { 32 } else { 6 };
    if mood == Mood::Wild && rng.u8(..turns) == 0 {
        return cast.turn(rng);
    }
    match rng.u8(..kinds) {
        0..16 => Action::Ask(cast.asks(rng)),
        16..24 => Action::Again {
            nth: rng.u8(..),
            by: rng.bool().then(|| cast.one(rng)),
        },
        24..27 => Action::Leave(rng.u8(..)),
        27..34 => Action::Process(rng.u8(..)),
        34..48 => Action::Deliver(rng.u8(..)),
        48..53 => Action::Wait {
            seconds: *rng
                .choice(&[1, 1, 1, 2, 7, 13, 25, 50])
                .expect("there are some"),
        },
        53..60 => Action::Run(rng.u8(1..12)),
        60..62 => Action::Code,
        62..70 => Action::Fail(rng.u8(..), failure(rng)),
        70..80 => Action::Write {
            user: rng.u8(..USERS),
            id: rng.u64(1..=IDS),
            reach: *rng
                .choice(&[Reach::User, Reach::Item, Reach::All])
                .expect("there are some"),
        },
        80..89 => Action::Written(rng.u8(..)),
        89..94 => Action::Purge {
            scope: scope(rng),
            is_soft: rng.bool(),
        },
        94..98 => Action::Revoke(rng.u8(..USERS)),
        _ => Action::PassThrough(rng.u8(..USERS)),
    }
}

fn failure(rng: &mut Rng) -> Failure {
    *rng.choice(&[
        Failure::Refused,
        Failure::TimedOut,
        Failure::Reset,
        Failure::Status(403),
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
pub(super) fn shortened(mut schedule: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
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
