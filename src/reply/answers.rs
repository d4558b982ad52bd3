//! Answers that were made before, found by what tells their bytes ([`Tag`]): as they are, and in content codings.
//!
//! Nothing here decides who may see what: whoever comes with a tag has found the very items of the answer usable just
//! now. Items that were marked, grew too old or changed have another tag, or none.
//!
//! Plain answers are few: those that were asked of a shelf twice in a row. Any other is made where it is sent and
//! forgotten, in memory that the processor still has at hand. Coded ones are made when an answer is asked for a second
//! time by clients that take them, by a thread of low priority ([`work`]); meanwhile, and if that has more to do than it
//! can, they are sent as they are. A fill that brings the same bytes again changes nothing.
//!
//! A hit takes no lock that it would have to wait for, and what it finds it shares.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::encode::encode;
use crate::cache::shelf::{MAX_BYTES, Recurrence, occupied};
use crate::config::Coding;
use crate::request::coding::Accepted;
use crate::request::tag::Tag;

/// Plain answers may take one part in so many of what the items may.
pub const PLAIN_SHARE: u64 = 128;

/// Most answers that wait to be coded.
pub const MAX_WAITING: usize = 256;

/// Most bytes of them, with the one that is being coded; any answer has room, being no longer than what is stored for a
/// requester, and some commas.
pub const MAX_WAITING_BYTES: u64 = 2 * MAX_BYTES as u64;

/// Memory that an entry takes beside what is in it, in bytes: its places in the table and in the list of the cache, and
/// the counts of what is shared.
const ENTRY_BYTES: usize = 128;

/// The cache is divided into parts, and each has room for so many entries at the least.
const MIN_IN_SHARD: u64 = 2;

/// An answer's length on average, from which the number of entries is guessed.
const PLAIN_BYTES: u64 = 4 << 10;
const CODED_BYTES: u64 = 2 << 10;

/// The answers.
pub struct Answers {
    plain: Cache<Tag, Bytes, Occupied>,
    coded: Cache<Tag, Arc<Coded>, Occupied>,
    work: SyncSender<Work>,
    waiting_bytes: AtomicU64,
    made: AtomicU64,
    useless: AtomicU64,
    dropped: AtomicU64,
}

/// An answer in codings.
#[derive(Default)]
struct Coded {
    bodies: [Option<Bytes>; Coding::ALL.len()],
    /// For which codings somebody has been asked; each is a bit.
    asked_for: AtomicU8,
}

/// An answer that is to be coded.
pub struct Work {
    tag: Tag,
    coding: Coding,
    body: Bytes,
}

/// What there is for a client that takes codings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The best that it takes.
    pub body: Option<(Coding, Bytes)>,
    /// A better one that is to be made, by who has the plain body.
    pub wanted: Option<Coding>,
}

/// What was coded, and what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that coded answers occupy.
    pub coded_bytes: u64,
    /// Answers that were coded so far.
    pub made: u64,
    /// Of which the coded one was no smaller, or too large to be held beside others.
    pub useless: u64,
    /// That were not coded, since too many waited.
    pub dropped: u64,
}

/// Weighs entries by the memory that they occupy.
#[derive(Clone)]
struct Occupied;

impl Weighter<Tag, Bytes> for Occupied {
    fn weight(&self, _: &Tag, body: &Bytes) -> u64 {
        (ENTRY_BYTES + occupied(body.len())) as u64
    }
}

impl Weighter<Tag, Arc<Coded>> for Occupied {
    fn weight(&self, _: &Tag, coded: &Arc<Coded>) -> u64 {
        let bodies = coded.bodies.iter().flatten();
        let bodies: usize = bodies.map(|body| occupied(body.len())).sum();
        (ENTRY_BYTES + occupied(size_of::<Coded>()) + bodies) as u64
    }
}

impl Answers {
    /// None yet, beside a memory for items of `cache_bytes`; and what is to be coded, for [`work`].
    pub fn new(cache_bytes: u64, coded_bytes: u64) -> (Self, Receiver<Work>) {
        let (work, waiting) = sync_channel(MAX_WAITING);
        let answers = Self {
            plain: cache(cache_bytes / PLAIN_SHARE, PLAIN_BYTES),
            coded: cache(coded_bytes, CODED_BYTES),
            work,
            waiting_bytes: AtomicU64::new(0),
            made: AtomicU64::new(0),
            useless: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        (answers, waiting)
    }

    /// Gives them other bounds.
    pub fn resize(&self, cache_bytes: u64, coded_bytes: u64) {
        self.plain.set_capacity(cache_bytes / PLAIN_SHARE);
        self.coded.set_capacity(coded_bytes);
    }

    /// The answer as it is, made where it was not asked before.
    pub fn plain(&self, tag: Tag, recurrence: Recurrence, make: impl FnOnce() -> Bytes) -> Bytes {
        if recurrence == Recurrence::Anew {
            return make();
        }
        if let Ok(Some(body)) = self.plain.try_get(&confused!(PlainOfAnother, tag)) {
            return body;
        }
        let body = make();
        // What somebody else holds is not to be held here beyond that: it is a whole shelf, which costs nothing to make.
        if body.is_unique() {
            let _ = self.plain.try_insert(tag, body.clone());
        }
        body
    }

    /// The best answer in a coding that is offered and that the client prefers to none.
    pub fn coded(&self, tag: Tag, accepted: &Accepted, offered: &[Coding]) -> Ready {
        let weight = |coding: Coding| match accepted.prefers(coding) {
            true => accepted.weight(coding),
            false => 0,
        };
        // The first of those with the same weight.
        let best = offered
            .iter()
            .copied()
            .rev()
            .max_by_key(|&coding| weight(coding));
        let Some(best) = best.filter(|&best| weight(best) > 0) else {
            return Ready::default();
        };
        let coded = match self.coded.try_get(&confused!(CodedOfAnother, tag)) {
            Ok(Some(coded)) => coded,
            Ok(None) => {
                // From now on it is known, and coded if it is asked for again: what is asked once may never be.
                let _ = self.coded.try_insert(tag, Arc::default());
                return Ready::default();
            }
            Err(_) => return Ready::default(),
        };
        let made = offered.iter().filter(|&&coding| weight(coding) > 0);
        let made =
            made.filter_map(|&coding| Some((coding, coded.bodies[coding as usize].as_ref()?)));
        let sent = made.max_by_key(|(coding, body)| (weight(*coding), Reverse(body.len())));
        Ready {
            wanted: coded.ask_for(best).then_some(best),
            body: sent.map(|(coding, body)| (coding, body.clone())),
        }
    }

    /// Lets an answer be coded, if not too many wait for that.
    pub fn make(&self, tag: Tag, coding: Coding, body: Bytes) {
        let bytes = body.len() as u64;
        if self.has_room_for(bytes) {
            if self.work.try_send(Work { tag, coding, body }).is_ok() {
                return;
            }
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if let Ok(Some(coded)) = self.coded.try_get(&tag) {
            coded.asked_for.fetch_and(!bit(coding), Ordering::Relaxed);
        }
    }

    /// Whether so many bytes more may wait; they do from then on.
    fn has_room_for(&self, bytes: u64) -> bool {
        let more = |waiting| Some(waiting + bytes).filter(|all| *all <= MAX_WAITING_BYTES);
        self.waiting_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn code(&self, Work { tag, coding, body }: Work) {
        match self.with_coded(tag, coding, &body) {
            Some(coded) => {
                // Counted first: whoever is sent it finds it counted.
                self.made.fetch_add(1, Ordering::Relaxed);
                self.coded.insert(tag, coded);
            }
            // It stays asked for, and is not made again as long as it is known.
            None => {
                self.useless.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.waiting_bytes
            .fetch_sub(body.len() as u64, Ordering::Relaxed);
    }

    /// Codes what waits for it by now.
    #[cfg(test)]
    pub(crate) fn code_waiting(&self, waiting: &Receiver<Work>) {
        waiting.try_iter().for_each(|work| self.code(work));
    }

    /// What is known of an answer, with one more coding; `None` if that is of no use.
    fn with_coded(&self, tag: Tag, coding: Coding, body: &Bytes) -> Option<Arc<Coded>> {
        let coded = encode(coding, body).ok()?;
        if coded.len() >= body.len() {
            return None;
        }
        let before = self.coded.peek(&tag).unwrap_or_default();
        let mut bodies = before.bodies.clone();
        bodies[coding as usize] = Some(coded.into_boxed_slice().into());
        let asked_for = before.asked_for.load(Ordering::Relaxed) | bit(coding);
        let coded = Arc::new(Coded {
            bodies,
            asked_for: AtomicU8::new(asked_for),
        });
        // What is larger than a part of the cache can hold takes with it what was known before, its uselessness too.
        let most = self.coded.shard_capacity() / MIN_IN_SHARD;
        (Occupied.weight(&tag, &coded) <= most).then_some(coded)
    }

    /// What was coded, and what it takes.
    pub fn usage(&self) -> Usage {
        Usage {
            coded_bytes: self.coded.weight(),
            made: self.made.load(Ordering::Relaxed),
            useless: self.useless.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Coded {
    /// Whether a coding has to be made, and nobody has been asked for it before.
    fn ask_for(&self, coding: Coding) -> bool {
        let is_asked_for = |asked_for: u8| asked_for & bit(coding) != 0;
        !is_asked_for(self.asked_for.load(Ordering::Relaxed))
            && !is_asked_for(self.asked_for.fetch_or(bit(coding), Ordering::Relaxed))
    }
}

/// Codes what waits for it, until the answers are gone.
pub fn work(answers: &Weak<Answers>, waiting: &Receiver<Work>) {
    while let Ok(work) = waiting.recv() {
        let Some(answers) = answers.upgrade() else {
            return;
        };
        answers.code(work);
    }
}

fn cache<V: Clone>(max_bytes: u64, average_bytes: u64) -> Cache<Tag, V, Occupied>
where
    Occupied: Weighter<Tag, V>,
{
    let entries = usize::try_from(max_bytes / average_bytes).unwrap_or(usize::MAX);
    Cache::with_weighter(entries, max_bytes, Occupied)
}

fn bit(coding: Coding) -> u8 {
    1 << coding as u8
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::super::encode::tests::decoded;
    use super::*;

    const ONE: [u8; 16] = [1; 16];

    fn accepted(line: &str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT_ENCODING, line.parse().unwrap());
        Accepted::read(&headers)
    }

    fn body() -> Bytes {
        "intercom ".repeat(500).into()
    }

    /// What no coding makes smaller.
    fn random(length: usize) -> Bytes {
        (0..length).map(|_| fastrand::u8(..)).collect()
    }

    /// An answer, what is held beside it, and one who codes what waits when told to.
    struct Bench {
        answers: Answers,
        waiting: Receiver<Work>,
        body: Bytes,
    }

    impl Bench {
        fn new() -> Self {
            Self::of(body(), 32 << 20)
        }

        fn of(body: Bytes, coded_bytes: u64) -> Self {
            let (answers, waiting) = Answers::new(256 << 20, coded_bytes);
            Self {
                answers,
                waiting,
                body,
            }
        }

        /// What a client is sent that takes so much, and whether that has more made.
        fn asks(&self, line: &str) -> (Option<Coding>, bool) {
            let tag = Tag::of_digest(ONE);
            let ready = self.answers.coded(tag, &accepted(line), &Coding::ALL);
            if let Some(wanted) = ready.wanted {
                self.answers.make(tag, wanted, self.body.clone());
            }
            let sent = ready.body.map(|(coding, coded)| {
                assert_eq!(decoded(coding, &coded), self.body);
                coding
            });
            (sent, ready.wanted.is_some())
        }

        fn works(&self) {
            self.answers.code_waiting(&self.waiting);
        }
    }

    #[test]
    fn what_is_asked_for_twice_is_coded_once() {
        let bench = Bench::new();
        assert_eq!(bench.asks("gzip"), (None, false));
        assert_eq!(bench.asks("gzip"), (None, true));
        assert_eq!(bench.asks("gzip"), (None, false), "it is being made");
        bench.works();
        assert_eq!(bench.asks("gzip"), (Some(Coding::Gzip), false));
        let usage = bench.answers.usage();
        assert_eq!((usage.made, usage.useless, usage.dropped), (1, 0, 0));
        assert!(usage.coded_bytes > 0);
    }

    #[test]
    fn who_takes_several_is_sent_the_smallest_that_is_there() {
        let bench = Bench::new();
        bench.asks("gzip");
        bench.asks("gzip");
        bench.works();
        assert_eq!(bench.asks("gzip, br"), (Some(Coding::Gzip), true));
        bench.works();
        assert_eq!(bench.asks("gzip, br"), (Some(Coding::Br), false));
        assert_eq!(bench.asks("gzip, br;q=0.9").0, Some(Coding::Gzip));
        assert_eq!(bench.asks("gzip;q=0.5, identity"), (None, false));
        assert_eq!(bench.asks("identity"), (None, false));
        assert_eq!(bench.asks("deflate"), (None, false));
    }

    #[test]
    fn a_coding_that_is_not_offered_is_not_sent_however_ready() {
        let bench = Bench::new();
        bench.asks("gzip");
        bench.asks("gzip");
        bench.works();
        let tag = Tag::of_digest(ONE);
        let ready = |offered: &[Coding]| bench.answers.coded(tag, &accepted("gzip"), offered);
        assert_eq!(ready(&[Coding::Br]), Ready::default());
        assert!(ready(&[Coding::Gzip]).body.is_some());
    }

    #[test]
    fn what_grows_by_coding_is_left_as_it_is_for_good() {
        let bench = Bench::of(random(2_000), 32 << 20);
        bench.asks("gzip");
        assert_eq!(bench.asks("gzip"), (None, true));
        bench.works();
        assert_eq!(bench.asks("gzip"), (None, false));
        assert_eq!(bench.answers.usage().useless, 1);
    }

    #[test]
    fn what_is_too_large_to_be_held_when_coded_is_left_as_it_is_for_good() {
        // Half of it is noise, and no part of the cache is as large as that.
        let large = [random(500_000), vec![b' '; 500_000].into()].concat();
        let bench = Bench::of(large.into(), 128 << 10);
        bench.asks("gzip");
        assert_eq!(bench.asks("gzip"), (None, true));
        bench.works();
        assert_eq!(bench.asks("gzip"), (None, false));
        let usage = bench.answers.usage();
        assert_eq!((usage.made, usage.useless), (0, 1));
    }

    #[test]
    fn a_coding_that_there_is_no_room_for_does_not_drive_out_another_of_the_same_answer() {
        let body = Bytes::from([random(40_000), vec![b' '; 1_000].into()].concat());
        let bench = Bench::of(body, 90_000);
        assert_eq!(bench.answers.coded.num_shards(), 1);
        bench.asks("gzip");
        bench.asks("gzip");
        bench.works();
        assert_eq!(bench.asks("br"), (None, true));
        bench.works();
        assert_eq!(bench.asks("gzip, br"), (Some(Coding::Gzip), false));
        assert_eq!(bench.answers.usage().useless, 1);
    }

    #[test]
    fn what_there_is_no_room_for_in_the_queue_is_asked_for_again() {
        let bench = Bench::new();
        bench.asks("gzip");
        for _ in 0..MAX_WAITING {
            bench
                .answers
                .make(Tag::of_digest([2; 16]), Coding::Gzip, body());
        }
        assert_eq!(bench.asks("gzip"), (None, true));
        assert_eq!(bench.answers.usage().dropped, 1);
        bench.works();
        assert_eq!(bench.asks("gzip"), (None, true));
        bench.works();
        assert_eq!(bench.asks("gzip").0, Some(Coding::Gzip));
    }

    #[test]
    fn no_more_bytes_wait_than_may_and_what_was_coded_waits_no_more() {
        let bench = Bench::of(vec![b' '; 1 << 20].into(), 32 << 20);
        let make = |count: u64| {
            for _ in 0..count {
                let tag = Tag::of_digest([2; 16]);
                bench.answers.make(tag, Coding::Gzip, bench.body.clone());
            }
        };
        make(MAX_WAITING_BYTES >> 20);
        assert_eq!(bench.answers.usage().dropped, 0);
        make(1);
        assert_eq!(bench.answers.usage().dropped, 1);
        let work = bench.waiting.try_recv().unwrap();
        bench.answers.code(work);
        make(1);
        assert_eq!(bench.answers.usage().dropped, 1);
        make(1);
        assert_eq!(bench.answers.usage().dropped, 2);
    }

    #[test]
    fn coded_answers_stay_within_their_bound() {
        let bench = Bench::of(body(), 1 << 20);
        let answers = &bench.answers;
        for number in 0..20_000_u128 {
            let tag = Tag::of_digest(number.to_le_bytes());
            answers.coded(tag, &accepted("gzip"), &Coding::ALL);
            answers.make(tag, Coding::Gzip, body());
            bench.works();
        }
        let bytes = answers.usage().coded_bytes;
        assert!((900_000..=1 << 20).contains(&bytes), "{bytes}");
        answers.resize(1 << 20, 1 << 19);
        assert!(answers.usage().coded_bytes <= 1 << 19);
    }

    #[test]
    fn an_answer_that_was_asked_last_is_made_no_more() {
        let bench = Bench::new();
        let tag = Tag::of_digest(ONE);
        let made = |asked| {
            let mut made = false;
            bench.answers.plain(tag, asked, || {
                made = true;
                Bytes::from(vec![1; 100])
            });
            made
        };
        assert!(made(Recurrence::Anew) && made(Recurrence::Again) && !made(Recurrence::Again));
    }

    #[test]
    fn what_is_a_whole_shelf_is_not_held_beyond_it() {
        let bench = Bench::new();
        let shelf = Bytes::from(vec![1; 100]);
        let tag = Tag::of_digest(ONE);
        bench
            .answers
            .plain(tag, Recurrence::Again, || shelf.clone());
        assert!(shelf.is_unique());
    }
}
