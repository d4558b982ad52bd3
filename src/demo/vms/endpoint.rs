//! The endpoints that answer batches.

/// The two routes that answer many objects at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `GET /api/v1/intercom/shows`
    Intercoms,
    /// `GET /api/v1/cameras/shows`
    Cameras,
}
