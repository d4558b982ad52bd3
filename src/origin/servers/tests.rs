//! Who is asked, as servers fail, recover, and move.

use std::io;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::cache::clock::Hand;
use crate::config::ServerName;
use crate::origin::checker::Checker;
use crate::origin::resolve::SystemResolver;

/// Answers what it is told to.
struct Told(Arc<Mutex<Vec<&'static str>>>);

#[async_trait]
impl Resolve for Told {
    async fn resolve(&self, _: &ServerName) -> io::Result<Vec<SocketAddr>> {
        let addresses = self.0.lock().unwrap().clone();
        if addresses.is_empty() {
            return Err(io::Error::other("down"));
        }
        Ok(addresses.iter().map(|a| a.parse().unwrap()).collect())
    }
}

const ONE: &str = "10.0.0.1:80";
const TWO: &str = "10.0.0.2:80";

async fn resolved(told: &Arc<Mutex<Vec<&'static str>>>) -> Result<Servers, Unresolvable> {
    let text = "upstream.servers = [\"vms.test:80\"]\nupstream.breaker.failures = 1";
    let upstream = config::Config::parse(text, "test").unwrap().upstream;
    let resolver = Box::new(Told(Arc::clone(told)));
    Servers::resolve(&upstream, None, resolver, Clock::manual().0, None).await
}

/// Two servers, each of which one failure is enough to leave alone for a second.
async fn two() -> (Servers, Hand) {
    let text = format!(
        "upstream.servers = [\"{ONE}\", \"{TWO}\"]\nupstream.breaker = {{ failures = 1, probes = 1 }}\n\
         upstream.health = {{ unhealthy = 1, healthy = 1 }}"
    );
    let upstream = config::Config::parse(&text, "test").unwrap().upstream;
    let (clock, hand) = Clock::manual();
    let servers = Servers::resolve(&upstream, None, Box::new(SystemResolver), clock, None).await;
    (servers.unwrap(), hand)
}

/// Who is asked by so many fetches, one after the other, all answered.
fn fetched(servers: &Servers, times: usize) -> Vec<String> {
    let fetch = || {
        let mut turn = servers.next_for_fetch(&Tried::default())?;
        turn.succeeded();
        Some(turn.address().to_string())
    };
    (0..times).map_while(|_| fetch()).collect()
}

/// The same of requests that pass through.
fn passed(servers: &Servers, may_probe: bool, times: usize) -> Vec<String> {
    let pass = || servers.next_for_pass(&Tried::default(), may_probe);
    (0..times)
        .map(|_| pass().expect("none was tried").address().to_string())
        .collect()
}

/// A fetch to this server fails.
fn fail(servers: &Servers, address: &str) {
    let tried = Tried {
        unreached: [ONE, TWO]
            .iter()
            .filter(|other| **other != address)
            .map(|other| other.parse().unwrap())
            .collect(),
        unheard: None,
        repeated: false,
    };
    let mut turn = servers.next_for_fetch(&tried).expect("it is not open");
    assert_eq!(turn.address().to_string(), address);
    turn.failed(&"a test says so");
}

fn check(servers: &Servers, address: &str, passes: bool) {
    let all = servers.all();
    let server = all.iter().find(|s| s.at.address.to_string() == address);
    let result = if passes {
        Ok(())
    } else {
        Err("a test says so")
    };
    server.expect("it is one of them").checked(result);
}

#[tokio::test]
async fn servers_are_asked_in_turn() {
    let (servers, _) = two().await;
    assert_eq!(fetched(&servers, 3), [ONE, TWO, ONE]);
    assert_eq!(passed(&servers, false, 3), [TWO, ONE, TWO]);
}

#[tokio::test]
async fn a_name_is_followed_when_it_moves_and_kept_when_it_fails() {
    let told = Arc::new(Mutex::new(vec![ONE]));
    let servers = resolved(&told).await.unwrap();
    assert_eq!(fetched(&servers, 1), [ONE]);

    *told.lock().unwrap() = vec![TWO, "10.0.0.3:80", TWO];
    assert!(servers.refresh().await.is_empty());
    let mut both = fetched(&servers, 2);
    both.sort();
    assert_eq!(both, [TWO, "10.0.0.3:80"]);

    told.lock().unwrap().clear();
    assert_eq!(servers.refresh().await.len(), 1);
    assert_eq!(servers.count(), 2);
}

#[tokio::test]
async fn what_is_known_of_an_address_outlives_a_resolving() {
    let told = Arc::new(Mutex::new(vec![ONE]));
    let servers = resolved(&told).await.unwrap();
    fail(&servers, ONE);
    for addresses in [vec![ONE, TWO], vec![TWO, ONE]] {
        *told.lock().unwrap() = addresses;
        assert!(servers.refresh().await.is_empty());
        assert_eq!(fetched(&servers, 3), [TWO, TWO, TWO]);
    }
}

#[tokio::test]
async fn a_name_without_address_at_the_start_is_named() {
    let told = Arc::new(Mutex::new(vec![]));
    let failure = resolved(&told).await.err().unwrap();
    assert_eq!(
        failure.to_string(),
        "upstream.servers: vms.test:80 does not resolve: down"
    );
}

#[tokio::test]
async fn a_server_with_an_open_breaker_is_passed_over_until_its_pause_is_over() {
    let (servers, hand) = two().await;
    fail(&servers, ONE);
    assert_eq!(fetched(&servers, 3), [TWO, TWO, TWO]);
    assert_eq!(passed(&servers, true, 3), [TWO, TWO, TWO]);
    assert_eq!(servers.states(), [1, 1, 0, 0]);
    hand.advance(Duration::from_secs(1));
    assert_eq!(servers.states(), [1, 0, 1, 0]);
    assert!(fetched(&servers, 4).contains(&ONE.to_owned()));
    assert_eq!(servers.states(), [2, 0, 0, 0]);
}

#[tokio::test]
async fn with_every_breaker_open_no_fetch_is_sent_and_yet_everything_passes_through() {
    let (servers, hand) = two().await;
    assert!(servers.admit_fetches());
    fail(&servers, ONE);
    assert!(servers.admit_fetches());
    fail(&servers, TWO);
    assert!(!servers.admit_fetches());
    assert_eq!(fetched(&servers, 1), [""; 0]);
    let mut both = passed(&servers, false, 2);
    both.sort();
    assert_eq!(both, [ONE, TWO]);
    hand.advance(Duration::from_secs(1));
    assert!(servers.admit_fetches());
}

#[tokio::test]
async fn a_half_open_server_is_probed_with_reads_and_spared_writes() {
    let (servers, hand) = two().await;
    fail(&servers, ONE);
    hand.advance(Duration::from_secs(1));
    assert_eq!(passed(&servers, false, 4), [TWO; 4]);
    // One probe at once, whatever the number of those who could be one.
    let tried = Tried::default();
    let turns: Vec<Turn> = (0..4)
        .filter_map(|_| servers.next_for_pass(&tried, true))
        .collect();
    let probes = turns.iter().filter(|t| t.address().to_string() == ONE);
    assert_eq!((turns.len(), probes.count()), (4, 1));
}

#[tokio::test]
async fn an_unhealthy_server_is_passed_over_unless_none_is_healthy() {
    let (servers, _) = two().await;
    check(&servers, ONE, false);
    assert_eq!(fetched(&servers, 3), [TWO; 3]);
    assert_eq!(passed(&servers, true, 3), [TWO; 3]);
    assert_eq!(servers.states(), [1, 0, 0, 1]);
    check(&servers, TWO, false);
    assert_eq!(servers.states(), [0, 0, 0, 2]);
    let mut both = fetched(&servers, 2);
    both.sort();
    assert_eq!(both, [ONE, TWO]);
    check(&servers, ONE, true);
    assert_eq!(fetched(&servers, 3), [ONE; 3]);
}

#[tokio::test]
async fn a_server_that_could_not_be_reached_is_not_tried_again_even_for_an_unhealthy_one() {
    let (servers, _) = two().await;
    check(&servers, TWO, false);
    let mut tried = Tried::default();
    let turn = servers.next_for_fetch(&tried).expect("the healthy one");
    tried.unreached.push(turn.address());
    assert!(servers.has_more(&tried));
    let turn = servers.next_for_fetch(&tried).expect("the other one");
    assert_eq!(turn.address().to_string(), TWO);
    tried.unreached.push(turn.address());
    assert!(servers.next_for_fetch(&tried).is_none() && !servers.has_more(&tried));
    assert!(servers.next_for_pass(&tried, true).is_none());
}

#[tokio::test]
async fn a_fetch_that_is_dropped_has_failed_and_what_passes_through_has_not() {
    let (servers, _) = two().await;
    for _ in 0..4 {
        drop(servers.next_for_pass(&Tried::default(), true));
    }
    assert_eq!(servers.states(), [2, 0, 0, 0]);
    drop(servers.next_for_fetch(&Tried::default()));
    assert_eq!(servers.states(), [1, 1, 0, 0]);
}

#[tokio::test]
async fn a_request_that_is_said_once_more_shares_no_pooled_connection() {
    let (servers, _) = two().await;
    let first = Tried::default();
    let turn = servers.next_for_fetch(&first).expect("nothing failed");
    assert_eq!(servers.peer(&turn, &first, None).group_key, servers.pool());
    let again = Tried {
        repeated: true,
        ..first
    };
    assert_ne!(servers.peer(&turn, &again, None).group_key, servers.pool());
}

#[tokio::test]
async fn whoever_was_not_heard_is_asked_again_only_if_there_is_nobody_else() {
    let (servers, _) = two().await;
    let tried = Tried {
        unreached: Vec::new(),
        unheard: Some(ONE.parse().unwrap()),
        repeated: true,
    };
    for _ in 0..3 {
        let mut turn = servers.next_for_fetch(&tried).expect("nobody failed");
        assert_eq!(turn.address().to_string(), TWO);
        turn.succeeded();
        let turn = servers.next_for_pass(&tried, true).expect("nobody failed");
        assert_eq!(turn.address().to_string(), TWO);
    }
    let alone = Tried {
        unreached: vec![TWO.parse().unwrap()],
        ..tried
    };
    let turn = servers.next_for_fetch(&alone).expect("nobody failed");
    assert_eq!(turn.address().to_string(), ONE);
}

#[tokio::test]
async fn what_may_not_probe_is_sent_to_the_best_of_those_that_are_left() {
    let (servers, hand) = two().await;
    fail(&servers, ONE);
    fail(&servers, TWO);
    // One was left alone for longer than the other.
    hand.advance(Duration::from_secs(1));
    let probe = servers.next_for_fetch(&Tried::default()).expect("a probe");
    let probed = probe.address().to_string();
    drop(probe);
    let back = if probed == ONE { TWO } else { ONE };
    assert_eq!(passed(&servers, false, 4), [back; 4]);

    // And of one that is back and one that is unhealthy, the former.
    let (servers, hand) = two().await;
    fail(&servers, TWO);
    hand.advance(Duration::from_secs(1));
    let all = servers.all();
    let one = all
        .iter()
        .find(|server| server.at.address.to_string() == ONE);
    one.expect("it resolves").checked(Err("status 500"));
    assert_eq!(passed(&servers, false, 4), [TWO; 4]);
}

#[tokio::test]
async fn a_server_that_is_alone_is_checked_for_as_long_as_it_is_unhealthy() {
    let told = Arc::new(Mutex::new(vec![ONE, TWO]));
    let servers = Arc::new(resolved(&told).await.unwrap());
    let text = "upstream.servers = [\"vms.test:80\"]";
    let upstream = config::Config::parse(text, "test").unwrap().upstream;
    let checker = Checker::new(&upstream, Arc::clone(&servers));
    let check = |passed: bool| {
        let result = || if passed { Ok(()) } else { Err("status 500") };
        for _ in 0..upstream.health.unhealthy.max(upstream.health.healthy) {
            servers.all()[0].checked(result());
        }
    };
    assert!(checker.is_wanted());
    check(false);
    *told.lock().unwrap() = vec![ONE];
    servers.refresh().await;
    assert!(checker.is_wanted());
    check(true);
    assert!(!checker.is_wanted());
}
