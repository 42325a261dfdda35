//! Configuration files.

use crate::config::{Config, Overrides, ini};

/// Any text as a configuration: errors name a place, a file that is accepted is accepted again, and what the table explains
/// of it never shows the secret.
pub fn ini(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = ini::parse("fuzz", &text);
    let overrides = Overrides::default();
    match Config::from_file_text("fuzz", &text, &overrides) {
        Ok((config, warnings)) => {
            let (again, _) = Config::from_file_text("fuzz", &text, &overrides).expect("the same text is still valid");
            assert_eq!(config, again);
            let secret = config.security_token.expose();
            let shown = format!("{config:?}");
            assert!(secret.len() < 12 || !shown.contains(secret), "the secret is shown");
            warnings
                .iter()
                .for_each(|warning| assert!(!warning.to_string().is_empty()));
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            errors
                .iter()
                .for_each(|error| assert!(error.to_string().contains("fuzz")));
        }
    }
}
