//! `[compression]`: the codings of what is answered from memory.

use super::super::section::{Kind, Section};
use super::super::{Coding, Compression};
use super::{GIB, MIB};

const KIB: u64 = 1 << 10;

const CODING: Kind<Coding> = Kind {
    allowed: "br, zstd, gzip",
    parse: |text| {
        let named = Coding::ALL.into_iter().find(|coding| coding.name() == text);
        named.ok_or_else(|| "is none of the choices".to_owned())
    },
};

pub(super) fn compression(mut section: Section<'_>) -> Option<Compression> {
    let codings = section.list("codings", Coding::ALL.to_vec(), &CODING);
    let min_bytes = section.size("min_bytes", KIB, 64..=MIB);
    let max_bytes = section.size("max_bytes", 32 * MIB, MIB..=64 * GIB);
    section.finish();
    Some(Compression {
        codings: codings?,
        min_bytes: min_bytes?,
        max_bytes: max_bytes?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::Coding;
    use super::super::super::tests::{accepted, refused};

    #[test]
    fn codings_are_known_and_each_is_listed_once() {
        let told = refused(
            "[compression]\ncodings = [\"gzip\", \"deflate\", \"gzip\"]\nmin_bytes = \"63B\"\nmax_bytes = \"1GB\"",
        );
        let faults: Vec<&str> = told.lines().collect();
        assert_eq!(
            faults,
            [
                "edge.toml:2: compression.codings[1]: \"deflate\" is none of the choices; allowed: br, zstd, gzip",
                "edge.toml:2: compression.codings[2]: \"gzip\" repeats compression.codings[0]; allowed: each only once",
                "edge.toml:3: compression.min_bytes: 63B is out of range; allowed: 64B to 1MiB",
                "edge.toml:4: compression.max_bytes: \"1GB\" is not a size; \
                 allowed: a whole number and a unit of B, KiB, MiB or GiB, such as 256MiB",
            ]
        );
    }

    #[test]
    fn no_coding_at_all_turns_it_off() {
        assert_eq!(accepted("compression.codings = []").compression.codings, []);
        let one = accepted("compression.codings = [\"gzip\"]").compression;
        assert_eq!(one.codings, [Coding::Gzip]);
    }
}
