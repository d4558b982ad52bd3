//! Which key an operator probably meant by one that does not exist.

/// The known key that was probably meant: at most two slips of the finger away, one if the key is short.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let limit = if key.chars().count() < 5 { 1 } else { 2 };
    known
        .iter()
        .map(|candidate| (distance(key, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: the insertions, removals and replacements that lead from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_insertions_removals_and_replacements() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("fresh", "fresh", 0),
            ("frsh", "fresh", 1),
            ("frehs", "fresh", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn a_suggestion_is_made_only_when_it_is_close() {
        let known = ["listen", "threads", "grace", "id", "ids"];
        assert_eq!(nearest("theads", &known), Some("threads"));
        assert_eq!(nearest("Listen", &known), Some("listen"));
        assert_eq!(nearest("idd", &known), Some("id"));
        assert_eq!(nearest("tls", &known), None);
        assert_eq!(nearest("workers", &known), None);
    }
}
