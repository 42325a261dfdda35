//! docs/gateway.md: its commands give the answers it says, and its tables are those of the table of functions
//! (`RAINBOW_BLESS=1` writes them).

use std::io::Write;
use std::process::Command;

use rainbow_server::protocol::gateway::api::{functions, routes};

use super::*;

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gateway.md");

fn manual() -> String {
    std::fs::read_to_string(MANUAL).expect("docs/gateway.md")
}

/// Commands with the answer that follows each.
fn commands(text: &str) -> Vec<(String, String)> {
    let blocks = text
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block);
    let curls = blocks.filter(|block| block.starts_with("curl"));
    let pair = |block: &str| {
        let (command, answer) = block.split_once("\n# ").unwrap_or_else(|| panic!("no answer: {block}"));
        (command.to_owned(), answer.trim().to_owned())
    };
    curls.map(pair).collect()
}

#[test]
fn the_commands_of_the_manual_give_what_it_says() {
    let gateway = Gateway::start(Builder::gateway().set("workers", 2));
    let (_client, id) = gateway.connect();
    let node = gateway.get("/v1/nodes")["nodes"][0]["node"]
        .as_str()
        .expect("a name")
        .to_owned();
    let commands = commands(&manual());
    assert!(commands.len() > 12, "{commands:?}");
    for (command, answer) in commands {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &command]).env("TOKEN", TOKEN).env("CLIENT", &id);
        shell
            .env("API", format!("http://127.0.0.1:{}/v1", gateway.server.port()))
            .env("no_proxy", "*");
        let output = shell.output().expect("sh starts");
        if output.status.code() == Some(127) {
            assert!(std::env::var("CI").is_err(), "curl is missing");
            let _ = std::io::stderr().write_all(b"NOT RUN: curl is missing\n");
            return;
        }
        let given = String::from_utf8_lossy(&output.stdout).replace(&node, "NODE");
        assert_eq!(given, answer, "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_tables_of_the_manual_are_those_of_the_functions() {
    let mut text = manual();
    for (name, table) in [("routes", routes()), ("functions", functions())] {
        let begin = text.find(&format!("<!-- {name}:")).expect("a mark");
        let begin = begin + text[begin..].find('\n').expect("its end") + 1;
        let end = begin + text[begin..].find("<!-- end -->").expect("an end");
        text.replace_range(begin..end, &table);
    }
    if std::env::var_os("RAINBOW_BLESS").is_some() {
        std::fs::write(MANUAL, &text).expect("write");
    }
    assert_eq!(manual(), text, "RAINBOW_BLESS=1 writes the tables");
}
