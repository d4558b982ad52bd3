//! The body of an operator's request, read strictly: a JSON object of which every member is known and is there once.
//!
//! Nothing of a body is shown again but the names of fields, since it may hold a token.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Why a body is not what it should be. Shows nothing of it but the names of fields.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}; allowed: {allowed}")]
pub struct NotUnderstood {
    field: String,
    reason: String,
    allowed: String,
}

impl NotUnderstood {
    pub(super) fn new(
        field: impl Into<String>,
        reason: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
            allowed: allowed.into(),
        }
    }
}

/// The members of an object as they come, so that none hides another.
pub(super) struct Fields<V = Value>(pub(super) Vec<(String, V)>);

impl<V: DeserializeOwned> Fields<V> {
    /// Those of `body`; they must be one object, such as `example`, and none may be there twice.
    ///
    /// # Errors
    ///
    /// What it is instead.
    pub(super) fn read(body: &[u8], example: &str) -> Result<Self, NotUnderstood> {
        let Ok(Self(fields)) = serde_json::from_slice(body) else {
            let example = format!("an object such as {example}");
            return Err(NotUnderstood::new(
                "the body",
                "is not a JSON object",
                example,
            ));
        };
        let mut seen = HashSet::with_capacity(fields.len());
        for (name, _) in &fields {
            if !seen.insert(name) {
                let name = shown(name);
                return Err(NotUnderstood::new(
                    name,
                    "is given twice",
                    "each field once",
                ));
            }
        }
        Ok(Self(fields))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Fields<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
            type Value = Fields<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<V>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// The name of a field that may be anything, even a token.
pub(super) fn shown(name: &str) -> String {
    let is_word = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match is_word && (1..=16).contains(&name.len()) {
        true => name.to_owned(),
        false => "a field".to_owned(),
    }
}
