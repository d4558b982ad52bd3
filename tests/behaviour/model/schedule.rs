//! Schedules: what happens, in which order, and how much of it at once.

use proptest::prelude::*;
use vms_edge::demo::vms::Fault;

/// The intercoms that schedules are about; everyone owns the first three, and most own few of the others.
pub(super) const IDS: std::ops::RangeInclusive<u64> = 1..=6;

/// Longest schedule.
const MAX_STEPS: usize = 18;

/// One who asks and writes: one of two users with a token, a phone, a language, a client and a region.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Who {
    /// Which of the schedule's two users.
    pub(super) user: usize,
    /// The end of the token: to the edge, two tokens of one user are two users.
    pub(super) session: &'static str,
    pub(super) device: &'static str,
    pub(super) language: &'static str,
    pub(super) client: &'static str,
    /// Which the edge learns from the VMS's `Vary`.
    pub(super) region: &'static str,
}

const ANN: Who = Who {
    user: 0,
    session: "ios",
    device: "phone",
    language: "en",
    client: "ios",
    region: "east",
};

const BOB: Who = Who { user: 1, ..ANN };

/// All of them: each of a user's differs from the first in little.
pub(super) const EVERYONE: [Who; 8] = [
    ANN,
    Who {
        device: "tablet",
        ..ANN
    },
    Who {
        language: "kk",
        ..ANN
    },
    Who {
        session: "web",
        ..ANN
    },
    Who {
        client: "android",
        ..ANN
    },
    Who {
        region: "west",
        ..ANN
    },
    BOB,
    Who {
        device: "tablet",
        ..BOB
    },
];

impl std::fmt::Debug for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = ["ann", "bob"][self.user];
        let Self {
            session,
            device,
            language,
            client,
            region,
            ..
        } = self;
        write!(f, "{name}/{session}/{device}/{language}/{client}/{region}")
    }
}

/// Steps, one to a line when they are printed.
#[derive(Clone)]
pub(super) struct Schedule(pub(super) Vec<Step>);

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(steps) = self;
        steps.iter().try_for_each(|step| write!(f, "\n  {step:?}"))
    }
}

impl Schedule {
    /// How many batches go wrong in it at the most.
    pub(super) fn failures(&self) -> usize {
        let failures = |step: &Step| match step {
            Step::Fail(_, times) => *times,
            _ => 0,
        };
        self.0.iter().map(failures).sum()
    }
}

/// One step of a schedule.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Asks for some ids.
    Ask(Question, Pace),
    /// Asks the same again that was asked so many questions before.
    Again(usize, Pace),
    /// Writes, through the edge, by whom the writer's items, the item or everything is marked.
    Write(Who, Write),
    /// An operator purges something from the edge.
    Purge(Purge, Strength),
    /// Changes something at the VMS, of which the edge hears nothing.
    Change(Change),
    /// Lets so many seconds pass.
    Wait(u64),
    /// Closes the VMS's gate: batches that reach it from now on wait before they are answered.
    Hold,
    /// Opens the gate for those to come; who waits there already goes on waiting.
    Open,
    /// Lets all go.
    Release,
    /// The client who has waited longest hangs up.
    Leave,
    /// So many of the batches to come go wrong at the VMS.
    Fail(Trouble, usize),
    /// The edge gets another configuration, with the same windows.
    Reload(Reload),
}

/// What another configuration changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reload {
    /// Nothing.
    Nothing,
    /// The way to the VMS is built anew.
    Upstream,
    /// The memory is another one, which takes over what there was.
    Memory,
    /// Items are kept under other keys.
    Key,
    /// There is another endpoint before this one.
    Endpoints,
}

impl Reload {
    const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Upstream,
        Self::Memory,
        Self::Key,
        Self::Endpoints,
    ];
}

/// A batch.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) who: Who,
    pub(super) ids: Vec<u64>,
    pub(super) in_body: bool,
    pub(super) no_cache: bool,
}

/// When the step after a question comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Once it is answered, or waits for what is held.
    Settled,
    /// At once.
    Races,
    /// Once its fetch waits at the VMS, whose gate is open again for those to come.
    Held,
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    /// A new title; marks the writer.
    Title(u64),
    /// A new timetable of this device; marks the writer.
    Timetable(u64),
    /// A new title again, but it marks the item for everyone.
    TitleForAll(u64),
    /// Puts it among the favourites, or takes it away from them; marks everything.
    Favourite(u64, bool),
    /// Gives it up; marks the writer.
    Delete(u64),
    /// Ends the token; marks the writer.
    Logout,
}

#[derive(Clone, Debug)]
pub(super) enum Purge {
    Items(Vec<u64>),
    User(Who),
    Everything,
}

/// What a mark does to what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    /// It is not answered any more.
    Hard,
    /// It is stale at best.
    Soft,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Rename(u64),
    TakeAway(usize, u64),
    GiveBack(usize, u64),
    Revoke(Who),
}

/// Whether the VMS ever fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Vms {
    Well,
    Failing,
}

/// How the VMS fails or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Status(u16),
    CutBody,
    Closes,
    NoStore,
}

impl Trouble {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Status(status) => Fault::Status(status),
            Self::CutBody => Fault::CutBody,
            Self::Closes => Fault::CloseBeforeAnswer,
            Self::NoStore => Fault::NoStore,
        }
    }

    /// Whether something stale is better than what comes of it.
    pub(super) fn is_failure(self) -> bool {
        matches!(self, Self::Status(500..) | Self::CutBody | Self::Closes)
    }

    /// Whether a client may be told `status` because of it.
    pub(super) fn excuses(self, status: u16) -> bool {
        self == Self::Status(status) || (self.is_failure() && matches!(status, 502..=504))
    }
}

fn someone() -> impl Strategy<Value = Who> {
    let [ann, tablet, others @ ..] = EVERYONE;
    prop_oneof![
        4 => Just(ann),
        2 => Just(tablet),
        3 => proptest::sample::select(others.to_vec()),
    ]
}

/// Few of them often, so that what was asked for is asked for again.
fn intercom() -> impl Strategy<Value = u64> {
    prop_oneof![1 => IDS, 2 => 1..=2u64]
}

fn question() -> impl Strategy<Value = Question> {
    let ids = proptest::collection::vec(intercom(), 1..=3);
    let rarely = || proptest::bool::weighted(0.1);
    (someone(), ids, rarely(), rarely()).prop_map(|(who, ids, in_body, no_cache)| Question {
        who,
        ids,
        in_body,
        no_cache,
    })
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![
        5 => Just(Pace::Settled),
        3 => Just(Pace::Races),
        2 => Just(Pace::Held),
    ]
}

fn write() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        4 => intercom().prop_map(Write::Title),
        2 => intercom().prop_map(Write::Timetable),
        2 => intercom().prop_map(Write::TitleForAll),
        1 => (intercom(), any::<bool>()).prop_map(|(id, on)| Write::Favourite(id, on)),
        1 => intercom().prop_map(Write::Delete),
        1 => Just(Write::Logout),
    ];
    (someone(), what).prop_map(|(who, what)| Step::Write(who, what))
}

fn purge() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        2 => proptest::collection::vec(intercom(), 1..=2).prop_map(Purge::Items),
        2 => someone().prop_map(Purge::User),
        1 => Just(Purge::Everything),
    ];
    let strength = prop_oneof![2 => Just(Strength::Hard), 1 => Just(Strength::Soft)];
    (what, strength).prop_map(|(what, strength)| Step::Purge(what, strength))
}

fn change() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        4 => intercom().prop_map(Change::Rename),
        1 => (0..2usize, intercom()).prop_map(|(user, id)| Change::TakeAway(user, id)),
        1 => (0..2usize, intercom()).prop_map(|(user, id)| Change::GiveBack(user, id)),
        2 => someone().prop_map(Change::Revoke),
    ];
    change.prop_map(Step::Change)
}

fn fail() -> impl Strategy<Value = Step> {
    let status = proptest::sample::select(&[500, 503, 503, 401, 403, 429][..]);
    let trouble = prop_oneof![
        4 => status.prop_map(Trouble::Status),
        1 => Just(Trouble::CutBody),
        1 => Just(Trouble::Closes),
        1 => Just(Trouble::NoStore),
    ];
    (trouble, 1..=3usize).prop_map(|(trouble, times)| Step::Fail(trouble, times))
}

/// Any schedule; the VMS fails in none of them, or may in all.
pub(super) fn schedules(vms: Vms) -> impl Strategy<Value = Schedule> {
    let step = match vms {
        Vms::Well => step().boxed(),
        Vms::Failing => prop_oneof![7 => step(), 1 => fail()].boxed(),
    };
    proptest::collection::vec(step, 2..=MAX_STEPS).prop_map(Schedule)
}

fn step() -> impl Strategy<Value = Step> {
    let wait = proptest::sample::select(&[1, 12, 25, 32, 70, 280, 340][..]);
    prop_oneof![
        14 => (question(), pace()).prop_map(|(question, pace)| Step::Ask(question, pace)),
        8 => (0..2usize, pace()).prop_map(|(back, pace)| Step::Again(back, pace)),
        5 => write(),
        5 => purge(),
        5 => change(),
        5 => wait.prop_map(Step::Wait),
        2 => Just(Step::Hold),
        1 => Just(Step::Open),
        4 => Just(Step::Release),
        1 => Just(Step::Leave),
        3 => proptest::sample::select(&Reload::ALL[..]).prop_map(Step::Reload),
    ]
}
