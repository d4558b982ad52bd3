//! Durations and sizes as the file spells them: a whole number and a unit, nothing between them.
//!
//! Parsing what was printed gives the value back, and what is printed uses the largest unit that loses nothing.
//! Numbers too large for the type saturate, so that it is the caller's range that refuses them.

use std::time::Duration;

/// What a duration looks like, for messages.
pub(super) const DURATION: &str = "a whole number and a unit, such as 300ms, 30s, 5m, 1h";
/// What a size looks like, for messages.
pub(super) const SIZE: &str = "a whole number and a unit of B, KiB, MiB or GiB, such as 256MiB";

/// Units with their milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units with their bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Reads `300ms`, `30s`, `5m`, `2h` or `1d`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// Writes a duration as [`parse_duration`] reads it. The file knows nothing finer than a millisecond.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    text(millis, &DURATION_UNITS)
}

/// Reads `256MiB`, `64KiB`, `1GiB` or `1048576B`, in bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// Writes a number of bytes as [`parse_size`] reads it.
pub(super) fn size_text(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    text(bytes, &SIZE_UNITS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit_start = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_start);
    if number.is_empty() {
        return None;
    }
    let &(_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    // All digits, so the one thing that can go wrong is that there are too many of them.
    let number = number.parse().unwrap_or(u64::MAX);
    Some(number.saturating_mul(factor))
}

fn text(amount: u64, units: &[(&str, u64)]) -> String {
    let (unit, factor) = units
        .iter()
        .find(|(_, factor)| amount.is_multiple_of(*factor))
        .expect("the last unit is 1, which divides everything");
    format!("{}{unit}", amount / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, millis) in [
            ("300ms", 300),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn nothing_else_is_a_duration() {
        for text in [
            "", "s", "30", "30 s", " 30s", "30s ", "30sec", "1.5s", "-1s", "+1s", "30S", "1h30m",
            "٣s", "1µs",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_and_a_binary_unit() {
        for (text, bytes) in [
            ("1B", 1),
            ("64KiB", 65_536),
            ("256MiB", 268_435_456),
            ("2GiB", 1 << 31),
        ] {
            assert_eq!(parse_size(text), Some(bytes));
        }
        for text in [
            "", "256", "256MB", "256M", "256mib", "0.5GiB", "1 GiB", "MiB",
        ] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_too_large_for_the_type_becomes_the_largest_value() {
        assert_eq!(parse_size("99999999999999999999999GiB"), Some(u64::MAX));
        assert_eq!(
            parse_duration("18446744073709551615d"),
            Some(Duration::from_millis(u64::MAX))
        );
    }

    #[test]
    fn the_largest_exact_unit_is_printed() {
        assert_eq!(duration_text(Duration::from_secs(90)), "90s");
        assert_eq!(duration_text(Duration::from_secs(120)), "2m");
        assert_eq!(duration_text(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(duration_text(Duration::ZERO), "0s");
        assert_eq!(size_text(3 << 20), "3MiB");
        assert_eq!(size_text((1 << 20) + 1), "1048577B");
    }

    proptest! {
        #[test]
        fn a_printed_duration_is_read_back_the_same(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
        }

        #[test]
        fn a_printed_size_is_read_back_the_same(bytes: u64) {
            prop_assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
        }

        #[test]
        fn every_number_and_unit_survives_a_reading_and_a_printing(
            number in 0..1_000_000_u64,
            unit in prop::sample::select(vec!["ms", "s", "m", "h", "d"]),
        ) {
            let read = parse_duration(&format!("{number}{unit}")).expect("a number and a unit");
            prop_assert_eq!(parse_duration(&duration_text(read)), Some(read));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
