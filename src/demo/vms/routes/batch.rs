//! Batches: which objects are answered, and in which order.
//!
//! Whoever asks is known by now, and the ids have been looked at. An id that is not the user's is left out.

use http::StatusCode;

use super::Outcome;
use crate::demo::vms::answer::Answer;
use crate::demo::vms::endpoint::Endpoint;
use crate::demo::vms::record::SeenBatch;
use crate::demo::vms::validate::Errors;
use crate::demo::vms::world::{CAMERA_OFFSET, Viewer, World, render};

/// In which order a batch is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By id, as Laravel does.
    #[default]
    Ascending,
    /// As the ids were asked for.
    AsAsked,
    /// By id, the highest first.
    Descending,
}

/// Answers a batch whose ids have been looked at.
pub(crate) fn answer(
    world: &World,
    endpoint: Endpoint,
    viewer: Viewer<'_>,
    ids: Result<Vec<i64>, Errors>,
    order: Order,
) -> Outcome {
    let numbers = match ids {
        Ok(numbers) => numbers,
        Err(errors) => return Outcome::Batch(Answer::invalid(&errors), None),
    };
    let mut asked: Vec<u64> = Vec::with_capacity(numbers.len());
    for id in numbers.into_iter().filter_map(|id| u64::try_from(id).ok()) {
        if id > 0 && !asked.contains(&id) {
            asked.push(id);
        }
    }
    let mut answered = asked.clone();
    match order {
        Order::Ascending => answered.sort_unstable(),
        Order::Descending => answered.sort_unstable_by(|a, b| b.cmp(a)),
        Order::AsAsked => {}
    }
    let mut body = Vec::with_capacity(1024 * answered.len());
    body.push(b'[');
    for id in answered {
        let separator_at = body.len();
        let object = match endpoint {
            Endpoint::Intercoms => world.intercom(viewer, id),
            Endpoint::Cameras => id
                .checked_sub(CAMERA_OFFSET)
                .and_then(|id| world.intercom(viewer, id)),
        };
        let Some(object) = object else { continue };
        if separator_at > 1 {
            body.push(b',');
        }
        match endpoint {
            Endpoint::Intercoms => render::intercom(&mut body, &object),
            Endpoint::Cameras => render::camera(&mut body, &object),
        }
    }
    body.push(b']');
    let seen = SeenBatch {
        user: viewer.user,
        device: viewer.device.to_owned(),
        endpoint,
        ids: asked,
    };
    Outcome::Batch(Answer::json(StatusCode::OK, body), Some(seen))
}
