//! A real browser, Chromium, told what to do over WebDriver (W3C) and asked what it did.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::soon;
use super::world::send;

/// A browser of its own for one test; it is closed if the test drops it.
pub(crate) struct Browser {
    driver: Child,
    at: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts it. `None` where there is none: then the test says so, and in CI fails.
    pub(crate) async fn start() -> Option<Self> {
        let mut driver = Command::new("chromedriver");
        let driver = driver
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let driver = match driver {
            Ok(driver) => driver,
            Err(error) if std::env::var_os("CI").is_some() => panic!("chromedriver: {error}"),
            Err(error) => {
                eprintln!("SKIPPED, since there is no chromedriver: {error}");
                return None;
            }
        };
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self {
            driver,
            at: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            session: String::new(),
            _profile: profile,
        };
        let port = browser.port();
        browser.at.set_port(port);
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            // For whoever runs the tests as root.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &profile,
        ];
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let body = json!({"capabilities": {"alwaysMatch": wanted}});
        let begun = browser.command(Method::POST, "/session", &body).await;
        browser.session = format!("/session/{}", begun["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// The port that the driver says it listens on.
    fn port(&mut self) -> u16 {
        let stdout = self.driver.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let port = lines.by_ref().find_map(|line| {
            let line = line.expect("it writes text");
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        // Read to its end, so that the driver is never held up.
        std::thread::spawn(move || lines.for_each(drop));
        port.expect("it says where it listens")
    }

    /// Opens a page, and waits until it is loaded.
    pub(crate) async fn opens(&self, url: &str) {
        self.asks("/url", &json!({ "url": url })).await;
    }

    /// What a script returns.
    pub(crate) async fn tells(&self, script: &str) -> Value {
        let body = json!({"script": format!("return {script}"), "args": []});
        self.asks("/execute/sync", &body).await
    }

    /// Waits until a script returns true.
    pub(crate) async fn until(&self, script: &str) {
        let come = async {
            while self.tells(script).await != true {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(super::PATIENCE, come).await;
        if waited.is_err() {
            let shown = self.tells("document.body.innerText").await;
            panic!("{script} does not become true; shown is {shown}");
        }
    }

    /// Types into the element that a selector finds.
    pub(crate) async fn types(&self, selector: &str, text: &str) {
        let element = self.finds(selector).await;
        let path = format!("/element/{element}/value");
        self.asks(&path, &json!({ "text": text })).await;
    }

    /// Clicks the element that a selector finds.
    pub(crate) async fn clicks(&self, selector: &str) {
        let element = self.finds(selector).await;
        self.asks(&format!("/element/{element}/click"), &json!({}))
            .await;
    }

    async fn finds(&self, selector: &str) -> String {
        let by = json!({"using": "css selector", "value": selector});
        let found = self.asks("/element", &by).await;
        let mut ids = found.as_object().unwrap().values();
        ids.next().unwrap().as_str().unwrap().to_owned()
    }

    /// As a phone or a desk sees it.
    pub(crate) async fn is_wide(&self, width: u32) {
        let size =
            json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &size)
            .await;
    }

    /// As somebody sees it who prefers light or dark.
    pub(crate) async fn prefers(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let media = json!({ "features": features });
        self.devtools("Emulation.setEmulatedMedia", &media).await;
    }

    /// A picture of the whole page; also left in the build's directory for temporary files, for people to look at.
    pub(crate) async fn pictures(&self, name: &str) -> Vec<u8> {
        let size = "[innerWidth, document.documentElement.scrollHeight]";
        let size = self.tells(size).await;
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let wanted = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.devtools("Page.captureScreenshot", &wanted).await;
        let picture = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let path = format!("{}/{name}.png", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(path, &picture).unwrap();
        picture
    }

    /// What the page has written to the console, or the browser about it, since this was last asked.
    pub(crate) async fn console(&self) -> Vec<String> {
        let entries = self.asks("/se/log", &json!({"type": "browser"})).await;
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    /// Every address that was asked for since this was last asked.
    pub(crate) async fn requested(&self) -> Vec<String> {
        let entries = self.asks("/se/log", &json!({"type": "performance"})).await;
        let entries = entries.as_array().unwrap().iter();
        let url = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let sent = message["method"] == "Network.requestWillBeSent";
            let url = message["params"]["request"]["url"].as_str();
            url.filter(|_| sent).map(str::to_owned)
        };
        entries.filter_map(url).collect()
    }

    async fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.asks("/goog/cdp/execute", &body).await
    }

    async fn asks(&self, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        self.command(Method::POST, &path, body).await
    }

    async fn command(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json");
        let request = request.body(Full::from(body.to_string())).unwrap();
        let answer = soon("the browser's answer", send(self.at, request)).await;
        let mut told: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(answer.status, 200, "{path} {body}: {told}");
        told["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, and would outlive its driver.
        if let Ok(mut driver) = TcpStream::connect(self.at) {
            let request = format!(
                "DELETE {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                self.session
            );
            let _ = driver.write_all(request.as_bytes());
            let _ = driver.set_read_timeout(Some(super::PATIENCE));
            // It answers when the browser has ended.
            let _ = driver.read(&mut [0; 64]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
