//! Where settings come from: a file, or code.

use std::path::PathBuf;

use crate::cli;
use crate::config::{Config, Overrides, SECTION, Warning, gateway};

/// The settings of a server.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(PathBuf),
    /// Lines of `[main]` and of `[gateway]`.
    Code([Vec<(String, String)>; 2]),
}

impl Default for Source {
    fn default() -> Self {
        let main = [("bind", "127.0.0.1"), ("cluster_udp", "no")];
        Source::Code([main.map(|(key, value)| (key.into(), value.into())).into(), Vec::new()])
    }
}

impl Source {
    /// Sets a key of `[main]` (0) or `[gateway]` (1), in place of a file where one was named.
    pub(super) fn set(&mut self, section: usize, key: &str, value: String) {
        if let Source::File(_) = self {
            *self = Source::default();
        }
        if let Source::Code(sections) = self {
            let lines = &mut sections[section];
            lines.retain(|(is, _)| is != key);
            lines.push((key.to_owned(), value));
        }
    }

    /// Reads them. Errors are for the operator: all that is wrong.
    pub(super) fn load(&self) -> Result<(Config, Vec<Warning>), String> {
        let loaded = match self {
            Source::File(file) => cli::load(file, &overrides()),
            Source::Code(sections) => Config::from_file_text("settings", &text(sections)?, &overrides()),
        };
        let (config, warnings) = loaded.map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            errors.join("\n")
        })?;
        if !config.gateway.on {
            return Err("section [gateway] is missing: an application has the clients of that door".into());
        }
        Ok((config, warnings))
    }
}

/// What no file can say.
pub(super) fn overrides() -> Overrides {
    Overrides {
        handlers: true,
        ..Overrides::default()
    }
}

/// Settings as a file has them.
fn text(sections: &[Vec<(String, String)>; 2]) -> Result<String, String> {
    let mut text = String::new();
    for (section, lines) in [SECTION, gateway::SECTION].into_iter().zip(sections) {
        text += &format!("[{section}]\n");
        for (key, value) in lines {
            if key.contains(['\n', '\r']) || value.contains(['\n', '\r']) {
                return Err(format!("the setting {key:?} has more than one line"));
            }
            text += &format!("{key} = {value}\n");
        }
    }
    Ok(text)
}
