//! `[[invalidate]]`: the writes that make items stale.

use http::Method;

use super::super::route::{PATH, PATTERN};
use super::super::section::{Kind, Section};
use super::super::{Batch, EndpointId, Invalidate, PathPattern, Scopes};

const METHODS: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

const METHOD: Kind<Method> = Kind {
    allowed: "POST, PUT, PATCH, DELETE",
    parse: |text| match METHODS.into_iter().find(|method| method.as_str() == text) {
        Some(method) => Ok(method),
        None if Method::from_bytes(text.as_bytes()).is_ok_and(|method| method.is_safe()) => {
            Err("is a safe method, which changes nothing".to_owned())
        }
        None => Err("is not a method that writes".to_owned()),
    },
};

/// What one word of `scope` stands for.
#[derive(Clone, Copy, PartialEq)]
enum Scope {
    User,
    Item,
    All,
}

const SCOPE: Kind<Scope> = Kind {
    allowed: "user, item, or all by itself",
    parse: |text| match text {
        "user" => Ok(Scope::User),
        "item" => Ok(Scope::Item),
        "all" => Ok(Scope::All),
        _ => Err("is none of the choices".to_owned()),
    },
};

/// All `[[invalidate]]` tables; `batches` are the `[[batch]]` tables, if they have no fault.
pub(super) fn rules(top: &mut Section<'_>, batches: Option<&[Batch]>) -> Option<Vec<Invalidate>> {
    let mut rules: Vec<Option<Invalidate>> = Vec::new();
    for section in top.sections("invalidate")? {
        let rule = rule(section, &rules, batches);
        rules.push(rule);
    }
    rules.into_iter().collect()
}

fn rule(
    mut section: Section<'_>,
    earlier: &[Option<Invalidate>],
    batches: Option<&[Batch]>,
) -> Option<Invalidate> {
    let methods = section.filled_list("methods", METHODS.to_vec(), &METHOD);
    let path = section.required_text("path", &PATTERN);
    let scopes = section.required_list("scope", &SCOPE);
    let scope = scopes.and_then(|scopes| scope(&section, &scopes, path.as_ref()));
    let batch = section
        .optional_text("batch", &PATH)
        .and_then(|batch| match batch {
            Some(batch) => whose(&section, &batch, scope, batches).map(Some),
            None => Some(None),
        });
    if let (Some(methods), Some(path)) = (&methods, &path)
        && let Some((first, method, other)) = repeated(methods, path, earlier)
    {
        let same = match path == other {
            true => String::new(),
            false => format!(" as {other}, which matches the same paths"),
        };
        section.fault(
            "path",
            format!("{method} {path} is in invalidate[{first}] already{same}"),
            "each method and path in one [[invalidate]] only",
        );
    }
    section.finish();
    Some(Invalidate {
        methods: methods?,
        path: path?,
        scope: scope?,
        batch: batch?,
    })
}

/// The endpoint whose path `batch` is.
fn whose(
    section: &Section<'_>,
    batch: &str,
    scope: Option<Scopes>,
    batches: Option<&[Batch]>,
) -> Option<EndpointId> {
    if !scope?.item {
        return section.refuse(
            "batch",
            "says whose ids {id} is one of, and the scope is not item",
            "only together with item in scope",
        );
    }
    match batches?.iter().find(|known| known.path == batch) {
        Some(known) => Some(known.endpoint),
        None => {
            let paths: Vec<_> = batches?.iter().map(|batch| &*batch.path).collect();
            let problem = format!("{batch:?} is the path of no [[batch]]");
            section.refuse("batch", problem, paths.join(", "))
        }
    }
}

fn scope(section: &Section<'_>, scopes: &[Scope], path: Option<&PathPattern>) -> Option<Scopes> {
    if scopes.contains(&Scope::All) && scopes.len() > 1 {
        return section.refuse(
            "scope",
            "all covers user and item, so the others say nothing",
            r#"["all"], or a list of user and item"#,
        );
    }
    let item = scopes.contains(&Scope::Item);
    if item && path.is_some_and(|path| !path.names_item()) {
        return section.refuse(
            "scope",
            "item needs to know which item, and the path has no {id}",
            "item only with a path such as /api/v1/intercom/{id}",
        );
    }
    Some(Scopes {
        user: scopes.contains(&Scope::User),
        item,
        all: scopes.contains(&Scope::All),
    })
}

/// The first earlier rule for the same paths and one of the same methods.
fn repeated<'m, 'e>(
    methods: &'m [Method],
    path: &PathPattern,
    earlier: &'e [Option<Invalidate>],
) -> Option<(usize, &'m Method, &'e PathPattern)> {
    earlier.iter().enumerate().find_map(|(index, rule)| {
        let rule = rule.as_ref().filter(|rule| rule.path.is_same(path))?;
        let method = methods
            .iter()
            .find(|method| rule.methods.contains(method))?;
        Some((index, method, &rule.path))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{accepted, refused};
    use super::*;

    #[test]
    fn a_rule_without_methods_is_about_every_write() {
        let rules =
            accepted("[[invalidate]]\npath = \"/a/{id}\"\nscope = [\"user\", \"item\"]").invalidate;
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].methods, METHODS);
        assert_eq!(rules[0].path.to_string(), "/a/{id}");
        let expected = Scopes {
            user: true,
            item: true,
            all: false,
        };
        assert_eq!(rules[0].scope, expected);
    }

    #[test]
    fn a_rule_is_about_writes_only() {
        assert_eq!(
            refused(
                "[[invalidate]]\nmethods = [\"GET\", \"post\", \"POST\"]\npath = \"/a\"\nscope = [\"user\"]"
            ),
            "edge.toml:2: invalidate[0].methods[0]: \"GET\" is a safe method, which changes nothing; \
             allowed: POST, PUT, PATCH, DELETE\n\
             edge.toml:2: invalidate[0].methods[1]: \"post\" is not a method that writes; \
             allowed: POST, PUT, PATCH, DELETE"
        );
        assert_eq!(
            refused("[[invalidate]]\nmethods = []\npath = \"/a\"\nscope = [\"user\"]"),
            "edge.toml:2: invalidate[0].methods: the list is empty; allowed: at least one of: POST, PUT, PATCH, DELETE"
        );
    }

    #[test]
    fn a_rule_needs_a_path_and_a_scope() {
        assert_eq!(
            refused("\n[[invalidate]]"),
            "edge.toml:2: invalidate[0].path: is required; allowed: an absolute path whose segments are fixed, {name} \
             for any one segment, or ** at the end for any rest, such as /api/v1/intercom/{id}\n\
             edge.toml:2: invalidate[0].scope: is required; allowed: a list of: user, item, or all by itself"
        );
        assert_eq!(
            refused("[[invalidate]]\npath = \"/a//b\"\nscope = []"),
            "edge.toml:2: invalidate[0].path: \"/a//b\" has an empty segment, so it would never match; \
             allowed: an absolute path whose segments are fixed, {name} for any one segment, or ** at the end for any \
             rest, such as /api/v1/intercom/{id}\n\
             edge.toml:3: invalidate[0].scope: the list is empty; \
             allowed: at least one of: user, item, or all by itself"
        );
    }

    #[test]
    fn scopes_do_not_contradict_each_other_or_the_path() {
        assert_eq!(
            refused("[[invalidate]]\npath = \"/a\"\nscope = [\"all\", \"user\"]"),
            "edge.toml:3: invalidate[0].scope: all covers user and item, so the others say nothing; \
             allowed: [\"all\"], or a list of user and item"
        );
        assert_eq!(
            refused("[[invalidate]]\npath = \"/a/{item}\"\nscope = [\"item\"]"),
            "edge.toml:3: invalidate[0].scope: item needs to know which item, and the path has no {id}; \
             allowed: item only with a path such as /api/v1/intercom/{id}"
        );
        assert_eq!(
            refused("[[invalidate]]\npath = \"/a\"\nscope = [\"everyone\", \"user\", \"user\"]"),
            "edge.toml:3: invalidate[0].scope[0]: \"everyone\" is none of the choices; \
             allowed: user, item, or all by itself\n\
             edge.toml:3: invalidate[0].scope[2]: \"user\" repeats invalidate[0].scope[1]; allowed: each only once"
        );
    }

    #[test]
    fn a_method_and_path_have_one_rule() {
        assert_eq!(
            refused(
                "[[invalidate]]\nmethods = [\"PUT\"]\npath = \"/a\"\nscope = [\"user\"]\n\
                 [[invalidate]]\nmethods = [\"POST\", \"PUT\"]\npath = \"/a\"\nscope = [\"all\"]"
            ),
            "edge.toml:7: invalidate[1].path: PUT /a is in invalidate[0] already; \
             allowed: each method and path in one [[invalidate]] only"
        );
    }

    #[test]
    fn patterns_that_match_the_same_paths_have_one_rule() {
        let two = |first: &str, second: &str| {
            refused(&format!(
                "[[invalidate]]\npath = \"{first}\"\nscope = [\"user\"]\n\
                 [[invalidate]]\npath = \"{second}\"\nscope = [\"all\"]"
            ))
        };
        assert_eq!(
            two("/a/{id}", "/A/{camera}"),
            "edge.toml:5: invalidate[1].path: POST /A/{camera} is in invalidate[0] already as /a/{id}, which matches \
             the same paths; allowed: each method and path in one [[invalidate]] only"
        );
        let overlapping = "[[invalidate]]\npath = \"/a/**\"\nscope = [\"all\"]\n\
                           [[invalidate]]\npath = \"/a/{id}\"\nscope = [\"user\"]";
        assert_eq!(accepted(overlapping).invalidate.len(), 2, "they add up");
    }

    #[test]
    fn the_ids_of_a_rule_belong_to_a_batch_that_is_there() {
        let rule = |scope: &str, batch: &str| {
            format!(
                "[[batch]]\npath = \"/a\"\n[[batch]]\npath = \"/b\"\n\
                 [[invalidate]]\npath = \"/x/{{id}}\"\nscope = [{scope}]\nbatch = \"{batch}\""
            )
        };
        let accepted = accepted(&rule("\"item\"", "/b")).invalidate.remove(0);
        assert_eq!(accepted.batch, Some(EndpointId::of("/b")));
        assert_eq!(
            refused(&rule("\"item\", \"user\"", "/c")),
            "edge.toml:8: invalidate[0].batch: \"/c\" is the path of no [[batch]]; allowed: /a, /b"
        );
        assert_eq!(
            refused(&rule("\"user\"", "/a")),
            "edge.toml:8: invalidate[0].batch: says whose ids {id} is one of, and the scope is not item; \
             allowed: only together with item in scope"
        );
    }
}
