//! `[[batch]]`: the requests that the edge takes apart, and how long it remembers.

use std::time::Duration;

use super::super::names::ORDERS;
use super::super::route::{self, ID, IDS, NAME, PATH};
use super::super::section::Section;
use super::super::units::duration_text;
use super::super::{Batch, EndpointId};

const DAY: Duration = Duration::from_secs(86_400);
/// Each has metrics of its own, and a write may reach the items of all.
const MAX_BATCHES: u8 = 16;

/// All `[[batch]]` tables; the default one if there is none.
pub(super) fn batches(top: &mut Section<'_>) -> Option<Vec<Batch>> {
    let sections = top.sections("batch")?;
    if sections.is_empty() {
        return Some(vec![Batch::default()]);
    }
    if sections.len() > usize::from(MAX_BATCHES) {
        let problem = format!("there are {} tables", sections.len());
        return top.refuse(
            "batch",
            problem,
            format!("at most {MAX_BATCHES} [[batch]] tables"),
        );
    }
    let mut batches = Vec::with_capacity(sections.len());
    let mut taken = Taken::default();
    for mut section in sections {
        let path = taken.path(&mut section);
        let name = taken.name(&mut section, path.as_deref());
        batches.push(batch(section, path, name));
    }
    batches.into_iter().collect()
}

/// Paths and names of the tables before, each in its place.
#[derive(Default)]
struct Taken {
    paths: Vec<Option<String>>,
    names: Vec<Option<String>>,
}

impl Taken {
    fn path(&mut self, section: &mut Section<'_>) -> Option<String> {
        let path = section.required_text("path", &PATH);
        if path.is_some()
            && let Some(first) = self.paths.iter().position(|other| *other == path)
        {
            section.fault(
                "path",
                format!("is the path of batch[{first}] too"),
                "each path in one [[batch]] only",
            );
        }
        self.paths.push(path.clone());
        path
    }

    /// The name given, or the one made of the path.
    fn name(&mut self, section: &mut Section<'_>, path: Option<&str>) -> Option<String> {
        let given = section.optional_text("name", &NAME);
        let name = given.and_then(|given| match (given, path.map(route::name_of)) {
            (Some(name), _) | (None, Some(Some(name))) => Some(name),
            (None, Some(None)) => {
                section.refuse("name", "cannot be made of the path", NAME.allowed)
            }
            (None, None) => None,
        });
        let is_repeated = path.is_some_and(|path| {
            self.paths
                .iter()
                .flatten()
                .filter(|other| *other == path)
                .count()
                > 1
        });
        if let Some(name) = &name
            && let Some(first) = self
                .names
                .iter()
                .position(|other| other.as_ref() == Some(name))
            && !is_repeated
        {
            let made = if section.given("name") {
                ""
            } else {
                ", made of the path,"
            };
            section.fault(
                "name",
                format!("{name}{made} is the name of batch[{first}] too"),
                "a name of its own for each [[batch]]",
            );
        }
        self.names.push(name.clone());
        name
    }
}

/// One table; its `path` and `name` have been read.
fn batch(mut section: Section<'_>, path: Option<String>, name: Option<String>) -> Option<Batch> {
    let default = Batch::default();
    let ids = section.text("ids", default.ids, &IDS);
    let id = section.text("id", default.id, &ID);
    let max_ids = section.whole("max_ids", default.max_ids, 1..=1_000);
    let fresh = section.duration("fresh", default.fresh, Duration::ZERO..=DAY);
    let stale_while_revalidate = section.duration(
        "stale_while_revalidate",
        default.stale_while_revalidate,
        Duration::ZERO..=DAY,
    );
    let stale_if_error = section.duration(
        "stale_if_error",
        default.stale_if_error,
        Duration::ZERO..=7 * DAY,
    );
    let absent = section.duration("absent", default.absent, Duration::ZERO..=DAY);
    let jitter = section.fraction("jitter", default.jitter, 0.0..=0.5);
    let order = section.choice("order", default.order, ORDERS);

    if let (Some(revalidate), Some(error)) = (stale_while_revalidate, stale_if_error)
        && error < revalidate
    {
        let default = if section.given("stale_if_error") {
            ""
        } else {
            ", the default,"
        };
        let (revalidate, error) = (duration_text(revalidate), duration_text(error));
        section.fault(
            "stale_if_error",
            format!("{error}{default} is shorter than stale_while_revalidate, although an error is the greater need"),
            format!("{revalidate} or longer"),
        );
    }
    section.finish();
    let path = path?;
    Some(Batch {
        endpoint: EndpointId::of(&path),
        name: name?,
        path,
        ids: ids?,
        id: id?,
        max_ids: max_ids?,
        fresh: fresh?,
        stale_while_revalidate: stale_while_revalidate?,
        stale_if_error: stale_if_error?,
        absent: absent?,
        jitter: jitter?,
        order: order?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{accepted, refused};
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(
            refused("[[batch]]\npath = \"/a\"\n[[batch]]\npath = \"/b\"\nfresh = \"30 sec\""),
            "edge.toml:5: batch[1].fresh: \"30 sec\" is not a duration; \
             allowed: a whole number and a unit, such as 300ms, 30s, 5m, 1h"
        );
        assert_eq!(
            refused("[[batch]]\npath = \"/a\"\nfresh = 30"),
            "edge.toml:3: batch[0].fresh: 30 is an integer, not a string; \
             allowed: a whole number and a unit, such as 300ms, 30s, 5m, 1h"
        );
    }

    #[test]
    fn a_table_must_give_its_path() {
        assert_eq!(
            refused("[[batch]]\nfresh = \"30s\""),
            "edge.toml:1: batch[0].path: is required; \
             allowed: an absolute path of visible ASCII without ? # { } *, such as /api/v1/intercom/shows"
        );
    }

    #[test]
    fn a_path_is_absolute_and_plain() {
        let allowed = "allowed: an absolute path of visible ASCII without ? # { } *, such as /api/v1/intercom/shows";
        for (path, problem) in [
            ("api/v1", "does not begin with /"),
            ("/a?ids=1", "holds '?', which no path can"),
            ("/a#b", "holds '#', which no path can"),
            ("/a b", "holds ' ', which no path can"),
            (
                "/a/{id}",
                "holds a pattern, but a batch path is compared byte for byte",
            ),
        ] {
            assert_eq!(
                refused(&format!("[[batch]]\npath = \"{path}\"")),
                format!("edge.toml:2: batch[0].path: \"{path}\" {problem}; {allowed}")
            );
        }
    }

    #[test]
    fn a_path_belongs_to_one_batch() {
        assert_eq!(
            refused("[[batch]]\npath = \"/a\"\n[[batch]]\npath = \"/b\"\n[[batch]]\npath = \"/a\""),
            "edge.toml:6: batch[2].path: is the path of batch[0] too; allowed: each path in one [[batch]] only"
        );
    }

    #[test]
    fn a_name_belongs_to_one_batch_and_is_made_of_the_path_unless_it_is_given() {
        assert_eq!(
            refused(
                "[[batch]]\npath = \"/v1/a/shows\"\n[[batch]]\npath = \"/v2/a/shows\"\n\
                 [[batch]]\npath = \"/c\"\nname = \"a_shows\""
            ),
            "edge.toml:3: batch[1].name: a_shows, made of the path, is the name of batch[0] too; \
             allowed: a name of its own for each [[batch]]\n\
             edge.toml:7: batch[2].name: a_shows is the name of batch[0] too; \
             allowed: a name of its own for each [[batch]]"
        );
        assert_eq!(
            refused("[[batch]]\npath = \"/\"\n[[batch]]\npath = \"/a\"\nname = \"A b\""),
            "edge.toml:1: batch[0].name: cannot be made of the path; \
             allowed: 1 to 40 lower-case letters, digits and _, such as intercom_shows\n\
             edge.toml:5: batch[1].name: \"A b\" is no name; \
             allowed: 1 to 40 lower-case letters, digits and _, such as intercom_shows"
        );
        let two = "[[batch]]\npath = \"/v1/a/shows\"\n[[batch]]\npath = \"/v2/a/shows\"\nname = \"second\"";
        let batches = accepted(two).batches;
        let names: Vec<_> = batches.iter().map(|batch| &*batch.name).collect();
        assert_eq!(names, ["a_shows", "second"]);
        assert_ne!(batches[0].endpoint, batches[1].endpoint);
    }

    #[test]
    fn tables_are_not_too_many() {
        let tables = |count| -> String {
            let table = |n| format!("[[batch]]\npath = \"/{n}\"\n");
            (0..count).map(table).collect()
        };
        assert_eq!(accepted(&tables(16)).batches.len(), 16);
        assert_eq!(
            refused(&tables(17)),
            "edge.toml:1: batch: there are 17 tables; allowed: at most 16 [[batch]] tables"
        );
    }

    #[test]
    fn parameter_names_are_plain_and_no_credentials() {
        assert_eq!(
            refused("[[batch]]\npath = \"/a\"\nids = \"access_token\"\nid = \"data.id\""),
            "edge.toml:3: batch[0].ids: \"access_token\" names a credential, and a request with one is never answered \
             from memory; allowed: letters, digits, _ and -, such as ids; not token, api_token or access_token\n\
             edge.toml:4: batch[0].id: \"data.id\" holds other characters than letters, digits, _ and -; \
             allowed: letters, digits, _ and -, such as id"
        );
    }

    #[test]
    fn numbers_have_limits() {
        assert_eq!(
            refused(
                "[[batch]]\npath = \"/a\"\nmax_ids = 1001\nfresh = \"25h\"\njitter = 0.6\norder = \"asc\""
            ),
            "edge.toml:3: batch[0].max_ids: 1001 is out of range; allowed: a whole number, 1 to 1000\n\
             edge.toml:4: batch[0].fresh: 25h is out of range; allowed: 0s to 1d\n\
             edge.toml:5: batch[0].jitter: 0.6 is out of range; allowed: a number, 0.0 to 0.5\n\
             edge.toml:6: batch[0].order: \"asc\" is none of the choices; allowed: auto, id, request"
        );
        assert_eq!(
            refused("[[batch]]\npath = \"/a\"\njitter = nan"),
            "edge.toml:3: batch[0].jitter: nan is out of range; allowed: a number, 0.0 to 0.5"
        );
        assert_eq!(
            refused("[[batch]]\npath = \"/a\"\njitter = \"10%\""),
            "edge.toml:3: batch[0].jitter: \"10%\" is a string, not a number; allowed: a number, 0.0 to 0.5"
        );
    }

    #[test]
    fn an_item_is_of_use_for_errors_at_least_as_long_as_for_refreshing() {
        assert_eq!(
            refused("[[batch]]\npath = \"/a\"\nstale_if_error = \"1m\""),
            "edge.toml:3: batch[0].stale_if_error: 1m is shorter than stale_while_revalidate, although an error is \
             the greater need; allowed: 5m or longer"
        );
        assert_eq!(
            refused("[[batch]]\npath = \"/a\"\nstale_while_revalidate = \"1h\""),
            "edge.toml:1: batch[0].stale_if_error: 30m, the default, is shorter than stale_while_revalidate, although \
             an error is the greater need; allowed: 1h or longer"
        );
    }

    #[test]
    fn memory_may_be_turned_off() {
        let off = "[[batch]]\npath = \"/a\"\nfresh = \"0s\"\nstale_while_revalidate = \"0s\"\n\
                   stale_if_error = \"0s\"\nabsent = \"0s\"\njitter = 0";
        let batch = accepted(off).batches.remove(0);
        assert_eq!(
            (batch.fresh, batch.stale_if_error),
            (Duration::ZERO, Duration::ZERO)
        );
        assert_eq!(batch.jitter, 0.0);
    }
}
