//! Ids in a JSON body.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::canonical;
use crate::config;
use crate::request::decline::{Bypass, is_credential};

/// The ids of a JSON body, and its other members as they came.
pub(super) fn read(body: &[u8], batch: &config::Batch) -> Result<(Vec<u64>, Vec<u8>), Bypass> {
    let Members(members) = serde_json::from_slice(body).map_err(|_| Bypass::Body)?;
    let mut ids = None;
    let mut names = HashSet::new();
    let mut others = Vec::new();
    for (name, value) in &members {
        if is_credential(name) {
            return Err(Bypass::Credential);
        }
        if !names.insert(name) {
            return Err(Bypass::Body);
        }
        if *name == batch.ids {
            ids = Some(read_list(value.get(), batch.max_ids)?);
            continue;
        }
        if !others.is_empty() {
            others.push(b',');
        }
        serde_json::to_writer(&mut others, name).expect("writing a string to a Vec cannot fail");
        others.push(b':');
        others.extend_from_slice(value.get().as_bytes());
    }
    Ok((ids.ok_or(Bypass::Ids)?, others))
}

fn read_list(list: &str, max_ids: usize) -> Result<Vec<u64>, Bypass> {
    let values: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| Bypass::Ids)?;
    if values.len() > max_ids {
        return Err(Bypass::Ids);
    }
    let read = |value: &&RawValue| {
        let text = value.get().as_bytes();
        let digits = match text {
            [b'"', inner @ .., b'"'] => inner,
            _ => text,
        };
        canonical(digits).ok_or(Bypass::Ids)
    };
    values.iter().map(read).collect()
}

/// The members of a JSON object in their order, each value as it came.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
