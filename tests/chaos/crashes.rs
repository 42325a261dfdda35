//! Processes that are killed, and processes that stand still.

use crate::play::{begin, end, everybody_is_in, go_on, server};
use crate::roles::Stage;
use std::time::Duration;

const CLIENTS: u64 = 48;
const A_WHILE: Duration = Duration::from_secs(2);

/// The business server is killed twice under load. Clients stay; what was acknowledged was handled; what was not is repeated
/// by the clients and handled then; close callbacks wait.
pub fn business_killed() {
    let mut stage = Stage::local();
    let server = server(&stage).start();
    let mut load = stage.load();
    begin(&mut load, CLIENTS);
    for _ in 0..2 {
        go_on(A_WHILE);
        stage.business.kill();
        let before = load.ask("status");
        go_on(A_WHILE);
        let after = load.ask("status");
        assert_eq!(after["cut"], before["cut"], "nobody is closed over it: {after:?}");
        stage.restart_business();
    }
    go_on(A_WHILE);
    end("business_killed", &mut stage, &server, &mut load, CLIENTS);
}

/// The server is killed twice under load and started again on its port. Clients come back; nothing that was acknowledged, in
/// either direction, is lost; those who came after it have their close callback.
pub fn server_killed() {
    let mut stage = Stage::local();
    let mut running = server(&stage).start();
    let mut load = stage.load();
    begin(&mut load, CLIENTS);
    for _ in 0..2 {
        go_on(A_WHILE);
        drop(running); // SIGKILL
        load.say("crash");
        load.ask("status"); // it has been noted before anybody can come back
        running = server(&stage).start();
        everybody_is_in(&mut load, CLIENTS);
    }
    go_on(A_WHILE);
    let cut = load.ask("status")["cut"];
    assert!(cut >= CLIENTS, "only {cut} connections were cut by two kills");
    end("server_killed", &mut stage, &running, &mut load, CLIENTS);
}

/// The server, the business server and both stand still (SIGSTOP) for less than any time-out, and go on. Nobody is lost.
pub fn both_stopped_for_a_while() {
    let mut stage = Stage::local();
    let server = server(&stage).set("callback_timeout", 60).start();
    let mut load = stage.load();
    begin(&mut load, CLIENTS);
    let pause = Duration::from_secs(3);
    for (server_stops, business_stops) in [(true, false), (false, true), (true, true)] {
        go_on(Duration::from_secs(1));
        let both = |signal: &str| {
            if server_stops {
                server.signal(signal);
            }
            if business_stops {
                stage.business.signal(signal);
            }
        };
        both("STOP");
        go_on(pause);
        both("CONT");
    }
    go_on(A_WHILE);
    assert_eq!(load.ask("status")["cut"], 0, "nobody was closed over it");
    end("both_stopped_for_a_while", &mut stage, &server, &mut load, CLIENTS);
}
