//! Faults planted in the deciding parts, so that the model of `batch` can show that it would find them.
//!
//! `planted!(NoFence)` is `false` in every build but the tests', and there too unless a test plants that fault, or several
//! of which it is one; of several it tells whether any of them is planted. `confused!(FenceOfAnother, user)` is `user`,
//! unless that fault is planted: then it is what stood there just before, as if two requests had been mixed up.
//! `panics!(request, "at hand")` panics in the tests' build on a request that asks for it, on whatever thread.

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

#[cfg(not(test))]
macro_rules! confused {
    ($fault:ident, $value:expr) => {
        $value
    };
}

#[cfg(test)]
macro_rules! confused {
    ($fault:ident, $value:expr) => {
        $crate::planted::confused($crate::planted::Fault::$fault, $value)
    };
}

#[cfg(not(test))]
macro_rules! panics {
    ($request:expr, $place:literal) => {};
}

#[cfg(test)]
macro_rules! panics {
    ($request:expr, $place:literal) => {
        $crate::planted::panic_if_asked($request, $place)
    };
}

#[cfg(test)]
pub(crate) use tests_only::{
    Fault, OF_ISOLATION, OF_USERS, OTHERS, X_PANIC, confused, is, panic_if_asked, with,
};

#[cfg(test)]
mod tests_only {
    use std::any::Any;
    use std::cell::{Cell, RefCell};

    use pingora_http::RequestHeader;

    /// What could go wrong with a promise.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// Marks end nothing that is stored.
        NoFence,
        /// What was at hand or awaited is not looked at again once the rest has come.
        NoSecondLook,
        /// A fetch is dated by its end.
        DatedByItsEnd,
        /// Two users share a key.
        KeyWithoutToken,
        /// Two phones of a user share a key.
        KeyWithoutDevice,
        /// Two languages of a phone share a key.
        KeyWithoutLanguage,
        /// Two kinds of client share a key.
        KeyWithoutClient,
        /// A header that the VMS has named in `Vary` is learnt, and not in the key.
        KeyWithoutLearnt,
        /// Two names of the VMS share a key.
        KeyWithoutHost,
        /// What came by TLS and what did not share a key.
        KeyWithoutScheme,
        /// What a trusted proxy says of the first hop is not in the key.
        KeyWithoutForwarded,
        /// Parameters beside the ids are not in the key.
        KeyWithoutParameters,
        /// Ids in the query and ids in the body share a key, whatever stands beside them.
        KeyWithoutForm,
        /// Two endpoints share a key.
        KeyWithoutEndpoint,
        /// An endpoint that was away finds what it had before.
        KeyWithoutEra,
        /// An answer that differs by what the key does not cover is stored all the same.
        StoresWhatVaries,
        /// A key is taken to cover what was learnt since it was made.
        LearnsBackwards,
        /// Who waits is told an error that may differ by what the key does not cover.
        SharesWhatVaries,
        /// The shelf of another is looked at.
        LooksAtAnother,
        /// A fill is put on the shelf of another.
        FillsAnother,
        /// A fetch carries another's request.
        AsksForAnother,
        /// A batch waits for the fetch of another key.
        WaitsAcrossKeys,
        /// A batch waits for the fetch of another key of its user.
        WaitsAcrossPhones,
        /// Nobody looks for whom it was fetched.
        NoOwnerCheck,
        /// A fill has the header of another.
        HeaderOfAnother,
        /// An answer that was made before is found by the tag of another.
        PlainOfAnother,
        /// The same of a coded one.
        CodedOfAnother,
        /// A client holds an answer if it holds another.
        HoldsAnother,
        /// A tag tells ids, and not whose items.
        TagOfIds,
        /// The tag of what was asked of a shelf last stands for whatever is asked of it.
        TagOfTheLast,
        /// Another user is marked.
        MarksAnother,
        /// Another user's marks are looked at.
        FenceOfAnother,
        /// The refusal of a user ends another's items.
        RefusesAnother,
        /// Nobody is known to have anything stored, so that no refusal ends it.
        KnowsNobody,
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

    /// Faults by which users would be shown what is others', but that it is looked for whom everything was fetched.
    pub(crate) const OF_USERS: &[&[Fault]] = &[
        &[Fault::KeyWithoutToken],
        &[Fault::LooksAtAnother],
        &[Fault::FillsAnother],
        &[Fault::AsksForAnother],
        &[Fault::WaitsAcrossKeys],
    ];

    /// Faults by which somebody is shown what is another's, another phone's, or in another language.
    pub(crate) const OF_ISOLATION: &[&[Fault]] = &[
        &[Fault::KeyWithoutToken, Fault::NoOwnerCheck],
        &[Fault::LooksAtAnother, Fault::NoOwnerCheck],
        &[Fault::FillsAnother, Fault::NoOwnerCheck],
        &[Fault::AsksForAnother, Fault::NoOwnerCheck],
        &[Fault::WaitsAcrossKeys, Fault::NoOwnerCheck],
        &[Fault::KeyWithoutDevice],
        &[Fault::KeyWithoutLanguage],
        &[Fault::KeyWithoutClient],
        &[Fault::KeyWithoutLearnt],
        &[Fault::KeyWithoutHost],
        &[Fault::KeyWithoutScheme],
        &[Fault::KeyWithoutForwarded],
        &[Fault::KeyWithoutParameters],
        &[Fault::KeyWithoutForm],
        &[Fault::KeyWithoutEndpoint],
        &[Fault::LooksAtAnother],
        &[Fault::FillsAnother],
        &[Fault::WaitsAcrossPhones],
        &[Fault::StoresWhatVaries],
        &[Fault::LearnsBackwards],
        &[Fault::SharesWhatVaries],
        &[Fault::HeaderOfAnother],
        &[Fault::PlainOfAnother],
        &[Fault::CodedOfAnother],
        &[Fault::HoldsAnother],
        &[Fault::TagOfIds],
    ];

    /// Faults that break another promise.
    pub(crate) const OTHERS: &[&[Fault]] = &[
        &[Fault::KeyWithoutEra],
        &[Fault::TagOfTheLast],
        &[Fault::KnowsNobody],
        &[Fault::NoFence],
        &[Fault::NoSecondLook],
        &[Fault::DatedByItsEnd],
        &[Fault::MarksAnother],
        &[Fault::FenceOfAnother],
        &[Fault::RefusesAnother],
        &[Fault::TrustsOlder],
        &[Fault::NoCollapse],
        &[Fault::FailsSilently],
        &[Fault::AnswersWithHoles],
        &[Fault::RefusalEndsNothing],
        &[Fault::KeepsTheCondemned],
        &[Fault::NeverExpires],
        &[Fault::StaleAbsences],
        &[Fault::CoversNoFailure],
        &[Fault::IgnoresSoftPurges],
    ];

    thread_local! {
        static PLANTED: Cell<&'static [Fault]> = const { Cell::new(&[]) };
        static BEFORE: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
    }

    /// Whether a fault is planted on this thread.
    pub(crate) fn is(fault: Fault) -> bool {
        PLANTED.get().contains(&fault)
    }

    /// If a fault is planted on this thread, what was given here just before; else what is given.
    pub(crate) fn confused<T: Clone + 'static>(fault: Fault, given: T) -> T {
        if !is(fault) {
            return given;
        }
        let before = BEFORE.replace(Some(Box::new(given.clone())));
        let before = before.and_then(|before| before.downcast().ok());
        before.map_or(given, |before| *before)
    }

    /// Where in its handling a request asks to have a panic.
    pub(crate) const X_PANIC: &str = "x-panic";

    /// Panics if a request asks for it at this place.
    pub(crate) fn panic_if_asked(request: &RequestHeader, place: &str) {
        let asked = request.headers.get(X_PANIC);
        assert!(asked.is_none_or(|asked| asked != place), "planted: {place}");
    }

    /// Does something with faults planted, of which at most one confuses.
    pub(crate) fn with<T>(faults: &'static [Fault], act: impl FnOnce() -> T) -> T {
        PLANTED.set(faults);
        BEFORE.set(None);
        let done = act();
        PLANTED.set(&[]);
        done
    }
}
