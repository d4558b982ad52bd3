//! Rounds that are played without sockets: what the VMS says to each question is written down, so that it can change its
//! mind between any two, and so can be what is wrong with the edge.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;

use async_trait::async_trait;
use pingora_http::ResponseHeader;
use tempfile::TempDir;
use tokio::runtime;

use super::*;
use crate::cache::clock::{Clock, Hand};
use crate::cache::marks::Marks;
use crate::cache::store::Store;
use crate::ops::metrics::Metrics;
use crate::ops::spans::Spans;
use crate::origin::fetch::{Answer, Course, FetchError, Origin};
use crate::planted::{self, Fault};
use crate::reply::answers::{Answers, Work};
use crate::request::key::KeyMaker;

/// For how long what is stored is fresh, and then for how long it may be answered still.
const FRESH: Duration = Duration::from_secs(15);
const STALE: Duration = Duration::from_secs(60);

const SETTINGS: &str = r#"
upstream.servers = ["127.0.0.1:9"]
compression.codings = ["gzip"]
compression.min_bytes = "64B"
[[batch]]
path = "/api/v1/intercom/shows"
fresh = "15s"
stale_while_revalidate = "60s"
stale_if_error = "60s"
jitter = 0.0
order = "id"
[canary]
ids = [1, 2, 3]
"#;

/// What the VMS says to one question; `None`: nothing.
type Said = Option<(u16, String)>;

/// What it says to each of the two, question by question; the last it says for ever.
struct Vms {
    clock: Clock,
    says: Mutex<[VecDeque<Said>; 2]>,
}

#[async_trait]
impl Origin for Vms {
    async fn patience(&self) {
        std::future::pending().await
    }

    async fn fetch(
        &self,
        request: &RequestHeader,
        _: &Bytes,
        _: &mut Course,
    ) -> Result<Answer, FetchError> {
        let token = &request.headers[header::AUTHORIZATION];
        let user = usize::from(token == "Bearer tok-2");
        let says = &mut self.says.lock().unwrap()[user];
        let said = match says.len() {
            1 => says[0].clone(),
            _ => says.pop_front().expect("it says something"),
        };
        let (status, body) = said.ok_or(FetchError::Open)?;
        let mut header = ResponseHeader::build(status, None).unwrap();
        header
            .insert_header(header::CONTENT_TYPE, "application/json")
            .unwrap();
        Ok(Answer {
            header: Box::new(header),
            body: body.into(),
            started: self.clock.now(),
        })
    }
}

/// A canary and the VMS that it asks, on a thread of its own.
struct Stage {
    canary: Canary,
    vms: Arc<Vms>,
    hand: Hand,
    /// What is to be coded.
    waiting: Receiver<Work>,
    runtime: runtime::Runtime,
    _tokens: TempDir,
}

impl Stage {
    fn new() -> Self {
        let tokens = tempfile::tempdir().unwrap();
        let [first, second] = ["tok-1", "tok-2"].map(|token| {
            let path = tokens.path().join(token);
            std::fs::write(&path, token).unwrap();
            path.display().to_string()
        });
        let text = format!("{SETTINGS}token_files = ['{first}', '{second}']\n");
        let config = Arc::new(Config::parse(&text, "the stage").unwrap());
        let (clock, hand) = Clock::manual();
        let vms = Arc::new(Vms {
            clock: clock.clone(),
            says: Mutex::default(),
        });
        let longest = Windows::new(&config.batches[0]).longest();
        let (answers, waiting) = Answers::new(1 << 20, 1 << 20);
        let metrics = Arc::new(Metrics::new());
        let filler = Arc::new(Filler {
            store: Arc::new(Store::new(1 << 20, longest)),
            marks: Arc::new(Marks::new(longest)),
            flights: Arc::default(),
            detach: Box::new(|fill| drop(tokio::spawn(fill))),
            origin: Arc::clone(&vms) as Arc<dyn Origin>,
            clock,
            metrics: Arc::clone(&metrics),
            spans: Arc::new(Spans::new(Arc::clone(&metrics)).0),
            keys: Arc::new(KeyMaker::new().unwrap()),
            answers: Arc::new(answers),
            fetch_coding: config.upstream.fetch_coding,
            compression: config.compression.clone(),
            host: None,
        });
        let vary = &config.headers.vary;
        let endpoint = BatchEndpoint::new(&config.batches[0], vary, &metrics);
        let canary = Canary::of(&config, &[Arc::new(endpoint)], &filler);
        Self {
            canary: canary.expect("there are users"),
            vms,
            hand,
            waiting,
            runtime: runtime::Builder::new_current_thread().build().unwrap(),
            _tokens: tokens,
        }
    }

    /// Plays a round in which the VMS says this to the two; after it, what is stale has been refreshed, and what was to be
    /// coded is.
    fn round(
        &mut self,
        first: impl IntoIterator<Item = Said>,
        second: impl IntoIterator<Item = Said>,
    ) -> CanaryResult {
        let says = [first.into_iter().collect(), second.into_iter().collect()];
        *self.vms.says.lock().unwrap() = says;
        let result = self.runtime.block_on(async {
            let result = self.canary.round().await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            result
        });
        self.canary.filler.answers.code_waiting(&self.waiting);
        result
    }
}

/// What the first is shown: his own, and what both may see, stamped so.
fn first(stamp: u64) -> Said {
    let own = format!(
        r#"[{{"id":1,"seen":{stamp}}},{{"id":2,"of":"first","title":"the door, the door, the door, the door"}}]"#
    );
    Some((200, own))
}

/// The same of the second.
fn second(stamp: u64) -> Said {
    let own = format!(
        r#"[{{"id":1,"seen":{stamp}}},{{"id":3,"of":"second","title":"the door, the door, the door, the door"}}]"#
    );
    Some((200, own))
}

#[test]
fn what_both_see_stamped_anew_at_every_tick_is_no_leak() {
    // Asked for directly, fetched, and asked for directly once more: the second always between two ticks.
    let mut stage = Stage::new();
    let result = stage.round([first(0), first(1), first(2)], [second(1)]);
    assert_eq!(result, CanaryResult::Differs);
}

#[test]
fn what_a_refresh_brings_that_the_vms_itself_showed_to_the_other_alone_at_a_tick_is_no_leak() {
    let mut stage = Stage::new();
    assert_eq!(stage.round([first(0)], [second(0)]), CanaryResult::Ok);
    stage.hand.advance(FRESH + Duration::from_secs(1));
    // The first is asked for just before the tick and refreshed after it.
    let result = stage.round([first(1), first(2)], [second(2)]);
    assert_eq!(result, CanaryResult::Differs);
    let result = stage.round([first(3), first(4)], [second(2)]);
    assert_eq!(result, CanaryResult::Differs);
}

#[test]
fn what_is_suspected_is_told_once_the_vms_has_answered_both_again() {
    let anything_else = [None, second(0), Some((500, String::new()))];
    for unanswered in anything_else {
        let mut stage = Stage::new();
        // Fetched for the first, it is the second's.
        let round = [first(0), second(0), unanswered.clone()];
        let result = stage.round(round, [second(0), second(0), None]);
        assert_eq!(result, CanaryResult::Unavailable);
        let result = stage.round([None], [second(0)]);
        assert_eq!(result, CanaryResult::Unavailable);
        let result = stage.round([first(0)], [second(0)]);
        let explained = unanswered == second(0);
        assert_eq!(result == CanaryResult::Leak, !explained, "{unanswered:?}");
        // It is on the shelf still, and no less wrong.
        let again = stage.round([first(0)], [second(0)]);
        assert_eq!(again == CanaryResult::Leak, !explained, "{unanswered:?}");
    }
}

#[test]
fn what_was_suspected_and_the_vms_then_shows_is_no_leak() {
    let mut stage = Stage::new();
    let both = || {
        Some((
            200,
            r#"[{"id":2,"of":"first"},{"id":3,"of":"second"}]"#.into(),
        ))
    };
    let result = stage.round([first(0), both(), None], [second(0)]);
    assert_eq!(result, CanaryResult::Unavailable);
    stage.hand.advance(STALE / 2);
    assert_eq!(stage.round([both()], [second(0)]), CanaryResult::Ok);
}

#[test]
fn a_refusal_of_the_direct_question_ends_what_is_stored_for_that_user() {
    for status in [401, 403] {
        let mut stage = Stage::new();
        assert_eq!(stage.round([first(0)], [second(0)]), CanaryResult::Ok);
        let refused = Some((status, "{}".to_owned()));
        let result = stage.round([refused], [second(0)]);
        assert_eq!(result, CanaryResult::Unavailable);
        // What was stored would be fresh, and is not answered.
        let result = stage.round([first(1)], [second(0)]);
        assert_eq!(result, CanaryResult::Ok);
        let (store, metrics) = (&stage.canary.filler.store, &stage.canary.filler.metrics);
        let metrics = String::from_utf8(metrics.render(store.usage(), 0)).unwrap();
        let marked = metrics.contains("vms_edge_marks_total{scope=\"user\"} 1\n");
        assert!(marked, "{status}: {metrics}");
    }
}

#[test]
fn answers_in_a_coding_are_looked_at_too() {
    let mut stage = Stage::new();
    let filler = Arc::clone(&stage.canary.filler);
    let coded = || {
        let metrics = filler.metrics.render(filler.store.usage(), 0);
        let none = b"vms_edge_encoded_total{coding=\"gzip\"} 0\n";
        memchr::memmem::find(&metrics, none).is_none()
    };
    for _ in 0..8 {
        assert_eq!(stage.round([first(0)], [second(0)]), CanaryResult::Ok);
    }
    assert!(coded());
}

/// What three rounds show if the edge has these faults.
fn shown_with(faults: &'static [Fault]) -> [CanaryResult; 3] {
    planted::with(faults, || {
        let mut stage = Stage::new();
        [(); 3].map(|()| stage.round([first(0)], [second(0)]))
    })
}

#[test]
fn an_edge_that_mixes_users_up_is_found_out() {
    assert_eq!(shown_with(&[]), [CanaryResult::Ok; 3]);
    for faults in [
        &[Fault::KeyWithoutToken, Fault::NoOwnerCheck],
        &[Fault::FillsAnother, Fault::NoOwnerCheck],
    ] {
        let shown = shown_with(faults);
        assert!(shown.contains(&CanaryResult::Leak), "{faults:?}: {shown:?}");
    }
}
