//! The name of a backend while name servers fail, and the machine's own name: a name server of the test's own, which the gateway
//! is given by a `resolv.conf` of its own (root and `unshare` are needed).

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::common::business::{Business, Reply};
use super::common::client::{Client, Open};
use super::common::server::{Builder, TOKEN};
use super::common::{SOON, eventually, ms};

const NAME: &str = "backend.rainbow.test";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Mood {
    Answers,
    NoSuchName,
    Refuses,
    Fails,
    IsSilent,
}

/// A name server that says 127.0.0.1 for every name, or nothing of the kind.
struct NameServer {
    address: IpAddr,
    mood: Arc<AtomicU8>,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl NameServer {
    fn start(mood: Mood) -> Option<NameServer> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let last = NEXT.fetch_add(1, Ordering::Relaxed) as u8;
        let address = IpAddr::V4(Ipv4Addr::new(127, high.max(1), low, last));
        let socket = UdpSocket::bind((address, 53)).ok()?;
        let server = NameServer {
            address,
            mood: Arc::new(AtomicU8::new(mood as u8)),
            asked: Arc::default(),
        };
        let (mood, asked) = (server.mood.clone(), server.asked.clone());
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                asked.lock().unwrap().push(question[12..length].to_vec());
                if let Some(answer) = answer(&question[..length], mood.load(Ordering::SeqCst)) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Some(server)
    }

    fn is_now(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// Whether it was asked for a name that begins so.
    fn was_asked_for(&self, label: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.iter().any(|question| question[1..].starts_with(label.as_bytes()))
    }

    /// How a gateway is started that asks this server, on a machine called `hostname`.
    fn through(&self, options: &str, hostname: &str) -> [String; 9] {
        let dir = std::env::temp_dir().join(format!("rainbow-resolv-{}", self.address));
        std::fs::write(&dir, format!("nameserver {}\noptions {options}\n", self.address)).unwrap();
        let script =
            "mount --bind \"$0\" /etc/resolv.conf && echo \"$1\" > /proc/sys/kernel/hostname && shift && exec \"$@\"";
        let words = ["unshare", "--mount", "--uts", "--", "sh", "-c", script];
        let path = dir.display().to_string();
        let mut all = words.into_iter().map(str::to_owned).chain([path, hostname.to_owned()]);
        std::array::from_fn(|_| all.next().unwrap())
    }
}

fn answer(question: &[u8], mood: u8) -> Option<Vec<u8>> {
    let code = match mood {
        m if m == Mood::Answers as u8 => 0,
        m if m == Mood::NoSuchName as u8 => 3,
        m if m == Mood::Refuses as u8 => 5,
        m if m == Mood::Fails as u8 => 2,
        _ => return None,
    };
    let end = question[12..].iter().position(|&byte| byte == 0)? + 12 + 5;
    let is_a = question.get(end - 4..end)? == [0, 1, 0, 1];
    let with_address = code == 0 && is_a;
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(with_address), 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    if with_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

/// Tells why a test cannot run here.
fn cannot_run(name: &str, server: Option<&NameServer>) -> bool {
    let probe = [
        "--mount",
        "--uts",
        "--",
        "sh",
        "-c",
        "mount --bind /dev/null /etc/resolv.conf",
    ];
    let can = Command::new("unshare")
        .args(probe)
        .status()
        .is_ok_and(|status| status.success());
    if can && server.is_some() {
        return false;
    }
    println!("{name} NOT RUN: needs root, unshare and port 53 of a loopback address");
    assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "NOT RUN");
    true
}

fn status_of_a_connect(port: u16) -> u16 {
    let client = Client::start(port, Open::default()).expect("connect to the server");
    client.answer(2 * SOON).expect("an answer").status
}

#[test]
fn a_failed_look_up_does_not_replace_an_answer_that_works() {
    for mood in [Mood::Refuses, Mood::Fails, Mood::IsSilent] {
        let names = NameServer::start(Mood::Answers);
        if cannot_run("a_failed_look_up_does_not_replace_an_answer_that_works", names.as_ref()) {
            return;
        }
        let (names, business) = (names.unwrap(), Business::start());
        business.reply("/connect/", Reply::success());
        let port = business.port();
        let through = names.through("timeout:1 attempts:1", "gateway");
        let server = gateway(port, &through);
        assert_eq!(status_of_a_connect(server.port()), 101);

        names.is_now(mood);
        drop(business);
        std::thread::sleep(ms(2200)); // an answer is used that long, whatever becomes of it
        assert_eq!(status_of_a_connect(server.port()), 503, "nobody there");
        let business = Business::start_on(port);
        business.reply("/connect/", Reply::success());
        for _ in 0..5 {
            assert_eq!(status_of_a_connect(server.port()), 101, "{mood:?}");
            std::thread::sleep(ms(300));
        }
        server.expect_said("its last known addresses are used");

        names.is_now(Mood::NoSuchName); // that is an answer
        assert!(eventually(3 * SOON, || status_of_a_connect(server.port()) == 503));
        names.is_now(Mood::Answers);
        assert!(eventually(3 * SOON, || status_of_a_connect(server.port()) == 101));
    }
}

fn gateway(port: u16, through: &[String]) -> super::common::server::Server {
    let base = format!("http://{NAME}:{port}");
    let words: Vec<&str> = through.iter().map(String::as_str).collect();
    Builder::bare()
        .set("connect_url", format!("{base}/connect/"))
        .set("forward_url", format!("{base}/message/"))
        .set("close_url", format!("{base}/close/"))
        .set("security_token", TOKEN)
        .set("cluster_udp", "no")
        .set("workers", 1)
        .set("callback_idle", 0)
        .through(&words)
        .start()
}

/// The name server is silent for longer than any test waits.
#[test]
fn the_start_does_not_wait_for_the_name_of_the_machine() {
    let names = NameServer::start(Mood::IsSilent);
    if cannot_run("the_start_does_not_wait_for_the_name_of_the_machine", names.as_ref()) {
        return;
    }
    let names = names.unwrap();
    let through = names.through("timeout:30 attempts:5", "nowhere.rainbow.test");
    let server = gateway(1, &through);
    assert!(eventually(SOON, || names.was_asked_for("nowhere")), "it is looked up");
    let told = server.info()["server"].as_str().unwrap_or_default().to_owned();
    assert!(told.ends_with(&format!(":{}", server.port())), "{told}");
}
