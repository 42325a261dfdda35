//! Clients that connect and send, so many at a time, and count what was answered.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::common::client::{Client, Open};
use super::common::packet::{self, Packet};

/// For one answer; shorter than the gateway waits for a backend.
const ANSWER_WITHIN: Duration = Duration::from_secs(14);

pub struct Load {
    port: u16,
    sender: Client,
    next_id: Mutex<u16>,
    sent: AtomicU64,
    connects: AtomicU64,
}

impl Load {
    pub fn open(port: u16) -> Result<Load, String> {
        let sender = Client::start(port, Open::default()).map_err(|error| error.to_string())?;
        admitted(&sender)?;
        Ok(Load {
            port,
            sender,
            next_id: Mutex::new(1),
            sent: AtomicU64::new(0),
            connects: AtomicU64::new(1),
        })
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// 1, 10 and 50 in flight.
    pub fn mixed(&self) -> Result<(), String> {
        for (at_once, count) in [(1, 20), (10, 100), (50, 200)] {
            self.messages(at_once, count)?;
            self.connect(at_once, count / 4)?;
        }
        Ok(())
    }

    /// Sends `count` messages with QoS 1, `at_once` of them unanswered at a time.
    pub fn messages(&self, at_once: u64, count: u64) -> Result<(), String> {
        let mut next_id = self.next_id.lock().unwrap();
        let (mut started, mut answered) = (0, 0);
        while answered < count {
            while started < count && started - answered < at_once {
                self.sender
                    .send(&packet::send(1, 7, *next_id, format!("message {next_id}")));
                *next_id = next_id.checked_add(1).unwrap_or(1);
                started += 1;
            }
            let frame = self
                .sender
                .next(ANSWER_WITHIN)
                .map(|frame| Packet::decode(&frame.payload));
            match frame {
                Some(Some(Packet::Ack { .. })) => answered += 1,
                other => {
                    return Err(format!(
                        "{} of {count} messages lost, {at_once} in flight, after {} in all: {other:?}",
                        count - answered,
                        self.sent() + answered
                    ));
                }
            }
        }
        self.sent.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Connects `count` clients, `at_once` at a time; each leaves at once.
    fn connect(&self, at_once: u64, count: u64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            let now = left.min(at_once);
            let clients: Vec<_> = (0..now)
                .map(|_| Client::start(self.port, Open::lazy()).map_err(|error| error.to_string()))
                .collect::<Result<_, _>>()?;
            for client in &clients {
                admitted(client)?;
            }
            left -= now;
        }
        self.connects.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

fn admitted(client: &Client) -> Result<(), String> {
    match client.answer(ANSWER_WITHIN) {
        Ok(answer) if answer.status == 101 => Ok(()),
        Ok(answer) => Err(format!("a connect was answered {}", answer.status)),
        Err(error) => Err(format!("a connect failed: {error}")),
    }
}
