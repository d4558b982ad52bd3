//! The page, as a browser shows it: it asks for the token, shows what the edge tells, and asks nobody else.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::Value;
use vms_edge::demo::vms::StandIn;

use super::{purge, status, world};
use crate::support::browser::Browser;
use crate::support::edge::TestEdge;
use crate::support::operator::{TOKEN, operate, token};
use crate::support::world::{World, send};

/// The browser's key for the end of a line.
const ENTER: &str = "\u{e007}";

/// Whether both lines of each chart are drawn, in its colours.
const BOTH_LINES_ARE_DRAWN: &str = "(() => {
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const wanted = ['--first', '--second'].map(colour).map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    return [...document.querySelectorAll('canvas')].map((canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const counts = [0, 0];
        for (let at = 0; at < data.length; at += 4) wanted.forEach((rgb, place) => {
            if (data[at + 3] > 200 && rgb.every((value, part) => Math.abs(value - data[at + part]) < 12)) counts[place]++;
        });
        return counts.every((count) => count > 20);
    });
})()";

/// Some minutes in the life of an edge.
async fn lived() -> World {
    let world = world("").await;
    for step in 0..30_u64 {
        let ann = world.user(1);
        ann.asks([1, 2]).await;
        for _ in 0..step % 4 {
            ann.asks([1, 2]).await;
        }
        ann.asks([1, 2, 3]).await;
        ann.gets("/api/v1/static/basic").await;
        if step % 7 == 0 {
            ann.adding("cookie", "a=b").asks([1]).await;
        }
        world.advance(10);
        status(&world).await;
    }
    purge(&world, r#"{"items":[1]}"#).await;
    world
}

async fn signs_in(browser: &Browser, token: &str) {
    browser.types("#token", &format!("{token}{ENTER}")).await;
}

fn address(world: &World) -> String {
    format!("http://{}", world.edge.admin)
}

#[tokio::test]
async fn the_page_asks_for_the_token_and_shows_what_the_edge_tells() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let world = lived().await;
    let origin = address(&world);
    browser.is_wide(1280).await;
    // What it asked for before it was led here is its own affair.
    browser.requested().await;
    browser.opens(&origin).await;
    browser
        .until("!document.getElementById('sign-in').hidden")
        .await;
    assert_eq!(
        browser
            .tells("document.getElementById('board').hidden")
            .await,
        true
    );
    assert_eq!(browser.console().await, Vec::<String>::new());
    refuses_a_wrong_token(&browser).await;

    signs_in(&browser, TOKEN).await;
    browser
        .until("!document.getElementById('board').hidden")
        .await;
    shows_what_is_told(&browser, &world).await;
    draws_its_charts(&browser).await;
    assert_eq!(browser.console().await, Vec::<String>::new());
    asked_nobody_but(&origin, &browser).await;
}

async fn refuses_a_wrong_token(browser: &Browser) {
    signs_in(browser, "a-wrong-token-of-operators").await;
    let told = "document.getElementById('token-fault').textContent === 'That is not the token.'";
    browser.until(told).await;
    assert_eq!(browser.tells("sessionStorage.length").await, 0);
    let refusals = browser.console().await;
    assert!(
        refusals.iter().all(|entry| entry.contains("401")),
        "{refusals:?}"
    );
}

async fn shows_what_is_told(browser: &Browser, world: &World) {
    let shown = browser
        .tells("document.getElementById('board').innerText")
        .await;
    let shown = shown.as_str().unwrap();
    let told = status(world).await;
    let percent = |ratio: &Value| format!("{:.1} %", ratio.as_f64().unwrap() * 100.0);
    let ratios = &told["traffic"]["last_5m"]["hit_ratio"];
    for expected in [
        &percent(&ratios["requests"]),
        &percent(&ratios["items"]),
        &told["traffic"]["since_start"]["vms_requests_saved"].to_string(),
        &world.vms_address.to_string(),
        "of 256 MiB",
        "In use",
        "cookie",
        "One item, for everyone",
        "None since the start.",
    ] {
        assert!(shown.contains(expected), "{expected} is not in {shown}");
    }
    assert!(!shown.contains(TOKEN));
}

async fn draws_its_charts(browser: &Browser) {
    assert_eq!(
        browser.tells(BOTH_LINES_ARE_DRAWN).await,
        serde_json::json!([true, true, true, true])
    );
    let label = "document.querySelector('.canvas').getAttribute('aria-label')";
    let label = browser.tells(label).await;
    assert!(
        label.as_str().unwrap().contains("latest: requests"),
        "{label}"
    );
}

async fn asked_nobody_but(origin: &str, browser: &Browser) {
    let requested = browser.requested().await;
    assert!(requested.len() > 8, "{requested:?}");
    for url in requested {
        let from_here = url
            .strip_prefix(origin)
            .is_some_and(|path| path.starts_with('/'));
        assert!(from_here && !url.contains(TOKEN), "{url}");
    }
}

#[tokio::test]
async fn the_page_keeps_up_and_says_when_the_edge_is_gone() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let (_file, token) = token();
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let edge = TestEdge::with(&[serving.address().to_string()], &token);
    browser.opens(&format!("http://{}/", edge.admin)).await;
    signs_in(&browser, TOKEN).await;
    browser
        .until("!document.getElementById('board').hidden")
        .await;

    let purged = operate(edge.admin, Method::POST, "/purge", r#"{"everything":true}"#).await;
    purged.status(200);
    browser
        .until("document.getElementById('marks').innerText.includes('Everything: gone')")
        .await;
    // A tab that is opened again knows the token still.
    browser.opens(&format!("http://{}/", edge.admin)).await;
    browser
        .until("document.getElementById('state').textContent.startsWith('Serving')")
        .await;

    tokio::task::spawn_blocking(move || edge.stop().join().unwrap())
        .await
        .unwrap();
    // It looks at once when its tab is.
    browser
        .tells("document.dispatchEvent(new Event('visibilitychange'))")
        .await;
    browser
        .until("document.getElementById('state').textContent === 'Unreachable'")
        .await;
    let notice = browser
        .tells("document.getElementById('notice').innerText")
        .await;
    assert!(
        notice
            .as_str()
            .unwrap()
            .starts_with("The edge does not answer."),
        "{notice}"
    );
    browser.clicks("#forget").await;
    assert_eq!(browser.tells("sessionStorage.length").await, 0);
}

#[tokio::test]
async fn the_page_fits_a_phone_and_has_a_dark_side() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let world = lived().await;
    browser.opens(&address(&world)).await;
    signs_in(&browser, TOKEN).await;
    browser
        .until("!document.getElementById('board').hidden")
        .await;
    let ground = "getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    let mut pictures = Vec::new();
    for (name, width) in [("desk", 1280), ("phone", 360)] {
        browser.is_wide(width).await;
        browser.until(&format!("innerWidth === {width} && [...document.querySelectorAll('.canvas')].every((chart) => chart.querySelector('canvas').getBoundingClientRect().width <= chart.clientWidth)")).await;
        for scheme in ["light", "dark"] {
            browser.prefers(scheme).await;
            browser
                .until(&format!(
                    "matchMedia('(prefers-color-scheme: {scheme})').matches"
                ))
                .await;
            let [wide, room] = ["scrollWidth", "clientWidth"]
                .map(|size| format!("document.documentElement.{size}"));
            let (wide, room) = (browser.tells(&wide).await, browser.tells(&room).await);
            assert_eq!(wide, room, "nothing is to be scrolled sideways on a {name}");
            grounds.push(browser.tells(ground).await);
            pictures.push(browser.pictures(&format!("page-{name}-{scheme}")).await);
        }
    }
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!((&grounds[0], &grounds[1]), (&grounds[2], &grounds[3]));
    pictures.dedup();
    assert_eq!(pictures.len(), 4);
}

#[tokio::test]
async fn without_a_token_file_the_page_says_what_is_missing() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let world = World::new().await;
    browser.opens(&address(&world)).await;
    signs_in(&browser, TOKEN).await;
    let told = "document.getElementById('token-fault').textContent.includes('admin.token_file')";
    browser.until(told).await;
}

#[tokio::test]
async fn the_page_is_open_and_empty_and_loads_nothing_but_its_own() {
    let world = world("").await;
    let ask = async |path: &str, known: Option<&str>| {
        let mut request = Request::get(path).header("host", "localhost");
        if let Some(known) = known {
            request = request.header("if-none-match", known);
        }
        send(world.edge.admin, request.body(Full::default()).unwrap()).await
    };
    let page = ask("/", None).await.status(200).text();
    let linked = page.split(['"']).filter(|part| part.starts_with("/page/"));
    for (path, kind) in linked
        .map(|path| (path, path.rsplit('.').next().unwrap()))
        .chain([("/", "html")])
    {
        let asset = ask(path, None).await.status(200);
        let media_type = asset.header("content-type").unwrap();
        let expected = match kind {
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            "css" => "text/css; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(media_type, expected, "{path}");
        assert_eq!(asset.header("x-content-type-options"), Some("nosniff"));
        let policy = asset.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'self';") && !policy.contains("unsafe"),
            "{policy}"
        );
        let tag = asset.header("etag").unwrap();
        let again = ask(path, Some(tag)).await;
        assert!(again.status(304).body.is_empty(), "{path}");
    }
    assert!(
        !page.contains("<script>") && !page.contains("style="),
        "{page}"
    );
}
