//! What Laravel makes of a request before any controller sees it: the path it routes by, the method that counts, the
//! bearer token, and the input that is merged from body and query and then trimmed.
//!
//! The rules are those of Laravel 8 with its default middleware (TrimStrings, ConvertEmptyStringsToNull). Nothing here
//! decides what a request may do.

use std::borrow::Cow;

use http::{HeaderMap, Method, header};
use percent_encoding::percent_decode_str;

use super::php::{Array, Value, json, query};

/// A request's input: the body's members, and the query's where the body has none of that name.
#[derive(Debug)]
pub(crate) struct Input {
    body: Array,
    query: Array,
}

impl Input {
    /// `method` is the one on the wire, not the one that an override puts in its place.
    pub(crate) fn gather(
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
        body: &[u8],
    ) -> Input {
        let content_type = last(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let body = if content_type.contains("/json") || content_type.contains("+json") {
            decode_json(body)
        } else if matches!(*method, Method::GET | Method::HEAD) || !is_form(&content_type) {
            Array::new()
        } else {
            query::parse(body)
        };
        let query = query.unwrap_or_default();
        Input {
            body,
            query: query::parse(query.as_bytes()),
        }
    }

    /// A member as controllers see it: trimmed, and null where nothing is left.
    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        let value = self.body.get_text(name);
        value
            .or_else(|| self.query.get_text(name))
            .cloned()
            .map(clean)
    }

    /// The method that counts: a POST may name another in a header or as the input `_method`.
    pub(crate) fn method(&self, method: &Method, headers: &HeaderMap) -> Method {
        if method != Method::POST {
            return method.clone();
        }
        let named = last(headers, "x-http-method-override")
            .filter(|name| !name.is_empty())
            .or_else(|| match self.get("_method") {
                Some(Value::Text(name)) => String::from_utf8(name).ok().map(Cow::Owned),
                _ => None,
            });
        let named =
            named.and_then(|name| Method::from_bytes(name.to_ascii_uppercase().as_bytes()).ok());
        named.unwrap_or(Method::POST)
    }
}

/// `(array) json_decode(…)`: what is malformed or null is empty, a scalar is a list of one.
fn decode_json(body: &[u8]) -> Array {
    match json::decode(body) {
        Some(Value::Array(array)) => array,
        None | Some(Value::Null) => Array::new(),
        Some(scalar) => {
            let mut array = Array::new();
            array.push(scalar);
            array
        }
    }
}

fn is_form(content_type: &str) -> bool {
    content_type
        .to_ascii_lowercase()
        .starts_with("application/x-www-form-urlencoded")
}

fn clean(value: Value) -> Value {
    match value {
        Value::Text(text) => {
            let is_space =
                |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\0' | b'\x0b');
            match text.iter().position(|byte| !is_space(byte)) {
                Some(start) => {
                    let kept = text.iter().rposition(|byte| !is_space(byte));
                    Value::Text(text[start..=kept.unwrap_or(start)].to_vec())
                }
                None => Value::Null,
            }
        }
        Value::Array(array) => Value::Array(array.map(clean)),
        other => other,
    }
}

/// PHP keeps one value of a repeated field: the last.
pub(crate) fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let value = headers.get_all(name).iter().next_back()?;
    Some(String::from_utf8_lossy(value.as_bytes()))
}

/// `bearerToken()`: what follows the last `Bearer ` of the last Authorization field, up to a comma.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<String> {
    let field = last(headers, header::AUTHORIZATION.as_str())?;
    let (_, token) = field.rsplit_once("Bearer ")?;
    Some(token.split(',').next().unwrap_or_default().to_owned())
}

/// The path that routes are matched with: without front controller and trailing slashes, decoded once.
pub(crate) fn route_path(path: &str) -> Option<String> {
    let inner = match path.strip_prefix("/index.php") {
        Some(inner) if inner.is_empty() || inner.starts_with('/') => inner,
        _ => path,
    };
    let decoded = percent_decode_str(inner.trim_end_matches('/')).decode_utf8();
    decoded.ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_read_as_laravel_reads_it() {
        for (fields, expected) in [
            (vec![], None),
            (vec!["Bearer abc"], Some("abc")),
            (vec!["Bearer abc", "Bearer xyz"], Some("xyz")),
            (vec!["Bearer abc", "Basic x"], None),
            (vec!["Bearer abc,xyz"], Some("abc")),
            (vec!["Basic a, Bearer b"], Some("b")),
            (vec!["bearer abc"], None),
            (vec!["Bearer  abc"], Some(" abc")),
            (vec!["Bearer"], None),
            (vec!["Bearer\tabc"], None),
        ] {
            let mut map = HeaderMap::new();
            for field in &fields {
                map.append(header::AUTHORIZATION, HeaderValue::from_static(field));
            }
            assert_eq!(bearer_token(&map).as_deref(), expected, "{fields:?}");
        }
    }

    #[test]
    fn paths_reach_routes_as_laravel_lets_them() {
        for (path, expected) in [
            ("/api/v1/x", "/api/v1/x"),
            ("/api/v1/x/", "/api/v1/x"),
            ("/api/v1/x//", "/api/v1/x"),
            ("/api/v1/%78", "/api/v1/x"),
            ("/api%2Fv1/x", "/api/v1/x"),
            ("/index.php/api/v1/x", "/api/v1/x"),
            ("/index.phpx", "/index.phpx"),
            ("/api//v1/x", "/api//v1/x"),
            ("/api/v1/%2578", "/api/v1/%78"),
        ] {
            assert_eq!(route_path(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(route_path("/api/%ff"), None);
    }

    #[test]
    fn a_body_counts_by_its_type_and_goes_before_the_query() {
        let ids = |method: Method, content_type, query, body: &str| {
            let headers = headers(&[("content-type", content_type)]);
            let input = Input::gather(&method, &headers, Some(query), body.as_bytes());
            let mut out = Vec::new();
            json::encode(&mut out, &input.get("ids").unwrap_or(Value::Null));
            String::from_utf8(out).unwrap()
        };
        let (get, post) = (Method::GET, Method::POST);
        let json = "application/json; charset=utf-8";
        let form = "application/x-www-form-urlencoded";
        for (method, content_type, query, body, expected) in [
            (&get, json, "ids[]=3", r#"{"ids":[1]}"#, "[1]"),
            (&get, json, "ids[]=3", r#"{"ids":null}"#, "null"),
            (&get, json, "ids[]=3", r#"{"ids":[1"#, r#"["3"]"#),
            (&get, json, "ids[]=3", r#"{"other":1}"#, r#"["3"]"#),
            (&get, json, "ids[]=3", "5", r#"["3"]"#),
            (
                &get,
                "application/vnd.api+json",
                "",
                r#"{"ids":[1]}"#,
                "[1]",
            ),
            (&get, "text/json", "", r#"{"ids":[1]}"#, "[1]"),
            (&get, "application/JSON", "", r#"{"ids":[1]}"#, "null"),
            (&get, form, "ids[]=3", "ids[]=1", r#"["3"]"#),
            (&post, form, "ids[]=3", "ids[]=1", r#"["1"]"#),
            (
                &get,
                json,
                "",
                r#"{"ids":[" 1 ","","\u0000"]}"#,
                r#"["1",null,null]"#,
            ),
            (&get, json, "", r#"{"ids":""}"#, "null"),
        ] {
            assert_eq!(
                ids(method.clone(), content_type, query, body),
                expected,
                "{method} {content_type} {query} {body}"
            );
        }
    }

    #[test]
    fn only_a_post_may_name_another_method() {
        let counted = |method: Method, fields: &[(&'static str, &'static str)], query| {
            let headers = headers(fields);
            Input::gather(&method, &headers, Some(query), b"").method(&method, &headers)
        };
        let field = [("x-http-method-override", "get")];
        assert_eq!(counted(Method::POST, &field, ""), Method::GET);
        assert_eq!(counted(Method::POST, &[], "_method=DELETE"), Method::DELETE);
        assert_eq!(counted(Method::POST, &[], ""), Method::POST);
        assert_eq!(counted(Method::PUT, &field, ""), Method::PUT);
    }
}
