//! From the text of a file to a [`Config`]: finds each key of the table, collects every error and warning.
//!
//! Steps: read the ini text → section → every row of the table → command line → remarks about what was not used.
//! Nothing stops at the first error. Caller: `Config::from_file_text`.

use super::doubt;
use super::ini::{self, Entry, Ini, Problem};
use super::keys::{self, Key};
use super::kind::{Kind, Reading};
use super::{
    ClusterUdp, Config, ConfigError, ForwardOrder, Note, Origin, Overrides, SECTION, Setting, TOKEN_EXAMPLE, Warning,
    gateway,
};

/// Longest unknown key that is compared with the known ones.
const NEAREST_BYTES_MAX: usize = 40;

pub(super) fn load(label: &str, text: &str, overrides: &Overrides) -> Result<(Config, Vec<Warning>), Vec<ConfigError>> {
    let note = |line: u32, text: String| Note {
        file: label.into(),
        line: (line > 0).then_some(line),
        key: None,
        text,
    };
    let ini = match ini::parse(label, text) {
        Ok(ini) => ini,
        Err(errors) => {
            return Err(errors
                .iter()
                .map(|e| ConfigError(note(e.line, e.problem.to_string())))
                .collect());
        }
    };
    let mut config = Config::blank();
    config.gateway.on = ini.section(gateway::SECTION).is_some();
    config.gateway.handlers = overrides.handlers;
    if ini.section(SECTION).is_none() && !config.gateway.on {
        return Err(vec![ConfigError(note(0, missing_section(&ini)))]);
    }
    let mut loader = Loader {
        ini: &ini,
        config,
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    loader.config.rainbow = loader.has_rainbow();
    keys::all().for_each(|key| loader.key(key));
    loader.ports(overrides);
    loader.tls();
    loader.cluster();
    loader.gateway();
    loader.unknown_keys();
    loader.remarks();
    if loader.errors.is_empty() {
        Ok((loader.config, loader.warnings))
    } else {
        Err(loader.errors)
    }
}

fn missing_section(ini: &Ini) -> String {
    let near = ini
        .section_names()
        .find(|name| name.trim().eq_ignore_ascii_case(SECTION));
    match near {
        Some(name) => format!(
            "section [{SECTION}] is missing; [{}] is another one, write [{SECTION}]",
            name.escape_debug()
        ),
        None => format!("section [{SECTION}] is missing; put the settings under a line [{SECTION}]"),
    }
}

struct Loader<'a> {
    ini: &'a Ini,
    config: Config,
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

impl Loader<'_> {
    fn note(&self, key: &str, line: Option<u32>, text: impl Into<String>) -> Note {
        Note {
            file: self.ini.label().to_owned(),
            line,
            key: Some(key.to_owned()),
            text: text.into(),
        }
    }

    fn fail(&mut self, key: &str, line: Option<u32>, text: impl Into<String>) {
        let note = self.note(key, line, text);
        self.errors.push(ConfigError(note));
    }

    fn warn(&mut self, key: &str, line: Option<u32>, text: impl Into<String>) {
        let note = self.note(key, line, text);
        self.warnings.push(Warning(note));
    }

    /// An entry of the main section.
    fn entry(&self, name: &str) -> Option<&Entry> {
        self.ini.entry(SECTION, name)
    }

    /// What a key is called in a message under this one of its names.
    fn label(key: &Key, name: &str) -> String {
        if key.section == SECTION {
            name.to_owned()
        } else {
            format!("[{}] {name}", key.section)
        }
    }

    fn line(&self, name: &str) -> Option<u32> {
        self.entry(name).map(|entry| entry.line)
    }

    /// One row: the file's value under the first of its names, else the default.
    fn key(&mut self, key: &'static Key) {
        let ini = self.ini;
        let entry = |name: &str| ini.entry(key.section, name);
        let mut written = key.names().filter(|name| entry(name).is_some());
        let name = written.next();
        let surplus: Vec<_> = written.collect();
        for alias in surplus {
            self.warn(
                alias,
                entry(alias).map(|entry| entry.line),
                format!("is ignored, because {} is set too", key.name),
            );
        }
        let origin = match (name, key.default) {
            (Some(name), _) => self.written(key, name),
            (None, Some(default)) => self.default(key, default),
            (None, None) if !self.config.rainbow => None,
            (None, None) if matches!(key.kind, Kind::OptionalUrl(_)) && self.is_older() => {
                self.warn(
                    key.name,
                    None,
                    "is not set, as the older layout allows: the backend is not told when a client has gone",
                );
                None
            }
            (None, None) => self.missing(key),
        };
        if let Some(origin) = origin {
            let shown = key.kind.show(&mut self.config);
            self.config.settings.push(Setting {
                name: key.label,
                shown,
                origin,
            });
        }
    }

    fn written(&mut self, key: &Key, name: &'static str) -> Option<Origin> {
        let label = Self::label(key, name);
        let (text, line) = match self.ini.value(key.section, name) {
            Ok(found) => found?,
            Err(error) => {
                self.fail(&label, Some(error.line), interpolation_advice(key, &error.problem));
                return None;
            }
        };
        // The caller decodes leniently, so that comments may be in any encoding; values may not.
        if text.contains(char::REPLACEMENT_CHARACTER) {
            self.fail(&label, Some(line), "value is not UTF-8; save the file as UTF-8");
            return None;
        }
        let read = key.kind.read(&text, &mut self.config);
        if let Err(refusal) = self.weigh(key, name, &text, read) {
            self.fail(&label, Some(line), refusal);
            return None;
        }
        if matches!(key.kind, Kind::Ignored) {
            self.warn(&label, Some(line), "has no effect since version 0.02; remove it");
        }
        Some(Origin::File {
            label: self.ini.label().to_owned(),
            line,
        })
    }

    /// What is to be said about a value that was read, or could not be; the error is why it is refused.
    fn weigh(
        &mut self,
        key: &Key,
        name: &'static str,
        text: &str,
        read: Result<Reading, String>,
    ) -> Result<(), String> {
        let Some(entry) = self.ini.entry(key.section, name) else {
            return read.map(drop);
        };
        let is_known = |name: &str| is_known(key.section, name);
        let (line, mut doubts) = (Some(entry.line), doubt::doubts(entry, is_known));
        let mut remarks = Vec::new();
        if let Some(earlier) = entry.replaced {
            remarks.push(format!("is set on line {earlier} too; the last one counts"));
        }
        match (&read, doubts.first()) {
            (Err(refusal), Some(doubt)) => return Err(format!("{refusal} ({})", doubt.text)),
            (Err(refusal), None) => return Err(refusal.clone()),
            (Ok(Reading::Fallback(remark)), Some(doubt)) => remarks.push(format!("{remark} ({})", doubt.text)),
            (Ok(Reading::Fallback(remark)), None) => remarks.push((*remark).to_owned()),
            (Ok(Reading::AsWritten), Some(doubt)) if doubt.is_certain && doubt::is_ours(&key.kind) => {
                return Err(doubt.text.clone());
            }
            (Ok(Reading::AsWritten), _) if doubt::takes_any_text(&key.kind) => {
                remarks.extend(doubts.drain(..).map(|doubt| doubt.text));
            }
            (Ok(Reading::AsWritten), _) => {}
        }
        match key.kind {
            Kind::Secret(_) | Kind::Secrets(_) if remarks.is_empty() => remarks.extend(doubt::goes_on(entry)),
            Kind::Url(_) | Kind::MaybeUrl(_) => remarks.extend(doubt::encoded_user(text).map(str::to_owned)),
            _ => {}
        }
        let label = Self::label(key, name);
        remarks.into_iter().for_each(|remark| self.warn(&label, line, remark));
        Ok(())
    }

    fn default(&mut self, key: &Key, default: &str) -> Option<Origin> {
        match key.kind.read(default, &mut self.config) {
            Ok(_) => Some(Origin::Default),
            // Only a mistake in the table leads here; its test reads every default.
            Err(refusal) => {
                self.fail(key.label, None, refusal);
                None
            }
        }
    }

    /// Rainbow needs its settings, unless the file is another door's and names none of its URLs.
    fn has_rainbow(&self) -> bool {
        let is_url = |key: &&'static Key| matches!(key.kind, Kind::Url(_) | Kind::OptionalUrl(_));
        let mut names = keys::all().filter(is_url).flat_map(Key::names);
        !self.config.gateway.on || names.any(|name| self.entry(name).is_some())
    }

    /// The layout of the README from before 0.01, which knows no close callback.
    fn is_older(&self) -> bool {
        self.entry("auth_url").is_some() || self.entry("security_key").is_some()
    }

    fn missing(&mut self, key: &Key) -> Option<Origin> {
        let example = key.shipped.unwrap_or_default();
        let reason = if self.is_older() {
            "is missing; this file has the older layout, which this server reads, but"
        } else {
            "is missing;"
        };
        if let Some(line) = self.swallowed(key) {
            let text = format!("is missing; line {line} has it, but is indented and so continues the value above it");
            self.fail(key.name, Some(line), text);
            return None;
        }
        self.fail(
            key.name,
            None,
            format!("{reason} add a line like `{} = {example}` under [{SECTION}]", key.name),
        );
        None
    }

    /// The line of this key if it has become part of another one's value.
    fn swallowed(&self, key: &Key) -> Option<u32> {
        let entries = self.ini.section(SECTION)?.values();
        let all = entries.flat_map(|entry| doubt::doubts(entry, |name| is_known(SECTION, name)));
        let swallowed = all.filter_map(|doubt| doubt.swallowed);
        let mut lines = swallowed.filter_map(|(name, line)| key.names().any(|known| known == name).then_some(line));
        lines.next()
    }

    /// `-p` beats the file; the older layout's two ports are both served (spec §2).
    fn ports(&mut self, overrides: &Overrides) {
        let both = self.config.socket_port.filter(|_| self.entry("http_port").is_some());
        let socket_line = self.line("socket_port");
        if let Some(port) = overrides.port {
            self.config.http_port = port;
            self.config.ports = vec![port];
            self.strict_port(Origin::Option("-p"));
            if both.is_some() {
                self.warn(
                    "socket_port",
                    socket_line,
                    "is not served, because -p names the only port",
                );
            }
            for setting in self
                .config
                .settings
                .iter_mut()
                .filter(|setting| setting.name == "http_port")
            {
                (setting.shown, setting.origin) = (port.to_string(), Origin::Option("-p"));
            }
            return;
        }
        if self.entry("http_port").is_some() && !self.may_be_an_originals() {
            self.strict_port(Origin::Default);
        }
        self.config.ports = vec![self.config.http_port];
        self.config
            .ports
            .extend(both.filter(|port| *port != self.config.http_port));
        if both.is_none() && self.config.socket_port.is_some() {
            self.warn(
                "socket_port",
                socket_line,
                "has no effect without http_port; write http_port for the listening port",
            );
        }
    }

    /// Who names a port, on the command line or in a file that is not an original's, means that one, unless the file says
    /// otherwise.
    fn strict_port(&mut self, origin: Origin) {
        if self.entry("port_search").is_some() {
            return;
        }
        self.config.port_search = false;
        let settings = self.config.settings.iter_mut();
        for setting in settings.filter(|setting| setting.name == "port_search") {
            (setting.shown, setting.origin) = ("no".into(), origin.clone());
        }
    }

    /// What belongs together in the TLS settings. The files themselves are the business of whoever may open files.
    fn tls(&mut self) {
        let (certs, keys) = (self.config.tls_cert.len(), self.config.tls_key.len());
        let (cert_line, key_line) = (self.line("tls_cert"), self.line("tls_key"));
        if certs != keys {
            let text =
                format!("lists {keys} files, but tls_cert lists {certs}; each certificate needs its key, in order");
            self.fail("tls_key", key_line.or(cert_line), text);
        }
        match self.config.tls_port {
            Some(_) if certs == 0 => {
                let text = "needs a certificate; add tls_cert and tls_key, or set tls_port = 0";
                self.fail("tls_port", self.line("tls_port"), text);
            }
            Some(port) if self.config.ports.contains(&port) => {
                let text = format!("{port} is the port without TLS too; choose another one");
                self.fail("tls_port", self.line("tls_port"), text);
            }
            None if certs > 0 && !self.config.listens_with_tls() => {
                self.warn("tls_cert", cert_line, "has no effect without tls_port")
            }
            _ => {}
        }
        let pair = [
            ("callback_cert", &self.config.callback_cert),
            ("callback_key", &self.config.callback_key),
        ];
        if let [(given, Some(_)), (missing, None)] | [(missing, None), (given, Some(_))] = pair {
            let text = format!("is of no use without {missing}; set both or none");
            self.fail(given, self.line(given), text);
        }
    }

    /// What has to fit together in the settings of the gateway, and with the main ones.
    fn gateway(&mut self) {
        let gateway = &self.config.gateway;
        if !gateway.on {
            return;
        }
        let (port, tls_port) = (gateway.port, gateway.tls_port);
        let taken = |port| self.config.ports.contains(&port) || self.config.tls_port == Some(port);
        let line = |name: &str| self.ini.entry(gateway::SECTION, name).map(|entry| entry.line);
        let mut wrong = Vec::new();
        let other = "is a port of [main] too; choose another one";
        if taken(port) {
            wrong.push(("[gateway] port", line("port"), format!("{port} {other}")));
        }
        if let Some(tls_port) = tls_port {
            if taken(tls_port) {
                wrong.push(("[gateway] tls_port", line("tls_port"), format!("{tls_port} {other}")));
            } else if tls_port == port {
                let text = format!("{tls_port} is the port without TLS too; choose another one");
                wrong.push(("[gateway] tls_port", line("tls_port"), text));
            }
            if self.config.tls_cert.is_empty() {
                let text = "needs a certificate; add tls_cert and tls_key under [main], or set tls_port = 0";
                wrong.push(("[gateway] tls_port", line("tls_port"), text.into()));
            }
        }
        if gateway.api_tokens.is_empty() && !self.config.bind.iter().all(|address| address.is_loopback()) {
            let text = "is empty, so everybody who reaches the port of [main] could send to every client: set a token, or \
                        let bind of [main] have addresses of this machine only (127.0.0.1, ::1)";
            wrong.push(("[gateway] api_tokens", line("api_tokens"), text.into()));
        }
        let urls = [
            &gateway.url,
            &gateway.connect_url,
            &gateway.message_url,
            &gateway.close_url,
        ];
        let has_urls = urls.into_iter().any(Option::is_some);
        let is_unsigned = gateway.secret.expose().is_empty() && has_urls;
        let (secret_line, url_line, gateway_handlers) = (line("secret"), line("url"), gateway.handlers);
        for (label, line, text) in wrong {
            self.fail(label, line, text);
        }
        if gateway_handlers && has_urls {
            let text = "is not called: this program handles the events itself";
            self.warn("[gateway] url", url_line, text);
        } else if is_unsigned {
            let text = "is empty: a backend cannot tell the events of this server from anybody else's";
            self.warn("[gateway] secret", secret_line, text);
        }
    }

    /// Broadcasts are the original's habit, and safe with a signature only.
    fn cluster(&mut self) {
        let line = self.line("cluster_udp");
        if self.config.cluster_udp == ClusterUdp::Auto {
            let choice = if self.may_be_an_originals() {
                ClusterUdp::Open
            } else {
                ClusterUdp::No
            };
            self.config.cluster_udp = choice;
            let settings = self.config.settings.iter_mut();
            for setting in settings.filter(|setting| setting.name == "cluster_udp") {
                setting.shown = choice.word().to_owned();
            }
            if choice == ClusterUdp::No && !self.config.cluster_name.is_empty() && self.config.cluster_peers.is_empty()
            {
                let text =
                    "has no effect: set cluster_udp = signed (or open, with servers of version 0.05), or cluster_peers";
                self.warn("cluster_name", self.line("cluster_name"), text);
            }
        }
        if !self.config.rainbow {
            let is_on = self.config.cluster_udp != ClusterUdp::No;
            let text = "is of no use without connect_url, forward_url and close_url: such a cluster is rainbow's";
            if is_on {
                self.fail("cluster_udp", line, text);
            }
            if !self.config.cluster_peers.is_empty() {
                self.fail("cluster_peers", self.line("cluster_peers"), text);
            }
            return;
        }
        match self.config.cluster_udp {
            ClusterUdp::Signed if self.config.security_token.expose().is_empty() => {
                self.fail(
                    "cluster_udp",
                    line,
                    "is signed, but security_token is empty: set a token",
                );
            }
            ClusterUdp::Open => {
                let text = "is open: whoever can send a datagram to this machine can become a server of the cluster, and gets \
                            requests signed with the token; set signed if all servers are of this version, or no";
                self.warn("cluster_udp", line, text);
            }
            _ => {}
        }
    }

    /// Whether the file has nothing but settings of versions up to 0.05. Unknown keys were ignored by them too.
    fn may_be_an_originals(&self) -> bool {
        let is_new = |name: &str| !keys::ORIGINALS.contains(&name) && self.entry(name).is_some();
        let mut names = keys::all().filter(|key| key.section == SECTION).flat_map(Key::names);
        !self.config.gateway.on && !names.any(is_new)
    }

    /// The original ignores keys it does not know, so they are never fatal. A key that only serves `%(name)s` is fine.
    fn unknown_keys(&mut self) {
        self.unknown_keys_of(SECTION);
        self.unknown_keys_of(gateway::SECTION);
    }

    fn unknown_keys_of(&mut self, section: &'static str) {
        let ini = self.ini;
        let Some(entries) = ini.section(section) else { return };
        let is_known = |name: &str| is_known(section, name);
        let values: String = entries.values().map(|entry| entry.raw.to_ascii_lowercase()).collect();
        let mut unknown: Vec<(&String, &Entry)> = entries.iter().filter(|(name, _)| !is_known(name)).collect();
        unknown.sort_by_key(|(_, entry)| entry.line);
        for (name, entry) in unknown.into_iter().take(ini::ERRORS_MAX) {
            if values.contains(&format!("%({name})s")) {
                continue;
            }
            let advice = match nearest(section, name) {
                Some(known) => format!("unknown key, ignored; did you mean {known}?"),
                None => "unknown key, ignored".to_owned(),
            };
            let mut name = name.escape_debug().to_string();
            if section != SECTION {
                name = format!("[{section}] {name}");
            }
            self.warn(&name, Some(entry.line), advice);
            for doubt in doubt::doubts(entry, is_known) {
                if doubt.swallowed.is_some() {
                    self.warn(&name, Some(entry.line), doubt.text);
                }
            }
        }
    }

    /// Values that are allowed but rarely meant.
    fn remarks(&mut self) {
        if !self.errors.is_empty() || !self.config.rainbow {
            return;
        }
        if !self.config.forward_url.has_placeholder() {
            let text = "has no {message_type}; the business server will not learn the type of a message";
            self.warn("forward_url", self.line("forward_url"), text);
        }
        let token = self.config.security_token.expose();
        let token_remark = match token {
            "" => Some("is empty: everybody who reaches the port can send to every client"),
            TOKEN_EXAMPLE => Some("is the one of the example file, which everybody knows; choose your own"),
            _ => None,
        };
        if let Some(remark) = token_remark {
            let name = if self.entry("security_token").is_some() {
                "security_token"
            } else {
                "security_key"
            };
            self.warn(name, self.line(name), remark);
        }
        let accept = &self.config.signature_accept;
        if !accept.is_empty() && !accept.contains(&self.config.signature) {
            self.warn(
                "signature_accept",
                self.line("signature_accept"),
                "leaves out what signature says: servers of a cluster with this file refuse each other",
            );
        }
        if self.config.forward_order == ForwardOrder::None && self.entry("forward_window").is_some() {
            self.warn(
                "forward_window",
                self.line("forward_window"),
                "has no effect without forward_order = client",
            );
        }
    }
}

fn is_known(section: &str, name: &str) -> bool {
    names_of(section).any(|known| known == name)
}

/// The names that keys have in a section.
fn names_of(section: &str) -> impl Iterator<Item = &'static str> {
    let keys = keys::all().filter(move |key| key.section == section);
    keys.flat_map(Key::names)
}

/// Most `%` problems are percent-encoded URLs or tokens with a percent sign. A token's text is never repeated.
fn interpolation_advice(key: &Key, problem: &Problem) -> String {
    match (&key.kind, problem) {
        (Kind::Secret(_) | Kind::Secrets(_), Problem::UnknownName(_)) => {
            "holds a %(name)s reference to no known key; write % as %%".into()
        }
        (Kind::Url(_) | Kind::MaybeUrl(_), Problem::StrayPercent(_)) => format!("{problem} (a URL's %2F becomes %%2F)"),
        _ => problem.to_string(),
    }
}

/// The known name that differs least, if it is close enough to be a slip.
fn nearest(section: &str, name: &str) -> Option<&'static str> {
    if name.len() > NEAREST_BYTES_MAX {
        return None;
    }
    let distances = names_of(section).map(|known| (distance(name, known), known));
    let (slips, known) = distances.min_by_key(|(slips, _)| *slips)?;
    (slips <= (known.len() / 3).min(3)).then_some(known)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut previous = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b.bytes()) {
            let substituted = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = substituted.min(previous + 1).min(diagonal + 1);
            previous = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
