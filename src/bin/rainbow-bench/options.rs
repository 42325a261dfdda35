//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Failure;

/// Printed for `--help`.
pub const HELP: &str = "\
rainbow-bench WORKLOAD... [options]     load one or several servers and print what it cost

Workloads
  send0         QoS 0 publish to one client
  pipelined     QoS 0 publishes to 32 channels, 64 at once on one connection (--burst N)
  fanout        QoS 0 publish to 1 000 and 10 000 clients, 64 B and 1 KiB, alone and in bursts
  acked         QoS 1 publish to 1 000 clients, all acknowledge
  roundtrip     QoS 1 publish to one client and its acknowledgement, closed and open loop
  upstream      QoS 1 message of a client, forwarded to the business server, acknowledged
  echo          REL -> COM, 1 and 16 under way per client
  connect       upgrade with connect callback
  idle          memory per idle client, cost of doing nothing
  mixed         clients, publishes, messages and reconnects together, open loop
  interference  round trips of a small channel while something large happens beside it
  scale         fanout and echo with 10, 100, 1 000, 10 000 clients
  shards        the same work on one shard and on two
  all           all of them but scale and shards
  report        all of them, and a page with plots (--html); 12 minutes at most

Options
  --against WHAT      a second server in the same rounds: floor (the raw loop), or [NAME=]COMMAND, which takes
                      -f INI -p PORT; may be repeated. In the report commands take part in what a slow server does in seconds
  --server PATH       the server to measure (default: rainbow-server beside this program)
  --rounds N          rounds per case, servers take turns (default 5)
  --seconds S         time of one round (default 1.5)
  --members N, --payload BYTES, --burst N, --pipelined    one fanout case of your own
  --clients N         clients of idle and connect
  --rate N            operations per second of open-loop cases
  --sleep             sleep between polls instead of spinning
  --server-cores LIST, --load-cores LIST   (default 0 and 1; none: do not pin)
  --nice N            priority of load and servers (below 0 needs root): on a machine that does other things
  --workers N         shards of the server (default 1)
  --driver NAME       io_uring, epoll or auto (default auto)
  --set KEY=VALUE     a line of the server's ini file
  --json FILE         results as JSON (- for standard output)
  --markdown FILE     results as the tables of docs/performance.md (- for standard output)
  --html FILE         page of the report (default bench.html)
  --within MINUTES    begin no case after that
  --quick             two short rounds, smaller sizes: to see whether everything works
";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of workloads.
    pub workloads: Vec<String>,
    /// Servers beside the own one.
    pub against: Vec<String>,
    /// The own server.
    pub server: PathBuf,
    /// Rounds of a case.
    pub rounds: usize,
    /// Seconds of a round.
    pub seconds: f64,
    /// Fan-out case.
    pub members: Option<usize>,
    /// Fan-out case.
    pub payload: Option<usize>,
    /// Fan-out case.
    pub burst: Option<usize>,
    /// Bursts come pipelined on one connection.
    pub pipelined: bool,
    /// Clients of idle and connect.
    pub clients: Option<usize>,
    /// Open-loop rate per second.
    pub rate: Option<f64>,
    /// Sleep between polls.
    pub sleep: bool,
    /// Cores of the server.
    pub server_cores: Option<String>,
    /// Cores of the load.
    pub load_cores: Option<String>,
    /// Priority.
    pub nice: Option<i32>,
    /// Shards.
    pub workers: usize,
    /// Driver of the server.
    pub driver: String,
    /// Further ini lines.
    pub set: Vec<(String, String)>,
    /// Where JSON goes.
    pub json: Option<String>,
    /// Where tables go.
    pub markdown: Option<String>,
    /// No case begins after that.
    pub within: Duration,
    /// Where the report goes.
    pub html: PathBuf,
    /// Small sizes.
    pub quick: bool,
    /// For the floor: its port.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        let beside = std::env::current_exe()
            .unwrap_or_default()
            .with_file_name("rainbow-server");
        Self {
            workloads: Vec::new(),
            against: Vec::new(),
            server: beside,
            rounds: 5,
            seconds: 1.5,
            members: None,
            payload: None,
            burst: None,
            pipelined: false,
            clients: None,
            rate: None,
            sleep: false,
            server_cores: Some("0".into()),
            load_cores: Some("1".into()),
            nice: None,
            workers: 1,
            driver: "auto".into(),
            set: Vec::new(),
            json: None,
            markdown: None,
            within: Duration::MAX,
            html: "bench.html".into(),
            quick: false,
            port: 0,
        }
    }
}

impl Options {
    /// Reads the command line; `None`: the help was asked for.
    pub fn parse() -> Result<Option<Self>, Failure> {
        let mut options = Self::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Value(word) => options.workloads.push(word.string()?),
                Long("against") => options.against.push(parser.value()?.string()?),
                Long("server") => options.server = parser.value()?.into(),
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("seconds") => options.seconds = parser.value()?.parse()?,
                Long("members") => options.members = Some(parser.value()?.parse()?),
                Long("payload") => options.payload = Some(parser.value()?.parse()?),
                Long("burst") => options.burst = Some(parser.value()?.parse()?),
                Long("pipelined") => options.pipelined = true,
                Long("clients") => options.clients = Some(parser.value()?.parse()?),
                Long("rate") => options.rate = Some(parser.value()?.parse()?),
                Long("sleep") => options.sleep = true,
                Long("server-cores") => options.server_cores = cores(parser.value()?.string()?),
                Long("load-cores") => options.load_cores = cores(parser.value()?.string()?),
                Long("nice") => options.nice = Some(parser.value()?.parse()?),
                Long("workers") => options.workers = parser.value()?.parse()?,
                Long("driver") => options.driver = parser.value()?.string()?,
                Long("set") => {
                    let line = parser.value()?.string()?;
                    let (key, value) = line.split_once('=').ok_or("--set takes KEY=VALUE")?;
                    options.set.push((key.into(), value.into()));
                }
                Long("json") => options.json = Some(parser.value()?.string()?),
                Long("markdown") => options.markdown = Some(parser.value()?.string()?),
                Long("within") => {
                    options.within = Duration::from_secs_f64(60.0 * parser.value()?.parse::<f64>()?.clamp(0.0, 1e6))
                }
                Long("html") => options.html = parser.value()?.into(),
                Long("quick") => (options.quick, options.rounds, options.seconds) = (true, 2, 0.4),
                Short('p') => options.port = parser.value()?.parse()?,
                Short('f') => drop(parser.value()?),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        // Some is left for the case that is under way at the end.
        if options.workloads.iter().any(|name| name == "report") {
            options.within = options.within.min(Duration::from_secs(11 * 60 + 30));
        }
        options.rounds = options.rounds.clamp(1, 1000);
        options.seconds = options.seconds.clamp(0.05, 600.0);
        Ok((!options.workloads.is_empty()).then_some(options))
    }

    /// Environment of the server.
    pub fn driver_env(&self) -> Vec<(&'static str, &'static str)> {
        if self.driver == "epoll" {
            vec![("MONOIO_FORCE_LEGACY_DRIVER", "1")]
        } else {
            Vec::new()
        }
    }

    /// How long a poll may wait.
    pub fn patience(&self) -> i32 {
        if self.sleep { 5 } else { 0 }
    }
}

fn cores(list: String) -> Option<String> {
    (list != "none").then_some(list)
}
