//! In which order the VMS puts the items of an answer, learnt from its own answers.
//!
//! Laravel answers in ascending order of the id, whatever was asked; another VMS, or another version, may answer as
//! asked. Until an answer told, a batch for which the two differ is fetched whole, and teaches.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::config;

/// An order in which items can be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Ascending id.
    Ascending,
    /// As the client asked.
    AsAsked,
}

/// What answers have told so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Ascending,
    AsAsked,
    /// Neither: only the VMS can put items together.
    Neither,
}

/// The order of one batch endpoint, configured or learnt.
#[derive(Debug)]
pub struct Order {
    learns: bool,
    known: AtomicU8,
}

/// Whether an answer agreed with what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It agreed, or told nothing.
    Agrees,
    /// It contradicted: from now on only the VMS puts items together.
    Contradicts,
}

impl Known {
    fn from_u8(known: u8) -> Self {
        match known {
            1 => Self::Ascending,
            2 => Self::AsAsked,
            3 => Self::Neither,
            _ => Self::Nothing,
        }
    }
}

impl Clone for Order {
    /// One that knows as much, and learns by itself from then on.
    fn clone(&self) -> Self {
        Self {
            learns: self.learns,
            known: AtomicU8::new(self.known.load(Ordering::Relaxed)),
        }
    }
}

impl Order {
    /// As configured.
    pub fn new(order: config::Order) -> Self {
        let (learns, known) = match order {
            config::Order::Auto => (true, Known::Nothing),
            config::Order::Id => (false, Known::Ascending),
            config::Order::Request => (false, Known::AsAsked),
        };
        Self {
            learns,
            known: AtomicU8::new(known as u8),
        }
    }

    /// The order in which the VMS would answer `ids`, given in the order asked; `None` if only it can tell.
    pub fn sequence(&self, ids: &[u64]) -> Option<Sequence> {
        match Known::from_u8(self.known.load(Ordering::Relaxed)) {
            Known::Ascending => Some(Sequence::Ascending),
            Known::AsAsked => Some(Sequence::AsAsked),
            Known::Nothing => ids.is_sorted().then_some(Sequence::Ascending),
            Known::Neither => (ids.len() < 2).then_some(Sequence::Ascending),
        }
    }

    /// Whether answers may yet tell it.
    pub fn may_be_learnt(&self) -> bool {
        Known::from_u8(self.known.load(Ordering::Relaxed)) == Known::Nothing
    }

    /// Learns from an answer: `asked` and `answered` in their own orders.
    pub fn learn(&self, asked: &[u64], answered: impl Iterator<Item = u64>) -> Lesson {
        if !self.learns {
            return Lesson::Agrees;
        }
        let answered: Vec<u64> = answered.collect();
        let as_asked = asked.iter().filter(|id| answered.contains(id));
        let told = match (answered.is_sorted(), as_asked.eq(answered.iter())) {
            (true, true) => return Lesson::Agrees,
            (true, false) => Known::Ascending,
            (false, true) => Known::AsAsked,
            (false, false) => Known::Neither,
        };
        let learnt = |before| match Known::from_u8(before) {
            Known::Nothing => told,
            before if before == told => told,
            // What holds one time and not another is no order to rely on.
            _ => Known::Neither,
        };
        let before = self
            .known
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                Some(learnt(before) as u8)
            })
            .unwrap_or_else(|before| before);
        match Known::from_u8(before) {
            Known::Nothing => Lesson::Agrees,
            before if before == learnt(before as u8) => Lesson::Agrees,
            _ => Lesson::Contradicts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(order: &Order, asked: &[u64], answered: &[u64]) -> Lesson {
        order.learn(asked, answered.iter().copied())
    }

    #[test]
    fn until_an_answer_told_only_batches_asked_in_ascending_order_are_put_together() {
        let order = Order::new(config::Order::Auto);
        assert_eq!(order.sequence(&[1, 2]), Some(Sequence::Ascending));
        assert_eq!(order.sequence(&[2, 1]), None);
        assert_eq!(learn(&order, &[1, 2], &[1, 2]), Lesson::Agrees);
        assert_eq!(learn(&order, &[2, 1], &[1]), Lesson::Agrees);
        assert_eq!(order.sequence(&[2, 1]), None);
    }

    #[test]
    fn an_answer_teaches_the_order_it_was_given_in() {
        let order = Order::new(config::Order::Auto);
        assert_eq!(learn(&order, &[3, 9, 1], &[1, 3]), Lesson::Agrees);
        assert_eq!(order.sequence(&[2, 1]), Some(Sequence::Ascending));
        let order = Order::new(config::Order::Auto);
        assert_eq!(learn(&order, &[3, 9, 1], &[3, 1]), Lesson::Agrees);
        assert_eq!(order.sequence(&[2, 1]), Some(Sequence::AsAsked));
    }

    #[test]
    fn a_contradiction_is_noticed_and_leaves_the_order_to_the_vms_for_good() {
        let order = Order::new(config::Order::Auto);
        learn(&order, &[2, 1], &[1, 2]);
        assert_eq!(learn(&order, &[2, 1], &[2, 1]), Lesson::Contradicts);
        assert_eq!(order.sequence(&[1, 2]), None);
        assert_eq!(learn(&order, &[2, 1], &[1, 2]), Lesson::Agrees);
        assert_eq!(order.sequence(&[1, 2]), None);
    }

    #[test]
    fn an_order_of_its_own_is_left_to_the_vms() {
        let order = Order::new(config::Order::Auto);
        learn(&order, &[1, 2, 3], &[2, 3, 1]);
        assert_eq!(order.sequence(&[1, 2]), None);
        assert_eq!(order.sequence(&[1]), Some(Sequence::Ascending));
    }

    #[test]
    fn a_configured_order_is_not_unlearnt() {
        let order = Order::new(config::Order::Id);
        assert_eq!(learn(&order, &[2, 1], &[2, 1]), Lesson::Agrees);
        assert_eq!(order.sequence(&[2, 1]), Some(Sequence::Ascending));
    }
}
