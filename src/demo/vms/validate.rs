//! Laravel's validation of what a batch asks for: `ids: required|array|max:25`, `ids.*: integer`.
//!
//! The outcome is either the ids, or the errors in the order in which Laravel's validator finds them.

use super::php::{self, Array, Value};

/// How many ids a batch may hold, repeats counted.
pub(crate) const MAX_IDS: usize = 25;

/// What is wrong with a request, field by field, in Laravel's order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Errors(pub(crate) Vec<(String, Vec<String>)>);

impl Errors {
    pub(crate) fn one(field: &str, message: String) -> Errors {
        Errors(vec![(field.to_owned(), vec![message])])
    }
}

/// The ids as integers, in the order asked, repeats kept.
pub(crate) fn ids(value: Option<Value>) -> Result<Vec<i64>, Errors> {
    let ids = match value {
        None | Some(Value::Null) => return Err(required()),
        Some(Value::Array(ids)) if ids.is_empty() => return Err(required()),
        Some(Value::Array(ids)) => ids,
        Some(scalar) => return Err(not_an_array(&scalar)),
    };
    let mut errors = Errors::default();
    if ids.len() > MAX_IDS {
        errors.0.push(("ids".to_owned(), vec![too_many()]));
    }
    let mut numbers = Vec::with_capacity(ids.len());
    let (nested, flat): (Vec<_>, Vec<_>) = ids.iter().partition(|entry| is_nested(&entry.1));
    // Laravel flattens the data to find the elements, and adds those that hold elements of their own at the end.
    for (key, value) in flat.into_iter().chain(nested) {
        match php::filter_int(value) {
            Some(number) => numbers.push(number),
            None => {
                let field = format!("ids.{}", String::from_utf8_lossy(&key.to_bytes()));
                let message = format!("The {field} must be an integer.");
                errors.0.push((field, vec![message]));
            }
        }
    }
    if errors.0.is_empty() {
        Ok(numbers)
    } else {
        Err(errors)
    }
}

fn required() -> Errors {
    Errors::one("ids", "The ids field is required.".to_owned())
}

fn too_many() -> String {
    format!("The ids may not have more than {MAX_IDS} items.")
}

/// The size of a scalar that is no array is its length as text, and that is checked too.
fn not_an_array(scalar: &Value) -> Errors {
    let length = match scalar {
        Value::Text(text) => String::from_utf8_lossy(text).chars().count(),
        _ => 0,
    };
    let mut errors = Errors::one("ids", "The ids must be an array.".to_owned());
    if length > MAX_IDS {
        errors.0[0].1.push(too_many());
    }
    errors
}

fn is_nested(value: &Value) -> bool {
    matches!(value, Value::Array(array) if !Array::is_empty(array))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::vms::input::Input;
    use http::{HeaderMap, HeaderValue, Method};

    fn asked(query: &str, body: &str) -> Result<Vec<i64>, Errors> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let input = Input::gather(&Method::GET, &headers, Some(query), body.as_bytes());
        ids(input.get("ids"))
    }

    fn fields(query: &str, body: &str) -> Vec<String> {
        let errors = asked(query, body).expect_err("the ids are wrong");
        errors.0.into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn good_ids_are_taken_as_integers() {
        for (query, body, expected) in [
            ("ids[]=2&ids[]=1&ids[]=2", "", vec![2, 1, 2]),
            (
                "ids[]=%201&ids[]=%2B2&ids[]=-3&ids[]=0",
                "",
                vec![1, 2, -3, 0],
            ),
            ("ids[]=1%00", "", vec![1]),
            ("ids[a]=1&ids[7]=2", "", vec![1, 2]),
            (
                "",
                r#"{"ids":[1.0,true,"3",-0,1e2]}"#,
                vec![1, 1, 3, 0, 100],
            ),
            ("", r#"{"ids":{"x":5}}"#, vec![5]),
        ] {
            assert_eq!(asked(query, body), Ok(expected), "{query} {body}");
        }
    }

    #[test]
    fn wrong_ids_are_named_one_by_one_in_laravels_order() {
        for (query, body, expected) in [
            ("", "", vec!["ids"]),
            ("ids=", "", vec!["ids"]),
            ("ids=1", "", vec!["ids"]),
            ("ids[]=", "", vec!["ids.0"]),
            ("ids[]=x&ids[]=1&ids[]=007", "", vec!["ids.0", "ids.2"]),
            ("ids[a]=x&ids[5]=y", "", vec!["ids.a", "ids.5"]),
            ("ids[0][x]=1&ids[1]=x", "", vec!["ids.1", "ids.0"]),
            (
                "",
                r#"{"ids":[null,false,1.5,[],{},[1],1e14]}"#,
                vec![
                    "ids.0", "ids.1", "ids.2", "ids.3", "ids.4", "ids.6", "ids.5",
                ],
            ),
        ] {
            assert_eq!(fields(query, body), expected, "{query} {body}");
        }
    }

    #[test]
    fn too_many_ids_are_one_error_beside_the_others() {
        let query = "ids[]=1&".repeat(25) + "ids[]=x";
        assert_eq!(fields(&query, ""), ["ids", "ids.25"]);
        let long = format!("ids={}", "1".repeat(26));
        let errors = asked(&long, "").expect_err("text is no array");
        let messages = [
            "The ids must be an array.",
            "The ids may not have more than 25 items.",
        ];
        assert_eq!(errors.0[0].1, messages);
        assert_eq!(asked(&"ids[]=1&".repeat(25), ""), Ok(vec![1; 25]));
    }
}
