//! What befalls the VMS: it is restarted, is slow, or breaks off its answers; and what hostile clients do meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use vms_edge::demo::vms::{Fault, Times};

use super::outage::Vms;
use super::phone::Place;
use crate::hostile::{Attack, Harm, Victim};

/// How long the VMS is well, and how long it is not.
const WELL: Duration = Duration::from_secs(12);
const AWAY: Duration = Duration::from_secs(3);
const SLOW: Duration = Duration::from_secs(3);

/// What each of its answers takes while it is slow.
const LATENCY: Duration = Duration::from_millis(300);

/// Answers that are broken at a time.
const BROKEN: usize = 20;

/// How long hostile clients go on, and how long they rest.
const ATTACK: Duration = Duration::from_secs(2);
const REST: Duration = Duration::from_secs(1);

/// How many there are of them.
const HOSTILE: usize = 20;
/// Of those whose connections cost a handshake each.
const HOSTILE_WITH_TLS: usize = 2;

/// One trouble after the other, until it is dropped.
pub(super) async fn befalls(place: &Place, vms: &mut Vms) {
    for turn in 0_usize.. {
        sleep(WELL).await;
        place.counted.trouble();
        match turn % 4 {
            0 => {
                vms.die().await;
                sleep(AWAY).await;
                vms.come_back();
            }
            1 => {
                place.vms.set_latency(LATENCY);
                sleep(SLOW).await;
                place.vms.set_latency(Duration::ZERO);
            }
            2 => {
                place.vms.fault(Fault::Status(503), Times::Next(BROKEN));
                place
                    .vms
                    .fault(Fault::CloseBeforeAnswer, Times::Next(BROKEN));
                sleep(SLOW).await;
                place.vms.clear_faults();
            }
            _ => {
                place.vms.fault(Fault::CutBody, Times::Next(BROKEN));
                sleep(SLOW).await;
                place.vms.clear_faults();
            }
        }
        place.counted.well();
    }
}

/// One attack after the other, until it is dropped.
pub(super) async fn besieges(place: &Place, victim: &Victim, harm: &Arc<Harm>) {
    const ATTACKS: [Attack; 9] = [
        Attack::Garbage,
        Attack::SlowHeaders,
        Attack::RapidResets,
        Attack::StalledStreams,
        Attack::SlowReaders,
        Attack::EmptyFrames,
        Attack::SlowBodies,
        Attack::Handshakes,
        Attack::Idle,
    ];
    for attack in ATTACKS.into_iter().cycle() {
        let clients = match attack {
            Attack::StalledStreams
            | Attack::RapidResets
            | Attack::EmptyFrames
            | Attack::Handshakes => HOSTILE_WITH_TLS,
            _ => HOSTILE,
        };
        let made = harm.made.load(Ordering::Relaxed);
        // It does not end by itself.
        let _ = timeout(ATTACK, attack.goes_on(victim, clients, harm)).await;
        let made = harm.made.load(Ordering::Relaxed) - made;
        let believed = harm.believed.swap(0, Ordering::Relaxed);
        place.counted.count(|numbers| numbers.hostile += made);
        for _ in 0..believed {
            place
                .counted
                .wrong(|| "what is no request was answered".to_owned());
        }
        sleep(REST).await;
    }
}
