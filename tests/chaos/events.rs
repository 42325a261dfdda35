//! What each side writes down: one line per event, a word and numbers. A log is written before what it speaks of can have
//! an effect elsewhere (before an answer is sent, before an acknowledgement leaves), so that it is right also when its
//! process is killed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

/// A run that writes more than this has lost its bounds.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// Number of a connection of a client; a client that comes back has a new one.
pub type Key = u64;

/// One event. `Key`s name connections, `seq` a message of one of them, `id` a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Client: the 101 was read.
    Open { key: Key },
    /// Client: a message is sent, for the first time or again.
    Sent { key: Key, seq: u64, qos: u8 },
    /// Client: its ACK or REC came.
    Answered { key: Key, seq: u64 },
    /// Client: a publish arrived; it is acknowledged after this.
    Got { key: Key, id: u64, repeated: bool },
    /// Client: the connection is over, or given up by the client.
    Ended { key: Key },
    /// Caller: a publish is sent.
    Publish { id: u64, channel: u64, qos: u8 },
    /// Caller: its answer came and counts so many connections (0 with QoS 0).
    Published { id: u64, connections: u64 },
    /// Caller: from now on nobody knows whether the client is in the channel.
    Changing { key: Key, channel: u64 },
    /// Client or caller: it is in the channel.
    Joined { key: Key, channel: u64 },
    /// Caller: it is not in the channel any more.
    Left { key: Key, channel: u64 },
    /// Load: the server was killed and is not back yet.
    Crash,
    /// Business: a new process of it begins.
    Started,
    /// Business: from now on answers may have been lost, so that the server repeats what was taken.
    Doubt,
    /// Business: lets a client in.
    Asked { key: Key },
    /// Business: a message arrived with the cookie of `key`; its payload says it is of `owner`. `fine`: it answers 200.
    Forward {
        key: Key,
        owner: Key,
        seq: u64,
        qos: u8,
        fine: bool,
    },
    /// Business: was told that a client has gone, and accepts that or not.
    Close { key: Key, fine: bool },
}

impl Event {
    /// The line, without its end.
    pub fn line(&self) -> String {
        match *self {
            Event::Open { key } => format!("open {key}"),
            Event::Sent { key, seq, qos } => format!("sent {key} {seq} {qos}"),
            Event::Answered { key, seq } => format!("answered {key} {seq}"),
            Event::Got { key, id, repeated } => format!("got {key} {id} {}", u8::from(repeated)),
            Event::Ended { key } => format!("ended {key}"),
            Event::Publish { id, channel, qos } => format!("publish {id} {channel} {qos}"),
            Event::Published { id, connections } => format!("published {id} {connections}"),
            Event::Changing { key, channel } => format!("changing {key} {channel}"),
            Event::Joined { key, channel } => format!("joined {key} {channel}"),
            Event::Left { key, channel } => format!("left {key} {channel}"),
            Event::Crash => "crash".into(),
            Event::Started => "started".into(),
            Event::Doubt => "doubt".into(),
            Event::Asked { key } => format!("asked {key}"),
            Event::Forward {
                key,
                owner,
                seq,
                qos,
                fine,
            } => format!("forward {key} {owner} {seq} {qos} {}", u8::from(fine)),
            Event::Close { key, fine } => format!("close {key} {}", u8::from(fine)),
        }
    }

    /// The event of a line; None if it is none.
    pub fn parse(line: &str) -> Option<Event> {
        let mut words = line.split(' ');
        let word = words.next()?;
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(match (word, numbers.as_slice()) {
            ("open", &[key]) => Event::Open { key },
            ("sent", &[key, seq, qos]) => Event::Sent {
                key,
                seq,
                qos: qos as u8,
            },
            ("answered", &[key, seq]) => Event::Answered { key, seq },
            ("got", &[key, id, repeated]) => Event::Got {
                key,
                id,
                repeated: repeated == 1,
            },
            ("ended", &[key]) => Event::Ended { key },
            ("publish", &[id, channel, qos]) => Event::Publish {
                id,
                channel,
                qos: qos as u8,
            },
            ("published", &[id, connections]) => Event::Published { id, connections },
            ("changing", &[key, channel]) => Event::Changing { key, channel },
            ("joined", &[key, channel]) => Event::Joined { key, channel },
            ("left", &[key, channel]) => Event::Left { key, channel },
            ("crash", &[]) => Event::Crash,
            ("started", &[]) => Event::Started,
            ("doubt", &[]) => Event::Doubt,
            ("asked", &[key]) => Event::Asked { key },
            ("forward", &[key, owner, seq, qos, fine]) => Event::Forward {
                key,
                owner,
                seq,
                qos: qos as u8,
                fine: fine == 1,
            },
            ("close", &[key, fine]) => Event::Close { key, fine: fine == 1 },
            _ => return None,
        })
    }
}

/// A log that is being written.
pub struct Log {
    file: File,
    pending: Vec<u8>,
    written: u64,
}

impl Log {
    /// Continues the file, or begins it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file,
            pending: Vec::new(),
            written: 0,
        })
    }

    /// Notes an event; it is in the file after the next [`Log::flush`].
    pub fn note(&mut self, event: Event) {
        self.pending.extend_from_slice(event.line().as_bytes());
        self.pending.push(b'\n');
    }

    /// Hands everything to the kernel, which keeps it whatever becomes of this process.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        assert!(self.written < LOG_BYTES_MAX, "the event log has lost its bound");
        Ok(())
    }
}

/// The events of a file in their order. The last line of a process that was killed may be cut; any other must be whole.
pub fn read(path: &Path) -> Vec<Event> {
    let lines: Vec<String> = BufReader::new(File::open(path).expect("event log"))
        .lines()
        .map(|line| line.expect("event log"))
        .collect();
    let parse = |line: &String| Event::parse(line).unwrap_or_else(|| panic!("{}: {line:?}", path.display()));
    lines.iter().map(parse).collect()
}
