//! "Memory bounded by `cache.max_bytes`, weighed by what an entry really occupies."
//!
//! The store is filled as fills do it, and what it says it occupies is held against what the allocator gave out. Each
//! test looks at the allocations of its own thread alone, on which all of a store's work is done.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use pingora_http::{RequestHeader, ResponseHeader, header_value_from_raw};
use tikv_jemalloc_ctl::thread::{allocatedp, deallocatedp};
use vms_edge::cache::clock::{Clock, Hand};
use vms_edge::cache::freshness::Jitter;
use vms_edge::cache::header::{Headers, StoredHeader};
use vms_edge::cache::shelf::{Fetch, FetchKind, Fill, MAX_SLOTS, Shelf};
use vms_edge::cache::store::{Store, Usage};
use vms_edge::config::{Config, Rate, Rates};
use vms_edge::edge::rate::RateLimits;
use vms_edge::listen::buckets::{Limit, MAX_REMEMBERED};
use vms_edge::request::key::{Key, KeyMaker};
use vms_edge::request::peer::Peer;
use vms_edge::request::{Endpoint, Scheme, examine};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MIB: u64 = 1 << 20;

const VALID: &str = "these names and values make a header";

/// Counts what the current thread is given and has not given back.
struct Meter {
    before: u64,
}

impl Meter {
    fn start() -> Self {
        Self { before: balance() }
    }

    /// Bytes since the start.
    fn bytes(&self) -> u64 {
        balance().wrapping_sub(self.before)
    }
}

/// Below zero on a thread that gave back more than it was given, so only differences count.
fn balance() -> u64 {
    let given = allocatedp::read().expect("jemalloc counts").get();
    let returned = deallocatedp::read().expect("jemalloc counts").get();
    given.wrapping_sub(returned)
}

/// A store, and users to fill it for.
struct House {
    store: Store,
    config: Config,
    keys: KeyMaker,
    vary: Vec<HeaderName>,
    clock: Clock,
    hand: Hand,
}

impl House {
    fn new(max_bytes: u64) -> Self {
        let config = Config::parse("upstream.servers = [\"127.0.0.1:9000\"]", "test");
        let (clock, hand) = Clock::manual();
        Self {
            store: Store::new(max_bytes, Duration::from_secs(3600)),
            config: config.unwrap_or_else(|error| panic!("{error}")),
            keys: KeyMaker::new().expect("the system has randomness"),
            vary: Vec::new(),
            clock,
            hand,
        }
    }

    /// The key of a user's batches: only a request that was checked has one.
    fn key(&self, user: u64) -> Key {
        let mut request =
            RequestHeader::build("GET", b"/api/v1/intercom/shows?ids[]=1", None).expect(VALID);
        for (name, value) in [
            ("Authorization", format!("Bearer tok-{user}")),
            ("Accept", "application/json".to_owned()),
            ("X-Client", "ios".to_owned()),
            ("X-UUID", "device".to_owned()),
        ] {
            request.append_header(name, value).expect(VALID);
        }
        let endpoint = Endpoint {
            era: 0,
            batch: &self.config.batches[0],
            vary: &self.vary,
            peer_is_trusted: false,
            scheme: Scheme::Http,
        };
        let checked = examine(&request, &self.config.headers).expect("a batch");
        let batch = checked.read(&request, b"", &endpoint, &self.keys);
        batch.expect("a batch").key
    }

    /// What a fetch of `ids` told, each an item of `item_bytes`, with the header `header`.
    fn fill(&self, ids: impl IntoIterator<Item = u64>, item_bytes: usize, header: &str) -> Fill {
        let mut body = BytesMut::new();
        let items = ids.into_iter().map(|id| {
            let start = body.len();
            body.resize(start + item_bytes, b'x');
            (id, start..body.len())
        });
        let items: Vec<_> = items.collect();
        let header = StoredHeader::of(&read_from_a_connection(header));
        let (header, header_bytes) = self.store.share(header);
        Fill {
            fetch: Fetch {
                began: self.clock.now(),
                user: self.keys.holder(b"whoever"),
                jitter: Jitter::new(0),
                by: FetchKind::Whole,
            },
            digests: Fill::digests(&body, &items),
            items,
            header,
            header_bytes,
            body: body.freeze(),
            absent: Vec::new(),
        }
    }

    fn put(&self, user: u64, ids: impl IntoIterator<Item = u64>, item_bytes: usize, header: &str) {
        let fill = self.fill(ids, item_bytes, header);
        let holder = self.keys.holder(format!("tok-{user}").as_bytes());
        let reason = self.store.know(holder);
        self.store.put(self.key(user), reason, &fill, |_| true);
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }
}

/// A header as Pingora reads it: its names and values are parts of one large buffer.
fn read_from_a_connection(served_by: &str) -> ResponseHeader {
    let fields = [
        ("Server", "nginx/1.25.3"),
        ("Content-Type", "application/json"),
        ("Connection", "keep-alive"),
        ("Vary", "Accept-Encoding"),
        ("X-Powered-By", "PHP/8.2.12"),
        ("Cache-Control", "no-cache, private"),
        ("Date", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("Access-Control-Allow-Origin", "*"),
        ("X-Served-By", served_by),
    ];
    let mut buffer = BytesMut::with_capacity(4096);
    for (name, value) in fields {
        buffer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    let buffer: Bytes = buffer.freeze();
    let mut header = ResponseHeader::build(200, Some(fields.len())).expect(VALID);
    let mut at = 0;
    for (name, value) in fields {
        let name_end = at + name.len();
        let value_at = name_end + 2;
        let value_end = value_at + value.len();
        let value = header_value_from_raw(buffer.slice(value_at..value_end));
        header
            .append_header(buffer.slice(at..name_end), value)
            .expect(VALID);
        at = value_end + 2;
    }
    header
}

/// Runs a test in a process and on a thread of its own, so that nothing else is counted: what the store drops is freed
/// later, by whichever thread comes along.
fn alone(test: impl FnOnce() + Send + 'static) {
    const MARK: &str = "VMS_EDGE_MEMORY_TEST_IS_ALONE";
    if std::env::var_os(MARK).is_some() {
        let done = std::thread::spawn(test).join();
        return done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    let this = std::thread::current();
    let name = this.name().expect("a test's thread has the test's name");
    let program = std::env::current_exe().expect("a running program has a file");
    let output = std::process::Command::new(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("it can be run once more");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let ran = String::from_utf8_lossy(&output.stdout);
    assert!(ran.contains("1 passed"), "{ran}");
}

#[track_caller]
fn assert_weighed_right(house: &House, meter: &Meter) {
    let usage = house.usage();
    let occupied = meter.bytes();
    let error = (usage.bytes as f64 / occupied as f64 - 1.0) * 100.0;
    assert!(
        error.abs() <= 8.0,
        "{usage:?} of which {occupied} bytes are occupied: {error:+.1} %"
    );
}

#[test]
fn many_small_shelves_weigh_what_they_occupy() {
    alone(|| {
        let house = House::new(1 << 40);
        let meter = Meter::start();
        for user in 0..50_000 {
            house.put(user, [1], 200, "vms");
        }
        assert_weighed_right(&house, &meter);
    });
}

#[test]
fn large_shelves_weigh_what_they_occupy() {
    alone(|| {
        let house = House::new(1 << 40);
        let meter = Meter::start();
        for user in 0..5_000 {
            house.put(user, 1..=25, 800, "vms");
        }
        assert_weighed_right(&house, &meter);
    });
}

#[test]
fn a_header_that_no_other_shelf_has_is_weighed() {
    alone(|| {
        let house = House::new(1 << 40);
        let meter = Meter::start();
        for user in 0..20_000 {
            house.put(user, [1], 200, &format!("vms-{user}"));
        }
        assert_weighed_right(&house, &meter);
    });
}

#[test]
fn shelves_share_the_headers_of_several_servers() {
    alone(|| {
        let occupied = |servers: u64| {
            let house = House::new(1 << 40);
            let meter = Meter::start();
            for user in 0..5_000 {
                house.put(user, [1], 200, &format!("vms-{}", user % servers));
            }
            assert_weighed_right(&house, &meter);
            meter.bytes()
        };
        // The first store ever takes a little more.
        occupied(1);
        let (one, several) = (occupied(1), occupied(12));
        assert!(several < one + 64_000, "{several} bytes instead of {one}");
    });
}

#[test]
fn a_header_weighs_what_it_occupies_whatever_its_fields() {
    alone(|| {
        for fields in [0, 1, 3, 6, 7, 12, 13, 30] {
            let mut header = ResponseHeader::build(200, None).unwrap();
            for field in 0..fields {
                let (name, value) = (format!("X-Field-{field}"), "some value");
                header.append_header(name, value).unwrap();
            }
            let headers = Headers::default();
            // The first one ever also takes room for those that will come.
            headers.share(StoredHeader::of(&read_from_a_connection("vms")));
            let meter = Meter::start();
            let (_kept, weighed) = headers.share(StoredHeader::of(&header));
            let occupied = meter.bytes();
            let error = (weighed as f64 / occupied as f64 - 1.0) * 100.0;
            assert!(
                error.abs() <= 10.0,
                "{fields} fields weigh {weighed}, and occupy {occupied} bytes: {error:+.1} %"
            );
        }
    });
}

/// A store that comes and goes: its bound, and the most that was occupied beside what tests look at.
const BOUND: u64 = 64 * MIB;

/// Of the bound, with what may be above it.
const WITH_EXCESS: u64 = BOUND + BOUND / 20;

/// Puts three times as much into a store as it holds, in shelves of `ids` items, and looks at it all the while.
fn churn(ids: u64, item_bytes: usize) {
    let house = House::new(BOUND);
    let meter = Meter::start();
    let users = 3 * BOUND / (ids * item_bytes as u64);
    for turn in 0..users {
        // Every third fill is of a user who has a shelf.
        let user = if turn % 3 == 2 { turn - 1 } else { turn };
        house.put(user, 1..=ids, item_bytes, "vms");
        let occupied = meter.bytes();
        assert!(occupied <= WITH_EXCESS, "{occupied} bytes at turn {turn}");
        // Looking makes the store tidy up, so that it is not done too often.
        if turn % (users / 10) == 0 {
            let weighed = house.usage().bytes;
            assert!(weighed <= BOUND, "{weighed} bytes weighed");
        }
    }

    let kept = (0..users).filter_map(|user| house.store.shelf(&house.key(user)));
    let (shelves, items) = kept.fold((0, 0), |(shelves, items), shelf| {
        (shelves + 1, items + shelf.slots().len() as u64)
    });
    let usage = house.usage();
    assert_eq!((usage.shelves, usage.items), (shelves, items), "{usage:?}");
    assert!(usage.bytes > BOUND * 9 / 10, "it is used: {usage:?}");
}

#[test]
fn a_full_store_of_small_shelves_stays_within_its_bound_however_much_comes() {
    alone(|| churn(1, 4_000));
}

#[test]
fn a_full_store_of_shelves_as_they_are_stays_within_its_bound_however_much_comes() {
    alone(|| churn(25, 800));
}

#[test]
fn a_full_store_of_large_shelves_stays_within_its_bound_however_much_comes() {
    alone(|| churn(25, 20_000));
}

#[test]
fn several_threads_that_grow_replace_and_add_shelves_keep_the_bound() {
    alone(|| {
        const THREADS: u64 = 4;
        const TURNS: u64 = 6_000;
        let house = House::new(BOUND);
        // What all threads were given and have not given back; each adds what it was, once it has put something.
        let occupied = AtomicI64::new(0);
        let start = Barrier::new(usize::try_from(THREADS).expect("a few"));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (house, occupied, start) = (&house, &occupied, &start);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    start.wait();
                    let (meter, mut counted) = (Meter::start(), 0);
                    for turn in 0..TURNS {
                        let user = match random.u8(..4) {
                            // Somebody new, somebody whom another thread knows too, or one of its own.
                            0 | 1 => TURNS * (thread + 1) + turn,
                            2 => random.u64(..2_000),
                            _ => TURNS * (thread + 1) + random.u64(..=turn),
                        };
                        let first = random.u64(1..60);
                        let item_bytes = [100, 455, 800, 4_000][random.usize(..4)];
                        house.put(user, first..first + random.u64(1..25), item_bytes, "vms");
                        let given = meter.bytes().cast_signed();
                        let added = given - counted;
                        counted = given;
                        let all = occupied.fetch_add(added, Ordering::Relaxed) + added;
                        let bound = i64::try_from(WITH_EXCESS).expect("it fits");
                        assert!(all <= bound, "{all} bytes at turn {turn}");
                        if turn % 1_000 == 0 {
                            let weighed = house.usage().bytes;
                            assert!(weighed <= WITH_EXCESS, "{weighed} bytes weighed");
                        }
                    }
                });
            }
        });
        let usage = house.usage();
        assert!(usage.evicted_for_room > 1_000, "{usage:?}");
        assert!((BOUND * 9 / 10..=BOUND).contains(&usage.bytes), "{usage:?}");
    });
}

#[test]
fn users_who_ask_again_and_again_outlast_a_scan_of_those_who_ask_once() {
    alone(|| {
        const HOT: u64 = 150;
        const BOUND: u64 = 4 * MIB;
        let house = House::new(BOUND);
        let put = |user| house.put(user, 1..=10, 750, "vms");
        let asks = |user| house.store.shelf(&house.key(user)).is_some();
        (0..HOT).for_each(put);
        let (mut asked, mut hits) = (0, 0);
        for turn in 0..50 * BOUND / 7_500 {
            // Between two questions of one user, more comes than there is room for.
            if turn % 3 == 0 {
                let user = turn / 3 % HOT;
                asked += 1;
                match asks(user) {
                    true => hits += 1,
                    false => put(user),
                }
            }
            put(HOT + turn);
        }
        let usage = house.usage();
        assert!(usage.evicted_for_room > 49 * BOUND / 10_000, "{usage:?}");
        println!("{hits} of {asked} questions were answered from memory");
        assert!(hits * 10 >= asked * 9, "{hits} of {asked}");
    });
}

#[test]
fn four_batches_that_overlap_take_little_more_than_their_items() {
    alone(|| {
        let house = House::new(1 << 40);
        let meter = Meter::start();
        let mut payload = 0;
        for user in 0..5_000 {
            // 455 bytes on average, as the VMS's are.
            let item_bytes = 355 + 37 * user % 201;
            for first in [1, 4, 8, 11] {
                let item_bytes = usize::try_from(item_bytes).expect("it is small");
                house.put(user, first..first + 10, item_bytes, "vms");
            }
            payload += 20 * item_bytes;
        }
        assert_weighed_right(&house, &meter);
        let growth = meter.bytes() as f64 / payload as f64;
        println!("growth against the payload: {growth:.3}");
        // About half of what is beside the items are their slots, and a sixth the store's own.
        assert!(growth <= 1.16, "{growth:.3} times the payload");
    });
}

/// What a store says a shelf of its own weighs is held against the allocations to the byte: whatever one more of them an
/// item would take is seen.
#[test]
fn a_shelf_takes_a_few_blocks_and_nothing_for_each_item() {
    alone(|| {
        let house = House::new(1 << 40);
        for (ids, item_bytes) in [(2, 10), (20, 1), (20, 455), (25, 800), (200, 16)] {
            let [part, rest] = [1..=ids / 2, ids / 2 + 1..=ids].map(|ids| {
                let mut fill = house.fill(ids, item_bytes, "vms");
                fill.header_bytes = 0;
                fill
            });
            let before = Shelf::merged(None, &part, |_| true);
            let meter = Meter::start();
            let shelf = Arc::new(Shelf::merged(Some(&before), &rest, |_| true));
            let taken = meter.bytes();
            let says = shelf.size_bytes() as u64;
            assert_eq!(taken, says, "{ids} items of {item_bytes} bytes");
            let bytes = ids * (item_bytes as u64 + 1 + Shelf::SLOT_BYTES as u64);
            let most = bytes + bytes / 7 + 256;
            assert!(taken <= most, "{taken} for {bytes}: {ids} of {item_bytes}");
        }
    });
}

#[test]
fn what_is_larger_than_the_bound_is_not_kept() {
    alone(|| {
        let house = House::new(MIB);
        house.put(1, [1], 200, "vms");
        let before = house.usage();
        let meter = Meter::start();
        house.put(2, 1..=25, 100_000, "vms");
        let after = house.usage();
        assert!(house.store.shelf(&house.key(2)).is_none());
        let held = |usage: Usage| (usage.bytes, usage.items, usage.shelves);
        assert_eq!(held(after), held(before));
        assert!(meter.bytes() < 100_000);
        assert!(house.store.shelf(&house.key(1)).is_some(), "others stay");

        // The same for a shelf that grows beyond the bound.
        house.put(1, 2..=25, 100_000, "vms");
        assert!(house.store.shelf(&house.key(1)).is_none());
        assert_eq!((house.usage().items, house.usage().shelves), (0, 0));
    });
}

#[test]
fn whoever_asks_for_ever_new_ids_is_remembered_the_newest() {
    alone(|| {
        let house = House::new(1 << 40);
        let most = MAX_SLOTS as u64;
        for first in (1..5 * most).step_by(16) {
            house.hand.advance(Duration::from_secs(1));
            house.put(1, first..first + 16, 200, "vms");
            assert!(house.usage().items <= most);
        }
        let shelf = house.store.shelf(&house.key(1)).expect("it was just put");
        let kept = shelf.slots().map(|slot| slot.id);
        assert!(kept.eq(4 * most + 1..=5 * most), "the newest are kept");
    });
}

#[test]
fn an_empty_store_takes_little() {
    alone(|| {
        let meter = Meter::start();
        let house = House::new(1 << 40);
        house.usage();
        let taken = meter.bytes();
        assert!(taken < MIB / 4, "{taken} bytes");
    });
}

#[test]
fn rate_limits_take_a_few_megabytes_however_many_tokens_and_addresses_ask() {
    alone(|| {
        let keys = KeyMaker::new().expect("the system has randomness");
        let rate = Rate {
            per_second: 1,
            ..Rate::default()
        };
        let rates = Rates {
            user: rate,
            address: rate,
        };
        let meter = Meter::start();
        let limits = RateLimits::new(&rates, &Clock::manual().0, None);
        for number in 0..500_000_u32 {
            let mut request = RequestHeader::build("GET", b"/", None).expect(VALID);
            let token = format!("Bearer {number}");
            request.insert_header("Authorization", token).expect(VALID);
            let address = std::net::Ipv4Addr::from_bits(number).into();
            let peer = Peer::new(address, Scheme::Http, &[]);
            let admitted = limits.admit(&request, &keys, peer, &[]);
            assert_eq!(admitted, Ok(()), "nobody pays for another");
        }
        let connecting = Limit::new(rate, &Clock::manual().0).expect("there is a rate");
        for number in 0..500_000_u32 {
            let address = std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            assert_eq!(connecting.admit(&address), Ok(()));
        }
        let taken = meter.bytes();
        println!(
            "{MAX_REMEMBERED} buckets for each of three limits at the most take {taken} bytes"
        );
        assert!(taken < 24 * MIB, "{taken} bytes");
    });
}
