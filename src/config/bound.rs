//! How long a revoked token may still be answered from memory, as the configuration has it.
//!
//! Nothing tells the edge that a token was revoked, unless a request that it passes on is refused. So what it fetched with
//! the token before answers for as long as it would have answered anyway.

use std::fmt::{self, Display};
use std::time::Duration;

use super::units::duration_text;
use super::{Batch, Config};

/// The longest times for which a revoked token is still answered from memory, over all `[[batch]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// While the VMS answers.
    pub usual: Bound,
    /// While the VMS fails.
    pub failing: Bound,
}

/// A time, and the keys that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// No answer is made of what was fetched so long ago.
    pub time: Duration,
    /// The keys whose values add up to it, as the file names them.
    pub keys: Vec<String>,
}

impl Config {
    /// How long a revoked token may still be answered from memory.
    pub fn revocation(&self) -> Revocation {
        Revocation {
            usual: self.longest(|batch| {
                let item = [
                    ("fresh", batch.fresh),
                    ("stale_while_revalidate", batch.stale_while_revalidate),
                ];
                // An absence is never answered stale.
                [item.to_vec(), vec![("absent", batch.absent)]]
            }),
            failing: self.longest(|batch| {
                let if_error = ("stale_if_error", batch.stale_if_error);
                [("fresh", batch.fresh), ("absent", batch.absent)]
                    .map(|lifetime| vec![lifetime, if_error])
            }),
        }
    }

    /// The longest sum that `sums` has of any batch; of equal ones the first.
    fn longest(&self, sums: impl Fn(&Batch) -> [Vec<(&'static str, Duration)>; 2]) -> Bound {
        let bound = |(index, sum): (usize, Vec<(&'static str, Duration)>)| Bound {
            time: sum.iter().map(|(_, time)| *time).sum(),
            keys: sum
                .iter()
                .map(|(key, _)| format!("batch[{index}].{key}"))
                .collect(),
        };
        let of = |(index, batch)| sums(batch).map(|sum| bound((index, sum)));
        let bounds = self.batches.iter().enumerate().flat_map(of);
        let longest = bounds.reduce(|longest, next| {
            if next.time > longest.time {
                next
            } else {
                longest
            }
        });
        let longest = longest.expect("there is at least one batch");
        // What was under way answers too, whatever the windows are.
        let in_flight = self.upstream.longest_fetch();
        match longest.time < in_flight {
            true => Bound {
                time: in_flight,
                keys: ["connect_timeout", "fetch_timeout"]
                    .map(|key| format!("upstream.{key}"))
                    .to_vec(),
            },
            false => longest,
        }
    }
}

impl Display for Revocation {
    /// As comments that may follow a configuration file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# A revoked token may be answered from memory until what was fetched with it is this old:"
        )?;
        writeln!(f, "#   {} while the VMS answers", self.usual)?;
        writeln!(f, "#   {} while the VMS fails", self.failing)
    }
}

impl Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})",
            duration_text(self.time),
            self.keys.join(" + ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::accepted;

    #[test]
    fn the_bound_is_told_with_the_keys_that_it_comes_from() {
        assert_eq!(
            accepted("").revocation().to_string(),
            "# A revoked token may be answered from memory until what was fetched with it is this old:\n\
             #   330s (batch[0].fresh + batch[0].stale_while_revalidate) while the VMS answers\n\
             #   1830s (batch[0].fresh + batch[0].stale_if_error) while the VMS fails\n"
        );
    }

    #[test]
    fn the_longest_of_all_batches_counts() {
        let two = "[[batch]]\npath = \"/a\"\nabsent = \"10m\"\n[[batch]]\npath = \"/b\"\nfresh = \"1m\"\nstale_if_error = \"2h\"";
        let revocation = accepted(two).revocation();
        assert_eq!(revocation.usual.to_string(), "10m (batch[0].absent)");
        assert_eq!(
            revocation.failing.to_string(),
            "121m (batch[1].fresh + batch[1].stale_if_error)"
        );
    }

    #[test]
    fn what_is_printed_after_a_configuration_leaves_it_as_it_is() {
        let config = accepted("");
        let printed = format!("{}\n{}", config.effective(), config.revocation());
        assert_eq!(accepted(&printed), config);
    }
}
