//! `packaging/ops`: alerts and dashboard for a server that runs, in Prometheus itself. Without it they say NOT RUN.
#![cfg(feature = "runtime")]

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::business::{Business, Reply};
use common::client::Client;
use common::server::{Builder, Server};
use common::{SOON, eventually, http, not_run, ports};
use serde_json::Value;

/// The only series that come from Prometheus and not from the server.
const ITS_OWN: &str = "up";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root(path)).expect(path)
}

/// A folder of the test's own.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ops-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("folder");
    dir
}

/// Runs promtool in a folder; what it said if it failed. None where it is missing.
fn promtool(dir: &Path, args: &[&str]) -> Option<Result<(), String>> {
    let Ok(output) = Command::new("promtool").args(args).current_dir(dir).output() else {
        not_run("promtool is not installed");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Some(output.status.success().then_some(()).ok_or(said))
}

/// The names that begin with `rainbow_` in a text.
fn metrics_named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("rainbow_"))
        .map(str::to_owned)
        .collect()
}

/// A server with everything that has metrics of its own, and some traffic.
struct Rig {
    server: Server,
    _client: Client,
    _business: Business,
    dir: PathBuf,
}

impl Rig {
    fn start(name: &str) -> Self {
        let dir = folder(name);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).expect("certificate");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("key");
        let business = Business::start();
        business.reply("/connect/", Reply::channels("lobby"));
        let tls = ports::claim();
        let server = Builder::new(&business)
            .set("tls_port", tls.number)
            .set("bind", "127.0.0.1");
        let server = server
            .set("tls_cert", cert.display())
            .set("tls_key", key.display())
            .start();
        let client = Client::open(server.port());
        Self {
            server,
            _client: client,
            _business: business,
            dir,
        }
    }

    fn page(&self) -> String {
        http::call(self.server.port(), &http::Request::get("/metrics"), SOON)
            .expect("metrics")
            .text()
    }

    /// The names on the page, as series are called.
    fn names(&self) -> BTreeSet<String> {
        let page = self.page();
        let series = page.lines().filter(|line| !line.starts_with('#'));
        series
            .filter_map(|line| line.split(['{', ' ']).next())
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn alerts_and_dashboard_name_metrics_that_exist() {
    let rig = Rig::start("names");
    let names = rig.names();
    for (file, least) in [("packaging/ops/alerts.yml", 15), ("packaging/ops/dashboard.json", 30)] {
        let text = read(file);
        let named = if file.ends_with("json") {
            metrics_named(&queries(&serde_json::from_str(&text).expect("JSON")).join(" "))
        } else {
            let exprs = text
                .lines()
                .filter(|line| !line.contains("description:") && !line.contains("summary:"));
            metrics_named(&exprs.collect::<Vec<_>>().join("\n"))
        };
        let missing: Vec<_> = named.difference(&names).collect();
        assert!(missing.is_empty(), "{file}: the server has no {missing:?}");
        assert!(named.len() > least, "{file}: {named:?}");
    }
    // What people read names metrics too, without the endings of histograms.
    let page = rig.page();
    let described = metrics_named(&read("packaging/ops/alerts.yml"));
    assert!(
        described.iter().all(|name| page.contains(name.as_str())),
        "{described:?}"
    );
}

#[test]
fn alerts_fire_when_they_should() {
    let dir = folder("alerts");
    for file in [
        "packaging/ops/alerts.yml",
        "packaging/ops/prometheus.yml",
        "tests/ops/alerts.test.yml",
    ] {
        let name = Path::new(file).file_name().expect("name");
        std::fs::copy(root(file), dir.join(name)).expect("copy");
    }
    let Some(checked) = promtool(&dir, &["check", "config", "prometheus.yml"]) else {
        return;
    };
    checked.unwrap_or_else(|said| panic!("{said}"));
    let tested = promtool(&dir, &["test", "rules", "alerts.test.yml"]).expect("promtool");
    tested.unwrap_or_else(|said| panic!("{said}"));
    // Every alert is in the test, and the test can fail.
    let (alerts, test) = (read("packaging/ops/alerts.yml"), read("tests/ops/alerts.test.yml"));
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for name in names {
        assert!(test.contains(&format!("alertname=\"{name}\"")), "{name} is not tested");
    }
    let planted = alerts.replace("rainbow_reload_successful == 0", "rainbow_reload_successful == 1");
    std::fs::write(dir.join("alerts.yml"), planted).expect("write");
    assert!(
        promtool(&dir, &["test", "rules", "alerts.test.yml"])
            .expect("promtool")
            .is_err()
    );
    let _ = std::fs::remove_dir_all(&dir);
}

/// Everything a dashboard asks for: panels, annotations, the list of servers.
fn queries(dashboard: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let panels = list(&dashboard["panels"]);
    let targets = panels.iter().flat_map(|panel| list(&panel["targets"]));
    let annotations = list(&dashboard["annotations"]["list"]);
    let exprs = targets
        .chain(annotations)
        .map(|asked| asked["expr"].as_str().expect("expr").to_owned());
    let variables = list(&dashboard["templating"]["list"]);
    let variables = variables.iter().filter_map(|variable| variable["definition"].as_str());
    exprs.chain(variables.map(str::to_owned)).collect()
}

/// Prometheus with the configuration of `packaging/ops`, asking this server every second.
struct Prometheus {
    child: Child,
    port: ports::Port,
}

impl Prometheus {
    fn start(rig: &Rig) -> Option<Self> {
        let port = ports::claim();
        let config = read("packaging/ops/prometheus.yml")
            .replace("127.0.0.1:1984", &format!("127.0.0.1:{}", rig.server.port()))
            .replace(
                "scrape_configs:",
                "global: {scrape_interval: 1s, evaluation_interval: 1s}\nscrape_configs:",
            );
        std::fs::write(rig.dir.join("prometheus.yml"), config).expect("configuration");
        std::fs::copy(root("packaging/ops/alerts.yml"), rig.dir.join("alerts.yml")).expect("alerts");
        let child = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number))
            .current_dir(&rig.dir)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(rig.dir.join("log")).expect("log"))
            .spawn();
        match child {
            Ok(child) => Some(Self { child, port }),
            Err(error) => {
                not_run(&format!("prometheus: {error}"));
                None
            }
        }
    }

    /// The data of an answer.
    fn get(&self, request: &http::Request) -> Option<Value> {
        let answer = http::call(self.port.number, request, SOON).ok()?.json()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// The series a query finds; none if it is not valid.
    fn find(&self, query: &str) -> Option<usize> {
        let data = self.get(&http::Request::get("/api/v1/query").query("query", query))?;
        Some(data["result"].as_array()?.len())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_loads_the_alerts_and_every_panel_finds_something() {
    let rig = Rig::start("prometheus");
    let Some(prometheus) = Prometheus::start(&rig) else {
        return;
    };
    let long = Duration::from_secs(30);
    let asked = eventually(long, || {
        prometheus.find("count_over_time(rainbow_uptime_seconds[1m]) > 2") == Some(1)
    });
    assert!(
        asked,
        "{}",
        std::fs::read_to_string(rig.dir.join("log")).unwrap_or_default()
    );
    let dashboard: Value = serde_json::from_str(&read("packaging/ops/dashboard.json")).expect("JSON");
    let queries = queries(&dashboard);
    assert!(queries.len() > 50, "{}", queries.len());
    for query in queries {
        let filled = query.replace("$instance", ".*").replace("$__rate_interval", "1m");
        if let Some(list) = filled.strip_prefix("label_values(") {
            let (metric, label) = list.trim_end_matches(')').split_once(", ").expect("metric and label");
            assert_eq!(
                prometheus.find(&format!("count by ({label}) ({metric})")),
                Some(1),
                "{query}"
            );
            continue;
        }
        // `> 0` leaves out the lines of what never happens.
        let everything = filled.strip_suffix(" > 0").unwrap_or(&filled);
        let found = prometheus.find(everything);
        assert!(found.is_some_and(|count| count > 0), "{query}: {found:?}");
        assert!(prometheus.find(&filled).is_some(), "{query}");
    }
    assert_eq!(prometheus.find("rainbow_never_heard_of"), Some(0));
    assert_eq!(
        prometheus.find(&format!("{ITS_OWN}{{job=\"rainbow-server\"}} == 1")),
        Some(1)
    );
    let rules = || prometheus.get(&http::Request::get("/api/v1/rules")).expect("rules");
    let is_evaluated = || {
        let rules = rules();
        let rules = rules["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        rules.len() > 15 && rules.iter().all(|rule| rule["health"] == "ok")
    };
    assert!(eventually(long, is_evaluated), "{}", rules());
    assert_eq!(
        prometheus.find("ALERTS{alertstate=\"firing\"}"),
        Some(0),
        "a server that works alerts nobody"
    );
}

/// Ids are what Grafana tells panels apart by, and panels that overlap hide each other.
#[test]
fn the_panels_of_the_dashboard_have_places_of_their_own() {
    let dashboard: Value = serde_json::from_str(&read("packaging/ops/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("id")).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().expect("place");
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(taken.insert((x, y)), "{} overlaps another", panel["title"]);
        }
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
        assert!(panel["type"] == "row" || unit.is_some(), "{}", panel["title"]);
    }
}
