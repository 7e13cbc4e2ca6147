//! A headless Chromium for the tests of pages, driven over WebDriver's plain HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The name under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window; it ends with the value.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: TempDir,
}

/// A program that the PATH names.
fn installed(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let files = names.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
    files.into_iter().find(|file| file.is_file())
}

impl Browser {
    /// Opens a page in a window as wide as a laptop's; nothing, and a line that says so, where the machine has no
    /// Chromium.
    pub fn open(page: &Path) -> Option<Self> {
        let browser = installed(&["chromium", "chromium-browser", "google-chrome"]);
        let (Some(browser), Some(driver)) = (browser, installed(&["chromedriver"])) else {
            eprintln!("SKIPPED: no chromium and chromedriver on this machine; a page was not tested in a browser");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new(driver).arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map(Result::unwrap);
        let ready = lines.find(|line| line.contains("started successfully on port")).expect("chromedriver starts");
        let port = ready.rsplit(' ').next().unwrap().trim_end_matches('.').parse().unwrap();
        // What else it writes is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let mut opened = Self { driver, port, session: String::new(), profile };
        let profile = opened.profile.path().display();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1200,900",
            &format!("--user-data-dir={profile}"),
        ];
        let session = opened.ask(
            "POST",
            "/session",
            &json!({ "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": { "binary": browser, "args": arguments },
                "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            } } }),
        );
        opened.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        opened.post("/url", &json!({ "url": format!("file://{}", page.display()) }));
        Some(opened)
    }

    /// Makes the page as wide as a phone or anything else; a window itself has a least width.
    pub fn resize(&self, width: u32) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Shows the page as one who prefers dark pages sees it, or light ones.
    pub fn set_dark(&self, dark: bool) {
        let feature = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// The file that is saved where an element is clicked, once it is whole.
    pub fn saved_by(&self, selector: &str, name: &str) -> Vec<u8> {
        let folder = self.profile.path().join("saved");
        self.devtools("Browser.setDownloadBehavior", &json!({ "behavior": "allow", "downloadPath": folder }));
        self.click(selector);
        let file = folder.join(name);
        for _ in 0..200 {
            if let Some(bytes) = std::fs::read(&file).ok().filter(|bytes| !bytes.is_empty()) {
                return bytes;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{selector} saved no {name}");
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    /// What a script returns; `arguments` are the elements that these selectors find.
    pub fn run(&self, script: &str, selectors: &[&str]) -> Value {
        let elements: Vec<Value> = selectors.iter().map(|selector| self.find(selector)).collect();
        self.post("/execute/sync", &json!({ "script": script, "args": elements }))
    }

    /// How many elements a selector finds.
    pub fn count(&self, selector: &str) -> u64 {
        let script = format!("return document.querySelectorAll({}).length", json!(selector));
        self.run(&script, &[]).as_u64().unwrap()
    }

    /// The text that an element shows.
    pub fn text(&self, selector: &str) -> String {
        self.run("return arguments[0].innerText", &[selector]).as_str().unwrap().to_owned()
    }

    /// Moves the pointer to a place beside an element's middle, which is scrolled to first.
    pub fn hover(&self, selector: &str, (x, y): (i32, i32)) {
        self.run("arguments[0].scrollIntoView({ block: 'center' })", &[selector]);
        let origin = self.find(selector);
        let step = json!({ "type": "pointerMove", "duration": 0, "origin": origin, "x": x, "y": y });
        self.post("/actions", &json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": [step] }] }));
    }

    /// Clicks an element.
    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.post(&format!("/element/{}/click", element[ELEMENT].as_str().unwrap()), &json!({}));
    }

    /// Presses and releases a key, by its name or WebDriver's character for it.
    pub fn press(&self, key: &str) {
        let strokes = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }));
    }

    /// What the page did since it was last asked and must not do: errors and warnings on its console, and requests for
    /// anything but itself.
    pub fn complaints(&self) -> Vec<String> {
        let entries = |kind: &str| match self.post("/se/log", &json!({ "type": kind })) {
            Value::Array(entries) => entries,
            other => panic!("no log: {other}"),
        };
        let console = entries("browser").iter().map(Value::to_string).collect::<Vec<_>>();
        let event = |entry: &Value| -> Value { serde_json::from_str(entry["message"].as_str().unwrap()).unwrap() };
        let events: Vec<Value> = entries("performance").iter().map(event).collect();
        let requests = events.iter().map(|event| &event["message"]);
        let requests = requests.filter(|message| message["method"] == "Network.requestWillBeSent");
        // What the browser's own first page asks for is not the page's.
        let is_the_pages = |parameters: &&Value| parameters["documentURL"].as_str().unwrap().starts_with("file:");
        let requests = requests.map(|message| &message["params"]).filter(is_the_pages);
        let urls: Vec<_> = requests.map(|parameters| parameters["request"]["url"].as_str().unwrap()).collect();
        let others = urls.iter().filter(|url| !url.starts_with("file:") && !url.starts_with("data:"));
        console.into_iter().chain(others.map(|url| format!("requested {url}"))).collect()
    }

    fn find(&self, selector: &str) -> Value {
        self.post("/element", &json!({ "using": "css selector", "value": selector }))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.exchange(method, path, body).unwrap()["value"].take();
        assert!(value.get("error").is_none(), "{method} {path} {body}: {value}");
        value
    }

    /// A request to the driver, and its answer.
    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A test that failed may have left the driver in any state, and a browser outlives a driver that is killed: the
        // session is asked to end whatever comes of it.
        if !self.session.is_empty() {
            let _ = self.exchange("DELETE", &self.session, &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
