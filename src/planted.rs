//! Faults planted in the deciding parts, so that the model of `batch` can show that it would find them.
//!
//! `planted!(NoFence)` is `false` in every build but the tests', and there too unless a test plants that fault, or one of
//! several.

#[cfg(not(test))]
macro_rules! planted {
    ($($fault:ident),+) => {
        false
    };
}

#[cfg(test)]
macro_rules! planted {
    ($($fault:ident),+) => {
        ($($crate::planted::is($crate::planted::Fault::$fault))||+)
    };
}

#[cfg(test)]
pub(crate) use tests_only::{ALL, Fault, is, with};

#[cfg(test)]
mod tests_only {
    use std::cell::Cell;

    /// What could go wrong with a promise.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// Marks end nothing that is stored.
        NoFence,
        /// What was at hand or awaited is not looked at again once the rest has come.
        NoSecondLook,
        /// A fetch is dated by its end.
        DatedByItsEnd,
        /// Two phones of a user share a key.
        KeyWithoutDevice,
        /// Two users share a key, and nobody looks for whom an item was fetched.
        KeyWithoutToken,
        /// Two users share a key, and that is all.
        KeyWithoutTokenAlone,
        /// A batch waits for the fetch of another key.
        WaitsAcrossKeys,
        /// A batch waits for a fetch that began before a mark, and trusts it.
        TrustsOlder,
        /// Nobody ever waits: each fetches for himself.
        NoCollapse,
        /// A fetch that fails tells nobody.
        FailsSilently,
        /// An answer is given although something asked for is lacking.
        AnswersWithHoles,
        /// 401 and 403 end nothing.
        RefusalEndsNothing,
        /// What is in the air when its user is refused is kept.
        KeepsTheCondemned,
        /// What is stored never gets too old.
        NeverExpires,
        /// An absence is answered as long as a stale item.
        StaleAbsences,
        /// Failures are not covered by what is stale.
        CoversNoFailure,
        /// A soft purge changes nothing.
        IgnoresSoftPurges,
    }

    /// All of them that break a promise.
    pub(crate) const ALL: &[Fault] = &[
        Fault::NoFence,
        Fault::NoSecondLook,
        Fault::DatedByItsEnd,
        Fault::KeyWithoutDevice,
        Fault::KeyWithoutToken,
        Fault::WaitsAcrossKeys,
        Fault::TrustsOlder,
        Fault::NoCollapse,
        Fault::FailsSilently,
        Fault::AnswersWithHoles,
        Fault::RefusalEndsNothing,
        Fault::KeepsTheCondemned,
        Fault::NeverExpires,
        Fault::StaleAbsences,
        Fault::CoversNoFailure,
        Fault::IgnoresSoftPurges,
    ];

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Whether a fault is planted on this thread.
    pub(crate) fn is(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// Does something with a fault planted.
    pub(crate) fn with<T>(fault: Fault, act: impl FnOnce() -> T) -> T {
        PLANTED.set(Some(fault));
        let done = act();
        PLANTED.set(None);
        done
    }
}
