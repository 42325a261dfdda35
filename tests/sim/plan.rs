//! What differs between runs besides chance: the size of the world, the settings and when they change, who stalls, when
//! the business is down, when the server stops.

use rainbow_server::config::Config;

use crate::bugs::Bug;
use crate::rig;
use crate::rng::Rng;

/// Clients arrive, callers call and business servers fail for so long.
pub const BUSY: u64 = 40_000_000;
/// Then everything that was begun comes to its end.
pub const QUIET: u64 = 240_000_000;
/// From then on until the stop everybody reads at once: who was slow gets to the end of what there is for it.
pub const CATCH_UP: u64 = QUIET - 60_000_000;
/// From the beginning of the stop to the last look.
pub const STOP: u64 = 200_000_000;

/// The plan of one run; times in microseconds.
pub struct Plan {
    pub shards: usize,
    pub clients: usize,
    pub channels: usize,
    pub users: usize,
    pub api_gap_ms: u64,
    /// Other nodes of the cluster.
    pub nodes: u32,
    /// Publishes with kilobytes of payload, in percent.
    pub large_percent: u64,
    pub large_bytes: u64,
    /// A crowd on one shard, all in channel 0.
    pub crowd: bool,
    /// Messages a mailbox holds.
    pub mailbox: usize,
    /// The settings at the start, and those of each reload with its time.
    pub settings: Vec<(u64, Settings)>,
    /// Cores that stand still: from, until, which (the last is the control core).
    pub stalls: Vec<(u64, u64, usize)>,
    /// From and until when no call reaches the business.
    pub outages: Vec<(u64, u64)>,
    /// When the server begins to stop: in the quiet, or in the middle.
    pub drain: u64,
    pub drains_busy: bool,
}

/// The settings that vary. Seconds; 0 is off.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `forward_window` with `forward_order = client`.
    pub window: Option<usize>,
    pub forward_queue: usize,
    pub forward_queue_bytes: usize,
    pub inflight_max: usize,
    pub outbox_bytes: usize,
    pub outbox_seconds: u64,
    pub drop_oldest: bool,
    pub frames_per_second: usize,
    pub bytes_per_second: usize,
    pub ping_interval: u64,
    pub idle_timeout: u64,
    pub channels_max: usize,
    pub connections_max: usize,
    pub compression: bool,
    pub message_max: usize,
    pub drain_timeout: u64,
    pub drain_rate: usize,
}

impl Settings {
    fn new(rng: &mut Rng, shards: usize, crowd: bool) -> Self {
        let small = shards * rng.within(3, 12) as usize;
        Self {
            window: *rng.pick(&[None, Some(1), Some(3)]),
            forward_queue: *rng.pick(&[2, 128]),
            forward_queue_bytes: *rng.pick(&[4 << 10, 1 << 20]),
            inflight_max: *rng.pick(&[4096, 4096, 3]),
            outbox_bytes: *rng.pick(&[64 << 10, 64 << 10, 4 << 20]),
            outbox_seconds: *rng.pick(&[5, 30, 0]),
            drop_oldest: rng.chance(30),
            frames_per_second: *rng.pick(&[0, 0, 0, 5, 50]),
            bytes_per_second: *rng.pick(&[0, 0, 0, 0, 4096]),
            ping_interval: *rng.pick(&[0, 0, 3, 20]),
            idle_timeout: *rng.pick(&[0, 0, 0, 15, 60]),
            channels_max: *rng.pick(&[65_536, 65_536, 65_536, 2]),
            connections_max: if crowd || rng.chance(70) { 100_000 } else { small },
            compression: rng.chance(30),
            message_max: *rng.pick(&[64 << 10, 10 << 20]),
            drain_timeout: *rng.pick(&[0, 3, 60]),
            drain_rate: *rng.pick(&[0, 1, 1000]),
        }
    }

    /// As a file has them.
    pub fn config(&self, bug: Option<Bug>) -> Config {
        let order = if self.window.is_some() { "client" } else { "none" };
        let slow = if self.drop_oldest { "drop_oldest" } else { "close" };
        let compression = if self.compression { "yes" } else { "no" };
        let mut config = rig::config(&format!(
            "forward_order={order}\nforward_window={}\nforward_queue={}\nforward_queue_bytes={}\ninflight_max={}\n\
             outbox_bytes={}\noutbox_seconds={}\nslow_consumer={slow}\nclient_messages_per_second={}\n\
             client_bytes_per_second={}\nping_interval={}\nping_timeout=5\nidle_timeout={}\nchannels_max={}\necho=yes\n\
             compression={compression}\ncompression_min=100\nmessage_max={}\nhandshake_timeout=10\n\
             drain_timeout={}\ndrain_rate={}",
            self.window.unwrap_or(1),
            self.forward_queue,
            self.forward_queue_bytes,
            self.inflight_max,
            self.outbox_bytes,
            self.outbox_seconds,
            self.frames_per_second,
            self.bytes_per_second,
            self.ping_interval,
            self.idle_timeout,
            self.channels_max,
            self.message_max,
            self.drain_timeout,
            self.drain_rate,
        ));
        config.connections_max = self.connections_max;
        match bug {
            // The age limit ends what these bugs stall, before the oracle looks.
            Some(Bug::EatWritable | Bug::ForgetSlow) => config.outbox_seconds = std::time::Duration::ZERO,
            Some(Bug::Hoard) => config.outbox_bytes = 1 << 30,
            Some(Bug::IgnoreRate) => (config.client_messages_per_second, config.client_bytes_per_second) = (0, 0),
            _ => {}
        }
        config
    }
}

impl Plan {
    pub fn new(seed: u64, rng: &mut Rng) -> Self {
        let crowd = seed % 25 == 7;
        let shards = if crowd { 2 } else { rng.within(1, 4) as usize };
        let mut settings = vec![(0, Settings::new(rng, shards, crowd))];
        for _ in 0..*rng.pick(&[0, 0, 1, 3]) {
            let at = rng.within(BUSY / 10, BUSY);
            settings.push((at, Settings::new(rng, shards, crowd)));
        }
        settings.sort_by_key(|(at, _)| *at);
        let span = |rng: &mut Rng, most: u64| {
            let from = rng.within(0, BUSY);
            (from, from + rng.within(1, most))
        };
        let stalls = (0..*rng.pick(&[0, 0, 2, 8])).map(|_| {
            let (from, until) = span(rng, STALL_MAX);
            (from, until, rng.index(shards + 1))
        });
        let stalls = stalls.collect();
        let outages = (0..*rng.pick(&[0, 0, 1, 2])).map(|_| span(rng, 8_000_000)).collect();
        let drains_busy = rng.chance(20);
        Self {
            shards,
            clients: if crowd { 700 } else { rng.within(3, 30) as usize },
            channels: rng.within(1, 5) as usize,
            users: rng.within(1, 3) as usize,
            api_gap_ms: if crowd { 4000 } else { *rng.pick(&[100, 400, 1000]) },
            large_percent: if crowd { 0 } else { *rng.pick(&[4, 4, 4, 40]) },
            large_bytes: *rng.pick(&[20_000, 60_000]),
            crowd,
            nodes: [0, 2, 0, 1, 0][seed as usize % 5],
            mailbox: *rng.pick(&[1, 1, 2, 8, 16_384]),
            settings,
            stalls,
            outages,
            drain: if drains_busy { rng.within(BUSY / 4, BUSY) } else { QUIET },
            drains_busy,
        }
    }

    /// Whether any settings of this run are so.
    pub fn any(&self, is: impl Fn(&Settings) -> bool) -> bool {
        self.settings.iter().any(|(_, settings)| is(settings))
    }
}

/// Longest time a core stands still.
pub const STALL_MAX: u64 = 800_000;
