//! What health checks say of one server: pure counting, which knows neither time nor network.

use crate::config;

/// What the checks of one server have come to.
#[derive(Debug)]
pub struct Health {
    is_healthy: bool,
    /// Results in a row that speak against that.
    against: usize,
    /// How many it takes to turn unhealthy, and healthy again.
    thresholds: [usize; 2],
}

impl Health {
    /// Of a server that was never checked: healthy until it is shown otherwise.
    pub fn new(config: &config::Health) -> Self {
        Self {
            is_healthy: true,
            against: 0,
            thresholds: [config.unhealthy, config.healthy],
        }
    }

    /// Whether the server is to be asked.
    pub fn is_healthy(&self) -> bool {
        self.is_healthy
    }

    /// Takes note of a check; true if that turns the server healthy or unhealthy.
    pub fn note(&mut self, passed: bool) -> bool {
        if passed == self.is_healthy {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < self.thresholds[usize::from(!self.is_healthy)] {
            return false;
        }
        self.is_healthy = passed;
        self.against = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn health(unhealthy: usize, healthy: usize) -> Health {
        Health {
            is_healthy: true,
            against: 0,
            thresholds: [unhealthy, healthy],
        }
    }

    /// The state after each of these results.
    fn after(health: &mut Health, results: &[bool]) -> Vec<bool> {
        let note = |passed: &bool| {
            let before = health.is_healthy();
            assert_eq!(health.note(*passed), before != health.is_healthy());
            health.is_healthy()
        };
        results.iter().map(note).collect()
    }

    #[test]
    fn it_takes_so_many_failures_in_a_row_to_be_unhealthy_and_passes_to_be_healthy_again() {
        let mut health = health(3, 2);
        let failing = [false, false, true, false, false, false];
        assert_eq!(
            after(&mut health, &failing),
            [true, true, true, true, true, false]
        );
        let passing = [true, false, true, true];
        assert_eq!(after(&mut health, &passing), [false, false, false, true]);
    }

    #[test]
    fn a_threshold_of_one_follows_each_result() {
        let results = [false, true, false, false, true];
        assert_eq!(after(&mut health(1, 1), &results), results);
    }

    proptest! {
        #[test]
        fn a_change_has_as_many_results_before_it_as_configured(
            unhealthy in 1..5_usize,
            healthy in 1..5_usize,
            results in prop::collection::vec(any::<bool>(), 0..64),
        ) {
            let mut health = health(unhealthy, healthy);
            for at in 0..results.len() {
                if health.note(results[at]) {
                    let needed = if results[at] { healthy } else { unhealthy };
                    let last = &results[(at + 1).saturating_sub(needed)..=at];
                    prop_assert_eq!(last, vec![results[at]; needed]);
                }
            }
        }
    }
}
