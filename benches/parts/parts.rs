//! The parts of a batch that are measured, each as something that can be done again and again. All that it works on was
//! made before.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use pingora_http::RequestHeader;
use vms_edge::batch::fill::{Filler, Task};
use vms_edge::batch::waits::Waits;
use vms_edge::batch::{Asked, AskedBy, BatchEndpoint, Outcome, Reply};
use vms_edge::cache::clock::Clock;
use vms_edge::cache::freshness::{Jitter, Windows};
use vms_edge::cache::header::StoredHeader;
use vms_edge::cache::marks::Marks;
use vms_edge::cache::shelf::{Fetch, FetchKind, Fill, Shelf};
use vms_edge::cache::store::Store;
use vms_edge::cache::{Need, sort_out};
use vms_edge::config::Config;
use vms_edge::ops::metrics::Metrics;
use vms_edge::ops::spans::Spans;
use vms_edge::origin::answer::take_apart;
use vms_edge::reply::answers::Answers;
use vms_edge::reply::compose::{compose, places};
use vms_edge::reply::order::Sequence;
use vms_edge::request::correlation::Correlation;
use vms_edge::request::key::KeyMaker;
use vms_edge::request::peer::Peer;
use vms_edge::request::{BatchRequest, Scheme, examine};

use crate::batches::{Vms, answer, in_body, in_query, without_cache};

/// Something that is measured.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) work: Box<dyn FnMut()>,
}

fn part<T>(name: &'static str, mut work: impl FnMut() -> T + 'static) -> Part {
    Part {
        name,
        work: Box::new(move || {
            black_box(work());
        }),
    }
}

/// All of them, in the order in which a batch goes through them, and then the whole way.
pub(crate) fn all() -> Vec<Part> {
    vec![
        read("key, of one id", 1..=1),
        read("read 10 ids of a query", 1..=10),
        read("read 25 ids of a query", 1..=25),
        read_body("read 10 ids of a body", 1..=10),
        read_body("read 25 ids of a body", 1..=25),
        lookup("look up 10", 1..=10),
        lookup("look up 25", 1..=25),
        put_together("compose 10, all that is there", 1..=10, 1..=10),
        put_together("compose 10 of 25", 1..=25, 8..=17),
        split("split 10", 1..=10),
        split("split 25", 1..=25),
        merge("merge 10 into 10, 6 of them new", 1..=10, 7..=16),
        merge("merge 25 into 25, none new", 1..=25, 1..=25),
        answer_from_memory("answer 1 from memory", 1..=1),
        answer_from_memory("answer 10 from memory", 1..=10),
        answer_from_memory("answer 25 from memory", 1..=25),
        hit("hit of 1", 1..=1),
        hit("hit of 10", 1..=10),
        hit("hit of 25", 1..=25),
        fetch("fetch of 10", 1..=10),
    ]
}

fn read(name: &'static str, ids: RangeInclusive<u64>) -> Part {
    let (edge, request) = (Edge::new(&[]), in_query(&Vec::from_iter(ids)));
    part(name, move || edge.understands(&request, b""))
}

fn read_body(name: &'static str, ids: RangeInclusive<u64>) -> Part {
    let (edge, (request, body)) = (Edge::new(&[]), in_body(&Vec::from_iter(ids)));
    part(name, move || edge.understands(&request, &body))
}

fn lookup(name: &'static str, ids: RangeInclusive<u64>) -> Part {
    let ids = Vec::from_iter(ids);
    let (edge, request) = (Edge::new(&ids), in_query(&ids));
    edge.answers(&request);
    let batch = edge.understands(&request, b"");
    let windows = Windows::new(&edge.endpoint.config);
    part(name, move || {
        let filler = &edge.filler;
        let shelf = filler.store.shelf(&batch.key).expect("it was stored");
        let fence = filler
            .marks
            .fence(edge.endpoint.config.endpoint, &batch.user);
        let now = filler.clock.now();
        sort_out(&shelf, &batch.ids, &windows, &fence, Need::Answer, now)
    })
}

fn put_together(
    name: &'static str,
    stored: RangeInclusive<u64>,
    asked: RangeInclusive<u64>,
) -> Part {
    let edge = Edge::new(&[]);
    let batch = edge.understands(&in_query(&Vec::from_iter(asked)), b"");
    let shelf = Shelf::merged(None, &fill(&edge, stored), |_| true);
    let windows = Windows::new(&edge.endpoint.config);
    let fence = edge
        .filler
        .marks
        .fence(edge.endpoint.config.endpoint, &batch.user);
    let now = edge.filler.clock.now();
    let sorted = sort_out(&shelf, &batch.ids, &windows, &fence, Need::Answer, now);
    part(name, move || {
        let ids = &batch.ids;
        compose(&shelf, &places(&shelf, &sorted, ids, Sequence::Ascending))
    })
}

fn split(name: &'static str, ids: RangeInclusive<u64>) -> Part {
    let ids = Vec::from_iter(ids);
    let (header, body) = answer(&ids);
    part(name, move || {
        take_apart(&header, &body, "id", &ids, &[]).expect("it fits")
    })
}

fn merge(name: &'static str, stored: RangeInclusive<u64>, new: RangeInclusive<u64>) -> Part {
    let edge = Edge::new(&[]);
    let before = Shelf::merged(None, &fill(&edge, stored), |_| true);
    let fill = fill(&edge, new);
    part(name, move || Shelf::merged(Some(&before), &fill, |_| true))
}

/// All of a hit but for reading the request, most of which is deriving its key.
fn answer_from_memory(name: &'static str, ids: RangeInclusive<u64>) -> Part {
    let ids = Vec::from_iter(ids);
    let (edge, request) = (Edge::new(&ids), in_query(&ids));
    edge.answers(&request);
    let batch = edge.understands(&request, b"");
    part(name, move || edge.has_at_hand(&batch))
}

/// From the request's header to the answer.
fn hit(name: &'static str, ids: RangeInclusive<u64>) -> Part {
    let ids = Vec::from_iter(ids);
    let (edge, request) = (Edge::new(&ids), in_query(&ids));
    edge.answers(&request);
    part(name, move || {
        edge.has_at_hand(&edge.understands(&request, b""))
    })
}

fn fetch(name: &'static str, ids: RangeInclusive<u64>) -> Part {
    let ids = Vec::from_iter(ids);
    let (edge, request) = (Edge::new(&ids), without_cache(in_query(&ids)));
    part(name, move || edge.answers(&request))
}

/// What a fetch of these ids told.
fn fill(edge: &Edge, ids: RangeInclusive<u64>) -> Fill {
    let ids = Vec::from_iter(ids);
    let (header, body) = answer(&ids);
    let items = take_apart(&header, &body, "id", &ids, &[]).expect("it fits");
    let (header, header_bytes) = edge.filler.store.share(StoredHeader::of(&header));
    Fill {
        fetch: Fetch {
            began: edge.filler.clock.now(),
            user: edge.keys.holder(b"whoever"),
            jitter: Jitter::new(0),
            by: FetchKind::Whole,
        },
        header,
        header_bytes,
        digests: Fill::digests(&body, &items),
        body,
        items,
        absent: Vec::new(),
    }
}

/// All of an edge that decides, before a VMS that answers the same ids whatever it is asked.
struct Edge {
    config: Config,
    endpoint: Arc<BatchEndpoint>,
    filler: Arc<Filler>,
    keys: Arc<KeyMaker>,
    peer: Peer,
    /// Fills that were begun.
    fills: Arc<Mutex<Vec<Task>>>,
}

impl Edge {
    fn new(ids: &[u64]) -> Self {
        let config = Config::parse("upstream.servers = [\"127.0.0.1:9\"]", "the bench");
        let config = config.expect("it is a good configuration");
        let batch = &config.batches[0];
        // Nothing becomes stale while it is measured.
        let (clock, _) = Clock::manual();
        let longest = Windows::new(batch).longest();
        let metrics = Arc::new(Metrics::new());
        let keys = Arc::new(KeyMaker::new().expect("the system has randomness"));
        let fills: Arc<Mutex<Vec<Task>>> = Arc::default();
        let begun = Arc::clone(&fills);
        let (header, body) = answer(ids);
        let filler = Filler {
            store: Arc::new(Store::new(config.cache.max_bytes, longest)),
            marks: Arc::new(Marks::new(longest)),
            flights: Arc::default(),
            detach: Box::new(move |fill| begun.lock().expect("nobody panics").push(fill)),
            origin: Arc::new(Vms {
                header,
                body,
                clock: clock.clone(),
            }),
            clock,
            metrics: Arc::clone(&metrics),
            spans: Arc::new(Spans::new(Arc::clone(&metrics)).0),
            keys: Arc::clone(&keys),
            answers: Arc::new(Answers::new(64 << 20, 1 << 20).0),
            fetch_coding: config.upstream.fetch_coding,
            compression: config.compression.clone(),
            host: None,
        };
        let address = Ipv4Addr::LOCALHOST.into();
        Self {
            endpoint: Arc::new(BatchEndpoint::new(batch, &config.headers.vary, &metrics)),
            filler: Arc::new(filler),
            keys,
            peer: Peer::new(address, Scheme::Http, &[]),
            config,
            fills,
        }
    }

    fn understands(&self, request: &RequestHeader, body: &[u8]) -> BatchRequest {
        let checked = examine(request, &self.config.headers).expect("it is a batch");
        let keyed = self.endpoint.vary();
        let endpoint = &self.endpoint;
        let batch = endpoint.understand(request, body, checked, &keyed, self.peer, &self.keys);
        batch.expect("it is a batch")
    }

    /// The answer to a batch, all of which is stored.
    fn has_at_hand(&self, batch: &BatchRequest) -> Reply {
        let hit = self.endpoint.at_hand(&self.filler, batch);
        let hit = hit.expect("it is stored");
        let reply = hit.reply(&self.endpoint, &self.filler, batch);
        reply.expect("it is this user's")
    }

    /// From the request's header to the answer, with a fetch if one is needed.
    fn answers(&self, request: &RequestHeader) -> Reply {
        let asked = Asked {
            batch: self.understands(request, b""),
            keyed: self.endpoint.vary(),
            request,
            body: Bytes::new(),
            peer: self.peer,
            correlation: &Correlation::drawn(),
            by: AskedBy::Client,
        };
        let mut waits = Waits::default();
        let mut answering = pin!(self.endpoint.answer(&self.filler, asked, &mut waits));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(outcome) = answering.as_mut().poll(&mut context) {
                return match outcome {
                    Outcome::Reply(reply) => reply,
                    Outcome::PassThrough(reason) => panic!("passes through: {reason:?}"),
                };
            }
            let fills = std::mem::take(&mut *self.fills.lock().expect("nobody panics"));
            assert!(!fills.is_empty(), "nothing will come");
            for mut fill in fills {
                assert!(fill.as_mut().poll(&mut context).is_ready());
            }
        }
    }
}
