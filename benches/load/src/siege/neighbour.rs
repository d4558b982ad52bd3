//! Somebody who does nothing wrong, and how long he waits: phones that ask, look at the answer, and ask again.
//!
//! Latency counts from when a request was sent. Whoever waits does not ask meanwhile, so that a stall is seen by as many as
//! there are phones and not by all who would have asked: what stands here is what somebody notices, not what a queue does.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::generator::connection::{Connection, Destination};
use crate::generator::tally::Tally;
use crate::rows::questions::Prepared;

/// Phones, and how long each looks at an answer on average.
const PHONES: usize = 16;
const LOOKS: Duration = Duration::from_millis(20);

/// One phone in so many connects anew for each request.
const ANEW: usize = 8;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Phones whose connections are kept from one time to the next.
pub(super) struct Neighbour {
    phones: Vec<Connection>,
    /// Whether some of them connect anew.
    comes_anew: bool,
    questions: Arc<[Prepared]>,
}

impl Neighbour {
    /// Who asks for these, at the edge's address.
    pub(super) fn new(to: &Destination, questions: Vec<Prepared>) -> Self {
        let phones = (0..PHONES).map(|_| Connection::new(to.clone()));
        Self {
            phones: phones.collect(),
            comes_anew: true,
            questions: questions.into(),
        }
    }

    /// Keeps all connections from now on.
    pub(super) fn stays(&mut self) {
        self.comes_anew = false;
    }

    /// Asks everything once, so that it is in memory.
    pub(super) async fn meets(&mut self) -> Result<(), String> {
        for (place, question) in self.questions.iter().enumerate() {
            let phone = &mut self.phones[place % PHONES];
            let answer = phone.ask(&question.request).await;
            let answer = answer.map_err(|broken| broken.to_string())?;
            let judged = question.expected.judge(&answer);
            judged.map_err(|wrong| wrong.to_string())?;
        }
        Ok(())
    }

    /// Asks for so long.
    pub(super) async fn asks(&mut self, lasting: Duration, seed: u64) -> Tally {
        let until = Instant::now() + lasting;
        let mut asking = JoinSet::new();
        for (place, phone) in self.phones.drain(..).enumerate() {
            let random = fastrand::Rng::with_seed(seed << 8 | place as u64);
            let questions = Arc::clone(&self.questions);
            let connects_anew = self.comes_anew && place % ANEW == 0;
            asking.spawn(asks(phone, connects_anew, questions, random, until));
        }
        let mut all = Tally::default();
        while let Some(asked) = asking.join_next().await {
            let (phone, tally) = asked.expect("a phone does not panic");
            self.phones.push(phone);
            all.merge(&tally);
        }
        all
    }
}

async fn asks(
    mut phone: Connection,
    connects_anew: bool,
    questions: Arc<[Prepared]>,
    mut random: fastrand::Rng,
    until: Instant,
) -> (Connection, Tally) {
    let mut tally = Tally::default();
    loop {
        if connects_anew {
            phone.close();
        }
        sleep(LOOKS.mul_f64(random.f64() * 2.0)).await;
        let sent = Instant::now();
        if sent >= until {
            return (phone, tally);
        }
        let question = &questions[random.usize(..questions.len())];
        match timeout(PATIENCE, phone.ask(&question.request)).await {
            Err(_) => tally.fails("timeout", || "no answer in 30 seconds".to_owned()),
            Ok(Err(broken)) => tally.fails("connection", || broken.to_string()),
            Ok(Ok(answer)) => match question.expected.judge(&answer) {
                Ok(()) => tally.answers(sent.elapsed(), Duration::ZERO),
                Err(wrong) => tally.fails(wrong.kind(), || wrong.to_string()),
            },
        }
    }
}
