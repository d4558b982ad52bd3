//! The VMS's routes and what they answer from memory; streams and upgrades are the server's.
//!
//! Routes are matched as Laravel does: by path first, then by method, and only then is anyone asked for a token.

use http::{HeaderMap, Method, StatusCode, header};

pub use batch::Order;

pub(crate) mod batch;

use super::answer::Answer;
use super::endpoint::Endpoint;
use super::input::{self, Input};
use super::php::{self, Value, json};
use super::record::SeenBatch;
use super::validate::{self, Errors};
use super::world::{CAMERA_OFFSET, Change, Viewer, World, render};

#[derive(Debug, PartialEq)]
pub(crate) enum Route {
    Batch(Endpoint),
    List,
    Intercom(u64),
    Favourites(u64),
    Logout,
    User,
    Static,
    Stream(u64),
    Echo,
    WebSocket,
}

/// One request, its body complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// What a call comes to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Answer),
    Batch(Answer, Option<SeenBatch>),
    /// So many chunks, one at each step.
    Stream(u64),
}

/// Answers everything that needs no more than the world and the call.
pub(crate) fn answer(world: &World, call: Call<'_>, order: Order) -> Outcome {
    let input = Input::gather(call.method, call.headers, call.query, call.body);
    let method = input.method(call.method, call.headers);
    let route = match resolve(call.path, &method) {
        Ok(route) => route,
        Err(answer) => return Outcome::Answer(*answer),
    };
    let token = input::bearer_token(call.headers);
    let user = token.as_deref().and_then(|token| world.user_of(token));
    let (user, token) = match (&route, user, token) {
        (Route::Static, _, _) => {
            let body = &br#"{"name":"VMS","version":"24.12"}"#[..];
            return Outcome::Answer(Answer::json(StatusCode::OK, body));
        }
        (_, Some(user), Some(token)) => (user, token),
        (Route::Batch(_), _, _) => return Outcome::Batch(Answer::unauthenticated(), None),
        _ => return Outcome::Answer(Answer::unauthenticated()),
    };
    let (device, language) = (device(call.headers), language(call.headers, Some(&input)));
    let viewer = Viewer {
        user,
        device: &device,
        language: &language,
        others: &others(call.headers),
    };
    Outcome::Answer(match route {
        Route::Batch(endpoint) => {
            let ids = validate::ids(input.get("ids"));
            return batch::answer(world, endpoint, viewer, ids, order);
        }
        Route::Stream(chunks) => return Outcome::Stream(chunks),
        Route::List => list(world, viewer),
        Route::Intercom(id) => intercom(world, viewer, &method, id, &input),
        Route::Favourites(camera) => favourites(world, viewer, &method, camera),
        Route::Logout => {
            world.revoke(&token);
            Answer::bare(StatusCode::NO_CONTENT)
        }
        Route::User => Answer::json(
            StatusCode::OK,
            format!(r#"{{"id":{user},"login":"user{user}"}}"#),
        ),
        Route::Static | Route::Echo | Route::WebSocket => Answer::not_found(),
    })
}

/// Finds the route, or the 404, 405 or answer to OPTIONS that stands in for it.
pub(crate) fn resolve(path: &str, method: &Method) -> Result<Route, Box<Answer>> {
    let path = input::route_path(path).ok_or_else(not_found)?;
    let candidates = candidates(&path);
    let name = method.as_str();
    let mut supported: Vec<&str> = Vec::new();
    for (route, methods) in candidates {
        // Only the transcripts' methods are announced; PATCH is served beside them, as the vendor's own VMS does.
        let is_served = methods.contains(&name)
            || (method == Method::PATCH && matches!(route, Some(Route::Intercom(_))));
        if is_served {
            return route.ok_or_else(not_found);
        }
        supported.extend(methods);
    }
    if supported.is_empty() {
        return Err(not_found());
    }
    let verbs = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    let announced: Vec<&str> = verbs
        .into_iter()
        .filter(|verb| supported.contains(verb))
        .collect();
    Err(Box::new(match *method {
        Method::OPTIONS => Answer::options(&announced),
        _ => Answer::method_not_allowed(method, &announced),
    }))
}

fn not_found() -> Box<Answer> {
    Box::new(Answer::not_found())
}

/// Every route whose path fits, with its methods, in the order of registration. A route whose last segment is no
/// number is there all the same, and leads to a 404.
fn candidates(path: &str) -> Vec<(Option<Route>, &'static [&'static str])> {
    const READ: &[&str] = &["GET", "HEAD"];
    let segments: Vec<&str> = path.split('/').collect();
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    match segments[..] {
        ["", "api", "v1", "intercom"] => vec![(Some(Route::List), READ)],
        ["", "api", "v1", "intercom", id] if !id.is_empty() => {
            let one = number(id).map(Route::Intercom);
            let mut routes = vec![(one, &["GET", "HEAD", "PUT", "DELETE"][..])];
            if id == "shows" {
                routes.insert(0, (Some(Route::Batch(Endpoint::Intercoms)), READ));
            }
            routes
        }
        ["", "api", "v1", "cameras", "shows"] => {
            vec![(Some(Route::Batch(Endpoint::Cameras)), READ)]
        }
        ["", "api", "v1", "cameras", id, "favorites"] => {
            vec![(number(id).map(Route::Favourites), &["POST", "DELETE"])]
        }
        ["", "api", "v1", "logout"] => vec![(Some(Route::Logout), &["POST"])],
        ["", "api", "v1", "user"] => vec![(Some(Route::User), READ)],
        ["", "api", "v1", "static", "basic"] => vec![(Some(Route::Static), READ)],
        ["", "api", "v1", "echo"] => vec![(Some(Route::Echo), &["POST"])],
        ["", "api", "v1", "stream", n] => vec![(number(n).map(Route::Stream), READ)],
        ["", "ws"] => vec![(Some(Route::WebSocket), READ)],
        _ => Vec::new(),
    }
}

/// The device that asks.
pub(crate) fn device(headers: &HeaderMap) -> String {
    input::last(headers, "x-uuid")
        .unwrap_or_default()
        .into_owned()
}

/// The language asked for, in the header or else in the input.
pub(crate) fn language(headers: &HeaderMap, input: Option<&Input>) -> String {
    let from_input = || match input?.get("hl")? {
        Value::Text(text) => Some(String::from_utf8_lossy(&text).into_owned()),
        _ => None,
    };
    let header = input::last(headers, "hl").map(|language| language.into_owned());
    header.or_else(from_input).unwrap_or_default()
}

/// The client and the region, which matter only where items say for whom they are.
pub(crate) fn others(headers: &HeaderMap) -> [String; 2] {
    ["x-client", "x-region"].map(|name| {
        let last = input::last(headers, name);
        last.unwrap_or_default().into_owned()
    })
}

fn list(world: &World, viewer: Viewer<'_>) -> Answer {
    let mut body = vec![b'['];
    let owned = world.owned(viewer.user).into_iter();
    for object in owned.filter_map(|id| world.intercom(viewer, id)) {
        if body.len() > 1 {
            body.push(b',');
        }
        render::intercom(&mut body, &object);
    }
    body.push(b']');
    Answer::json(StatusCode::OK, body)
}

fn intercom(world: &World, viewer: Viewer<'_>, method: &Method, id: u64, input: &Input) -> Answer {
    if !world.owns(viewer.user, id) {
        return Answer::not_found();
    }
    match *method {
        Method::PUT | Method::PATCH => match change(input) {
            Ok(change) => world.change(viewer.user, viewer.device, id, change),
            Err(errors) => return Answer::invalid(&errors),
        },
        Method::DELETE => {
            world.give_up(viewer.user, id);
            return Answer::bare(StatusCode::NO_CONTENT);
        }
        _ => {}
    }
    let mut body = Vec::with_capacity(1024);
    match world.intercom(viewer, id) {
        Some(object) => render::intercom(&mut body, &object),
        None => return Answer::not_found(),
    }
    Answer::json(StatusCode::OK, body)
}

/// Reads a change as the rules `title: string`, `is_enabled: boolean`, `timetable: array` let it.
fn change(input: &Input) -> Result<Change, Errors> {
    let mut change = Change::default();
    let mut errors = Errors::default();
    let mut refuse = |field: &str, what: &str| {
        let message = format!("The {} {what}.", field.replace('_', " "));
        errors.0.push((field.to_owned(), vec![message]));
    };
    match input.get("title") {
        None => {}
        Some(Value::Text(text)) => change.title = String::from_utf8(text).ok(),
        Some(_) => refuse("title", "must be a string"),
    }
    match input.get("is_enabled") {
        None => {}
        Some(Value::Bool(value)) => change.is_enabled = Some(value),
        Some(value) => match php::filter_int(&value) {
            Some(number @ 0..=1) => change.is_enabled = Some(number == 1),
            _ => refuse("is_enabled", "field must be true or false"),
        },
    }
    match input.get("timetable") {
        None => {}
        Some(value @ Value::Array(_)) => {
            let timetable = change.timetable.insert(Vec::new());
            json::encode(timetable, &value);
        }
        Some(_) => refuse("timetable", "must be an array"),
    }
    if errors.0.is_empty() {
        Ok(change)
    } else {
        Err(errors)
    }
}

fn favourites(world: &World, viewer: Viewer<'_>, method: &Method, camera: u64) -> Answer {
    let id = camera.saturating_sub(CAMERA_OFFSET);
    if !world.owns(viewer.user, id) {
        return Answer::not_found();
    }
    let is_favorite = method == Method::POST;
    world.set_favourite(viewer.user, id, is_favorite);
    if !is_favorite {
        return Answer::bare(StatusCode::NO_CONTENT);
    }
    let mut body = Vec::new();
    match world.intercom(viewer, id) {
        Some(object) => render::camera(&mut body, &object),
        None => return Answer::not_found(),
    }
    Answer::json(StatusCode::OK, body)
}

/// Whether a request asks to switch to the WebSocket protocol.
pub(crate) fn wants_websocket(headers: &HeaderMap) -> bool {
    let upgrade = input::last(headers, header::UPGRADE.as_str()).unwrap_or_default();
    upgrade.eq_ignore_ascii_case("websocket")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(method: &str, path: &str) -> Result<Route, (u16, String)> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        resolve(path, &method).map_err(|answer| {
            let allow = answer.headers.get(header::ALLOW);
            let allow = allow.map(|value| value.to_str().unwrap().to_owned());
            (answer.status.as_u16(), allow.unwrap_or_default())
        })
    }

    #[test]
    fn paths_and_methods_lead_to_routes() {
        let batch = Ok(Route::Batch(Endpoint::Intercoms));
        for path in [
            "/api/v1/intercom/shows",
            "/api/v1/intercom/shows/",
            "/api/v1/intercom/%73hows",
            "/index.php/api/v1/intercom/shows",
        ] {
            assert_eq!(resolved("GET", path), batch, "{path}");
            assert_eq!(resolved("HEAD", path), batch, "{path}");
        }
        assert_eq!(
            resolved("PATCH", "/api/v1/intercom/7"),
            Ok(Route::Intercom(7))
        );
        assert_eq!(resolved("POST", "/api/v1/logout"), Ok(Route::Logout));
    }

    #[test]
    fn what_leads_nowhere_is_refused_as_laravel_refuses_it() {
        for (method, path, status, allow) in [
            ("GET", "/", 404, ""),
            ("GET", "/api/v1//intercom/shows", 404, ""),
            ("GET", "//api/v1/intercom/shows", 404, ""),
            ("GET", "/api/v1/intercom/Shows", 404, ""),
            ("GET", "/API/v1/intercom/shows", 404, ""),
            ("GET", "/api/v1/intercom/+1", 404, ""),
            ("PUT", "/api/v1/intercom/shows", 404, ""),
            (
                "PATCH",
                "/api/v1/intercom/shows",
                405,
                "GET, HEAD, PUT, DELETE",
            ),
            (
                "POST",
                "/api/v1/intercom/shows",
                405,
                "GET, HEAD, PUT, DELETE",
            ),
            ("POST", "/api/v1/cameras/shows", 405, "GET, HEAD"),
            ("GET", "/api/v1/logout", 405, "POST"),
            (
                "OPTIONS",
                "/api/v1/intercom/shows",
                200,
                "GET,HEAD,PUT,DELETE",
            ),
            ("OPTIONS", "/api/v1/nothing", 404, ""),
        ] {
            let expected = Err((status, allow.to_owned()));
            assert_eq!(resolved(method, path), expected, "{method} {path}");
        }
    }
}
