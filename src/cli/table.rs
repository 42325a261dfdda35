//! Every command and option there is, as one table: help texts, the reader of subcommands ([`super::given`]) and the
//! completions ([`super::completions`]) are made from it, and a test compares the man page with it.
//!
//! The server itself is the first command and has no name: its command line is the original's, and read by `cli.rs`.

/// A command.
#[derive(Debug)]
pub struct Command {
    /// First word of the command line; empty for the server.
    pub name: &'static str,
    /// What follows the name, one line per form.
    pub usage: &'static [&'static str],
    /// One line.
    pub about: &'static str,
    /// Options, by group.
    pub options: &'static [&'static [Opt]],
    /// What the first word behind the options may be; empty: anything.
    pub words: &'static [&'static str],
    /// Printed below the options.
    pub notes: &'static str,
}

/// An option.
#[derive(Debug)]
pub struct Opt {
    /// `f` for `-f`.
    pub short: Option<char>,
    /// `file` for `--file`.
    pub long: &'static str,
    /// What comes with it.
    pub value: Value,
    /// One line.
    pub about: &'static str,
}

/// What comes with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    None,
    /// A text, called so in the help.
    Text(&'static str),
    /// A file.
    File(&'static str),
    /// One of these words.
    Words(&'static str, &'static [&'static str]),
}

impl Value {
    /// What the help calls it.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Value::None => None,
            Value::Text(name) | Value::File(name) | Value::Words(name, _) => Some(name),
        }
    }
}

impl Command {
    /// All its options.
    pub fn options(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().copied().flatten()
    }

    /// The option with this letter.
    pub fn short(&self, letter: char) -> Option<&'static Opt> {
        self.options().find(|option| option.short == Some(letter))
    }

    /// The option with this name.
    pub fn long(&self, name: &str) -> Option<&'static Opt> {
        self.options().find(|option| option.long == name)
    }

    /// `usage: …`, one line per form.
    pub fn usage(&self) -> String {
        let space = if self.name.is_empty() { "" } else { " " };
        let forms = self.usage.iter().enumerate().map(|(at, form)| {
            let start = if at == 0 { "usage: " } else { "       " };
            format!("{start}rainbow-server{space}{} {form}", self.name)
        });
        forms.collect::<Vec<_>>().join("\n")
    }

    /// One line per option.
    pub fn option_lines(&self) -> String {
        let heads: Vec<_> = self.options().map(Opt::head).collect();
        let width = heads.iter().map(String::len).max().unwrap_or_default();
        let lines = heads
            .iter()
            .zip(self.options())
            .map(|(head, option)| format!("  {head:width$}  {}", option.about));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The help of a subcommand.
    pub fn help(&self) -> String {
        let Self { about, notes, .. } = self;
        let notes = if notes.is_empty() {
            String::new()
        } else {
            format!("\n{notes}\n")
        };
        format!("{about}\n\n{}\n\n{}\n{notes}", self.usage(), self.option_lines())
    }
}

impl Opt {
    /// `-f, --file FILE`.
    fn head(&self) -> String {
        let short = self.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let value = self.value.name().map_or(String::new(), |name| format!(" {name}"));
        format!("{short}--{}{value}", self.long)
    }
}

/// All commands, the server first.
pub static COMMANDS: &[Command] = &[SERVER, DOCTOR, SEND, SUB, TAIL, COMPLETIONS];

/// The server.
pub const SERVER: Command = Command {
    name: "",
    usage: &[
        "-f FILE [-p PORT] [--takeover | --check-config]",
        "--demo [-p PORT]",
        "--print-config | --help | --version",
        "doctor | send | sub | tail | completions  [--help]",
    ],
    about: "message gateway between websockets and HTTP servers",
    options: &[&[
        file("settings (ini); --print-config writes one to start from"),
        Opt {
            short: Some('p'),
            long: "port",
            value: Value::Text("PORT"),
            about: "port to listen on, 1..65535; beats the file",
        },
        flag(
            "takeover",
            "take the listening sockets of the server that runs on this port; it closes its clients and ends",
        ),
        flag(
            "check-config",
            "explain the settings in force and exit: 0 if they are valid, else 2",
        ),
        flag("print-config", "print a commented settings file and exit"),
        flag(
            "demo",
            "serve with a built-in business server, on this machine only; needs no file",
        ),
        HELP,
        Opt {
            short: Some('V'),
            long: "version",
            value: Value::None,
            about: "show the version and exit",
        },
    ]],
    words: &[],
    notes: "",
};

const DOCTOR: Command = Command {
    name: "doctor",
    usage: &["-f FILE [--connect] [--json]"],
    about: "Looks for what would keep a server with these settings from working on this machine.",
    options: &[&[
        file("settings of the server"),
        flag(
            "connect",
            "ask connect_url about a client named rainbow-server-doctor, then tell close_url that it has gone",
        ),
        flag("json", "one JSON object per finding"),
        HELP,
    ]],
    words: &[],
    notes: "Without --connect the backend gets a signed OPTIONS request, which no handler acts on. A server that runs
already is asked whether it takes signatures made with the secret of the file.
Exit code: 0 no problem (warnings are none); 1 at least one problem; 2 the command line or the settings are not valid.",
};

const SEND: Command = Command {
    name: "send",
    usage: &[
        "[OPTIONS] CHANNEL [DATA | -]",
        "[OPTIONS] --uid USER [DATA | -]",
        "[OPTIONS] --as DEVICE [DATA | -]",
    ],
    about: "Sends a message: to the clients in a channel or of a user as the backend does, or as a client to the backend.",
    options: &[
        &[
            Opt {
                short: Some('u'),
                long: "uid",
                value: Value::Text("USER"),
                about: "to all clients of a user instead of a channel",
            },
            Opt {
                short: None,
                long: "as",
                value: Value::Text("DEVICE"),
                about: "connect as a client with this device id and send to the backend; prints its answer",
            },
            OS,
            HEADER,
            Opt {
                short: Some('t'),
                long: "type",
                value: Value::Text("NUMBER"),
                about: "message type, 0..65535 (default 1)",
            },
            Opt {
                short: Some('Q'),
                long: "qos",
                value: Value::Words("QOS", &["0", "1", "2"]),
                about: "0, 1 or 2 (default 1)",
            },
            Opt {
                short: None,
                long: "timeout",
                value: Value::Text("SECONDS"),
                about: "for the acknowledgements (default 10)",
            },
            Opt {
                short: None,
                long: "expect",
                value: Value::Text("NUMBER"),
                about: "exit code 5 unless as many clients acknowledge",
            },
            flag("lines", "each line of standard input is a message"),
        ],
        REACH,
        SIGNING,
    ],
    words: &[],
    notes: EXIT_CODES,
};

const SUB: Command = Command {
    name: "sub",
    usage: &["[OPTIONS] IDENTITY CHANNEL..."],
    about: "Subscribes a connected client to channels, as the backend does.",
    options: &[
        &[
            flag("remove", "take it out of the channels instead"),
            flag("occupy", "empty each channel first"),
        ],
        REACH,
        SIGNING,
    ],
    words: &[],
    notes: EXIT_CODES,
};

const TAIL: Command = Command {
    name: "tail",
    usage: &["[OPTIONS]"],
    about: "Connects as a client, shows and acknowledges the messages that come, and connects again when it has to.",
    options: &[
        &[
            Opt {
                short: Some('d'),
                long: "device",
                value: Value::Text("DEVICE"),
                about: "device id (default rainbow-server-tail)",
            },
            OS,
            HEADER,
            Opt {
                short: None,
                long: "ack",
                value: Value::Text("DATA"),
                about: "what acknowledgements carry",
            },
            Opt {
                short: Some('n'),
                long: "count",
                value: Value::Text("NUMBER"),
                about: "end after so many messages",
            },
            Opt {
                short: None,
                long: "seconds",
                value: Value::Text("SECONDS"),
                about: "end after this time; exit code 5 if --count has not been reached",
            },
            flag("once", "end with the connection; exit code 3"),
        ],
        REACH,
    ],
    words: &[],
    notes: EXIT_CODES,
};

const COMPLETIONS: Command = Command {
    name: "completions",
    usage: &["bash | zsh | fish"],
    about: "Prints the completions of a shell.",
    options: &[&[HELP]],
    words: &["bash", "zsh", "fish"],
    notes: "bash: source it, or put it into /usr/share/bash-completion/completions/rainbow-server
zsh:  put it as _rainbow-server into a folder of $fpath
fish: put it into ~/.config/fish/completions/rainbow-server.fish",
};

/// Below the help of each subcommand that talks to a server.
pub const EXIT_CODES: &str = "Exit code: 0 done; 1 standard output cannot be written; 2 the command line or the settings are not valid;
3 the server cannot be reached, or the connection was lost; 4 the server says no; 5 not enough clients, or none in time.";

const HELP: Opt = Opt {
    short: Some('h'),
    long: "help",
    value: Value::None,
    about: "show this help and exit",
};

const OS: Opt = Opt {
    short: None,
    long: "os",
    value: Value::Text("NAME"),
    about: "platform of the client (default cli)",
};

const HEADER: Opt = Opt {
    short: Some('H'),
    long: "header",
    value: Value::Text("LINE"),
    about: "'Name: value' for the client's handshake, for example a session token; may be repeated",
};

/// Where the server is, and how results are shown.
const REACH: &[Opt] = &[
    file("settings of the server: where it listens, and with what it signs"),
    Opt {
        short: None,
        long: "url",
        value: Value::Text("URL"),
        about: "where the server is instead: http, https, ws or wss (default http://127.0.0.1:1984)",
    },
    Opt {
        short: None,
        long: "ca",
        value: Value::File("FILE"),
        about: "certificate authorities (PEM) beside those of the system",
    },
    flag("json", "one JSON object per line on standard output"),
    Opt {
        short: Some('q'),
        long: "quiet",
        value: Value::None,
        about: "nothing but errors on standard error",
    },
    HELP,
];

const SIGNING: &[Opt] = &[
    Opt {
        short: None,
        long: "token-file",
        value: Value::File("FILE"),
        about: "holds the shared secret; else $RAINBOW_TOKEN, else the one of -f",
    },
    Opt {
        short: None,
        long: "signature",
        value: Value::Words("SCHEME", &["sha1", "hmac-sha256"]),
        about: "how to sign (default: as -f says, else sha1)",
    },
];

const fn flag(long: &'static str, about: &'static str) -> Opt {
    Opt {
        short: None,
        long,
        value: Value::None,
        about,
    }
}

const fn file(about: &'static str) -> Opt {
    Opt {
        short: Some('f'),
        long: "file",
        value: Value::File("FILE"),
        about,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_option_has_the_name_of_another() {
        for command in COMMANDS {
            let longs: BTreeSet<_> = command.options().map(|option| option.long).collect();
            let shorts: Vec<_> = command.options().filter_map(|option| option.short).collect();
            assert_eq!(longs.len(), command.options().count(), "{}", command.name);
            assert_eq!(
                shorts.iter().collect::<BTreeSet<_>>().len(),
                shorts.len(),
                "{}",
                command.name
            );
            assert!(command.long("help").is_some(), "{}", command.name);
        }
    }

    #[test]
    fn the_usage_of_the_server_names_every_other_command() {
        let usage = SERVER.usage();
        assert!(COMMANDS.iter().all(|command| usage.contains(command.name)), "{usage}");
    }

    #[test]
    fn help_is_aligned() {
        let help = SEND.help();
        assert!(help.contains("\n  -t, --type NUMBER       message type"), "{help}");
        assert!(help.contains("\n      --signature SCHEME  how to sign"), "{help}");
        assert!(
            help.starts_with("Sends a message") && help.ends_with("none in time.\n"),
            "{help}"
        );
    }
}
