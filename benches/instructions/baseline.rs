//! Counts of a run, as a file that people read, and two of them compared.

use std::fmt;

/// What was counted, by whatever made the program.
pub(crate) struct Baseline {
    pub(crate) made_by: String,
    /// Name and instructions of each part.
    pub(crate) instructions: Vec<(String, u64)>,
}

impl Baseline {
    /// What [`fmt::Display`] has written; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let made_by = lines.next()?.to_owned();
        let instructions = lines.map(|line| {
            let (count, name) = line.trim_start().split_once("  ")?;
            Some((name.to_owned(), count.replace(',', "").parse().ok()?))
        });
        Some(Self {
            made_by,
            instructions: instructions.collect::<Option<_>>()?,
        })
    }

    fn of(&self, name: &str) -> Option<u64> {
        let part = self.instructions.iter().find(|part| part.0 == name);
        part.map(|part| part.1)
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Instructions of each part of a batch.")?;
        writeln!(f, "# `make instructions ACCEPT=1` writes this file.")?;
        writeln!(f, "{}", self.made_by)?;
        for (name, count) in &self.instructions {
            writeln!(f, "{:>9}  {name}", grouped(*count))?;
        }
        Ok(())
    }
}

/// With a comma before every third digit.
fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// How a run stands to the baseline.
pub(crate) struct Compared<'a> {
    before: &'a Baseline,
    now: &'a Baseline,
    tolerance: f64,
}

/// Holds what was counted now against what was accepted.
pub(crate) fn compare<'a>(before: &'a Baseline, now: &'a Baseline, tolerance: f64) -> Compared<'a> {
    Compared {
        before,
        now,
        tolerance,
    }
}

impl Compared<'_> {
    /// Whether something takes more than is allowed, or is not in both; never if another compiler made the program.
    pub(crate) fn has_failed(&self) -> bool {
        let is_worse = |(name, now): &(String, u64)| {
            let ratio = self.ratio(name, *now);
            ratio.is_none_or(|ratio| ratio > self.tolerance)
        };
        self.is_comparable() && (self.now.instructions.iter().any(is_worse) || self.has_lost())
    }

    fn is_comparable(&self) -> bool {
        self.before.made_by == self.now.made_by
    }

    fn has_lost(&self) -> bool {
        let mut names = self.before.instructions.iter().map(|part| &part.0);
        names.any(|name| self.now.of(name).is_none())
    }

    fn ratio(&self, name: &str, now: u64) -> Option<f64> {
        Some(now as f64 / self.before.of(name)? as f64)
    }
}

impl fmt::Display for Compared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "instructions   baseline  ratio")?;
        for (name, now) in &self.now.instructions {
            let (now_told, before) = (grouped(*now), self.before.of(name));
            let before = before.map_or("-".to_owned(), grouped);
            match self.ratio(name, *now) {
                None => writeln!(f, "{now_told:>12}  {before:>9}      -  {name}: new")?,
                Some(ratio) => {
                    let verdict = match ratio {
                        _ if ratio > self.tolerance => ": too many",
                        _ if ratio < 1.0 / self.tolerance => ": fewer",
                        _ => "",
                    };
                    writeln!(
                        f,
                        "{now_told:>12}  {before:>9}  {ratio:.3}  {name}{verdict}"
                    )?;
                }
            }
        }
        if self.has_lost() {
            writeln!(f, "The baseline has parts that are gone.")?;
        }
        if !self.is_comparable() {
            let (before, now) = (&self.before.made_by, &self.now.made_by);
            writeln!(
                f,
                "{before} made the baseline, and {now} this: nothing fails."
            )?;
        }
        if self.has_failed() {
            writeln!(f, "If this is meant: make instructions ACCEPT=1")?;
        }
        Ok(())
    }
}
