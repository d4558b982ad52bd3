//! The law of the whole: through the edge, any batches of any users get what the VMS alone would have given them, and
//! the VMS is asked for no id twice within its freshness. Writes that pass through the edge are seen by the next batch.
//!
//! The model of `batch` (`src/batch/model.rs`) plays the deciding parts alone, and more orders of events. Only this one
//! goes through sockets: it finds what is lost between the parts, in reading requests, in headers and bytes that differ from
//! the VMS's own, in an order that has to be learnt, and in configurations that are reloaded under way. Every item says for
//! whom it is, and an edge that is configured to forget of it what it must not is found out.

mod history;
mod oracle;
mod requests;
mod schedule;
mod stage;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use vms_edge::demo::vms::{Endpoint, Order};

use self::schedule::{Change, Pace, Question, Schedule, Step, Vms};
use self::stage::Stage;
use crate::support::world::World;

/// Fixed windows, so that the model knows them: no jitter, items 30 s, absences 20 s.
const SETTINGS: &str = "[[batch]]\npath = \"/api/v1/intercom/shows\"\nfresh = \"30s\"\nabsent = \"20s\"\njitter = 0.0\n\
                        stale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"\norder = \"id\"";

#[derive(Clone, Debug)]
enum Turn {
    Ask {
        user: u64,
        device: u8,
        ids: Vec<u64>,
        in_body: bool,
    },
    Wait {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Turn>> {
    let ask = (
        1..=3u64,
        0..2u8,
        proptest::collection::vec(1..=14u64, 1..=10),
        any::<bool>(),
    )
        .prop_map(|(user, device, ids, in_body)| Turn::Ask {
            user,
            device,
            ids,
            in_body,
        });
    let wait = (1..=25u64).prop_map(|seconds| Turn::Wait { seconds });
    proptest::collection::vec(prop_oneof![4 => ask, 1 => wait], 1..40)
}

/// When each id was last fetched for a requester.
type Fetched = HashMap<(u64, u8, bool), HashMap<u64, u64>>;

async fn play(steps: Vec<Turn>) {
    let world = World::with(SETTINGS).await;
    let mut now = 0;
    let mut fetched = Fetched::new();
    for step in steps {
        let (user, device, ids, in_body) = match step {
            Turn::Wait { seconds } => {
                world.advance(seconds);
                now += seconds;
                continue;
            }
            Turn::Ask {
                user,
                device,
                ids,
                in_body,
            } => (user, device, ids, in_body),
        };
        let widget = world.user(user).with("x-uuid", &format!("device-{device}"));
        let seen = world.vms.batches().len();
        let answer = if in_body {
            widget.asks_in_body(&format!("{{\"ids\":{ids:?}}}")).await
        } else {
            widget.asks(ids.clone()).await
        };
        let token = format!("tok-{user}-ios");
        let alone =
            world
                .vms
                .batch_answer(Endpoint::Intercoms, Some(&token), &widget.headers, &ids);
        assert_eq!(answer.status, alone.status);
        assert_eq!(answer.body, alone.body, "user {user} asked {ids:?}");

        let batches = &world.vms.batches()[seen..];
        assert!(batches.len() <= 1, "one batch is at most one fetch");
        let shelf = fetched.entry((user, device, in_body)).or_default();
        for id in batches.iter().flat_map(|batch| &batch.ids) {
            let lifetime = if world.vms.owns(user, *id) { 30 } else { 20 };
            let before = shelf.insert(*id, now);
            assert!(
                before.is_none_or(|before| now - before >= lifetime),
                "id {id} was asked at {before:?} and again at {now}"
            );
        }
    }
}

#[test]
fn any_batches_of_any_users_get_what_the_vms_alone_would_have_given_and_no_id_is_asked_twice_while_fresh()
 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(play(steps));
        Ok(())
    });
    played.unwrap_or_else(|failure| panic!("{failure}"));
}

/// As the defaults, but for what answers without asking while the VMS knows better: nothing is stale. Writes are known.
const WITH_WRITES: &str = "[[batch]]\npath = \"/api/v1/intercom/shows\"\nstale_while_revalidate = \"0s\"\n\
                           [[invalidate]]\npath = \"/api/v1/intercom/{id}\"\nscope = [\"user\"]";

#[derive(Clone, Debug)]
enum Event {
    Ask {
        who: (u64, u8, u8),
        ids: Vec<u64>,
        no_cache: bool,
    },
    Write {
        who: (u64, u8, u8),
        id: u64,
        enabled: bool,
    },
    Wait {
        seconds: u64,
    },
}

/// A user, a device and a language, few enough to meet again.
fn somebody() -> impl Strategy<Value = (u64, u8, u8)> {
    (1..=2u64, 0..2u8, 0..2u8)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let ids = proptest::collection::vec(1..=10u64, 1..=6);
    let ask = (somebody(), ids, proptest::bool::weighted(0.1))
        .prop_map(|(who, ids, no_cache)| Event::Ask { who, ids, no_cache });
    let write = (somebody(), 1..=10u64, any::<bool>())
        .prop_map(|(who, id, enabled)| Event::Write { who, id, enabled });
    let wait = (1..=25u64).prop_map(|seconds| Event::Wait { seconds });
    proptest::collection::vec(prop_oneof![6 => ask, 2 => write, 1 => wait], 1..40)
}

async fn play_with_writes(order: Order, events: Vec<Event>) {
    let world = World::with(WITH_WRITES).await;
    world.vms.set_order(order);
    let widget = |(user, device, language): (u64, u8, u8)| {
        let widget = world.user(user).with("x-uuid", &format!("device-{device}"));
        widget.with("hl", ["en", "kk"][usize::from(language)])
    };
    for (number, event) in events.into_iter().enumerate() {
        match event {
            Event::Wait { seconds } => world.advance(seconds),
            Event::Write { who, id, enabled } => {
                let body = format!("{{\"title\":\"{number}\",\"is_enabled\":{enabled}}}");
                let writer = widget(who).with("content-type", "application/json");
                let target = format!("/api/v1/intercom/{id}");
                writer.sends(http::Method::PATCH, &target, &body).await;
            }
            Event::Ask { who, ids, no_cache } => {
                let asker = match no_cache {
                    true => widget(who).with("cache-control", "no-cache"),
                    false => widget(who),
                };
                let answer = asker.asks(ids.clone()).await;
                let token = format!("tok-{}-ios", who.0);
                let endpoint = Endpoint::Intercoms;
                let alone = world
                    .vms
                    .batch_answer(endpoint, Some(&token), &asker.headers, &ids);
                assert_eq!(answer.status, alone.status);
                assert_eq!(answer.body, alone.body, "{who:?} asked {ids:?}");
            }
        }
    }
}

#[test]
fn whatever_its_order_and_whoever_writes_an_answer_is_the_vmss_of_that_moment() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let order = prop_oneof![Just(Order::Ascending), Just(Order::AsAsked)];
    let played = TestRunner::new(config).run(&(order, events()), |(order, events)| {
        runtime.block_on(play_with_writes(order, events));
        Ok(())
    });
    played.unwrap_or_else(|failure| panic!("{failure}"));
}

/// How many schedules share an edge: enough that it need not be started often, and few enough that many begin with one
/// that has learnt no order yet.
const SCHEDULES_PER_EDGE: usize = 100;

/// How many schedules each test plays.
const SCHEDULES: u32 = 800;

/// Within how many schedules a wrong edge must be found out.
const SCHEDULES_PER_FAULT: usize = 200;

/// How often a schedule is played before it counts as none that fails, once one has.
const TRIES: usize = 10;

/// Plays random schedules of overlapping batches, writes, revocations, failures and clients who leave.
fn play_schedules(vms: Vms, order: Order) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let new_stage = || runtime.block_on(Stage::new(order));
    let stage = RefCell::new((new_stage(), 0));
    let has_failed = Cell::new(false);
    let good = Cell::new(0);
    let config = Config {
        cases: SCHEDULES,
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&schedule::schedules(vms), |schedule| {
        let (stage, played) = &mut *stage.borrow_mut();
        if *played == SCHEDULES_PER_EDGE {
            (*stage, *played) = (new_stage(), 0);
        }
        *played += 1;
        // What fails by a race is tried again while the schedule is made smaller.
        let times = if has_failed.replace(true) { TRIES } else { 1 };
        for _ in 0..times {
            let judged = runtime.block_on(stage.play(&schedule));
            judged.map_err(TestCaseError::fail)?;
        }
        if times == 1 {
            has_failed.set(false);
            good.set(good.get() + 1);
        }
        Ok(())
    });
    played.unwrap_or_else(|failure| panic!("after {} good schedules: {failure}", good.get()));
}

#[test]
fn whatever_overlaps_before_a_vms_that_answers_by_id_every_answer_is_of_its_history() {
    play_schedules(Vms::Well, Order::Ascending);
}

#[test]
fn whatever_overlaps_before_a_vms_that_answers_as_asked_every_answer_is_of_its_history() {
    play_schedules(Vms::Well, Order::AsAsked);
}

#[test]
fn whatever_overlaps_before_a_failing_vms_that_answers_by_id_every_answer_is_of_its_history() {
    play_schedules(Vms::Failing, Order::Ascending);
}

#[test]
fn whatever_overlaps_before_a_failing_vms_that_answers_as_asked_every_answer_is_of_its_history() {
    play_schedules(Vms::Failing, Order::AsAsked);
}

#[tokio::test]
async fn what_was_fetched_before_a_refusal_and_comes_after_it_is_not_answered() {
    let [phone, tablet, ..] = schedule::EVERYONE;
    let ask = |who, pace| {
        let question = Question {
            who,
            ids: vec![1],
            in_body: false,
            no_cache: false,
        };
        Step::Ask(question, pace)
    };
    let mut stage = Stage::new(Order::Ascending).await;
    // The phone's batch waits at the VMS, which knew its token still; the tablet's is refused before that is answered.
    let before = [
        ask(phone, Pace::Held),
        Step::Change(Change::Revoke(phone)),
        ask(tablet, Pace::Settled),
    ];
    for after in [
        vec![Step::Release, Step::Wait(1), ask(phone, Pace::Settled)],
        vec![ask(phone, Pace::Settled)],
    ] {
        let schedule = Schedule([before.to_vec(), after].concat());
        let judged = stage.play(&schedule).await;
        judged.unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

/// How many schedules it takes to find an edge out whose keys cover no header but these.
fn found_out_after(vary: &str) -> Option<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let settings = format!("headers.vary = {vary}\n");
    let mut stage = runtime.block_on(Stage::with(Order::Ascending, &settings));
    let mut runner = TestRunner::deterministic();
    (1..=SCHEDULES_PER_FAULT).find(|_| {
        let schedule = schedule::schedules(Vms::Well).new_tree(&mut runner);
        let Schedule(mut steps) = schedule.unwrap().current();
        // Another configuration would mend it.
        steps.retain(|step| !matches!(step, Step::Reload(_)));
        runtime.block_on(stage.play(&Schedule(steps))).is_err()
    })
}

#[test]
fn an_edge_whose_keys_forget_the_phone_the_language_or_the_client_is_found_out() {
    for vary in [
        r#"["X-Client", "Hl"]"#,
        r#"["X-UUID", "X-Client"]"#,
        r#"["X-UUID", "Hl"]"#,
    ] {
        assert!(found_out_after(vary).is_some(), "{vary}");
    }
    assert_eq!(found_out_after(r#"["X-UUID", "X-Client", "Hl"]"#), None);
}
