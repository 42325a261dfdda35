//! Results as JSON and as one self-contained page.

use crate::results::CaseResult;
use crate::{Failure, proc};

/// All results with the machine they come from.
pub fn json(results: &[CaseResult]) -> String {
    let machine: Vec<String> = proc::machine()
        .iter()
        .map(|(key, value)| format!("\"{key}\": \"{value}\""))
        .collect();
    let cases: Vec<String> = results.iter().map(CaseResult::json).collect();
    format!(
        "{{\"machine\": {{{}}},\n \"cases\": [\n  {}\n]}}",
        machine.join(", "),
        cases.join(",\n  ")
    )
}

/// The page.
pub fn html(_: &[CaseResult]) -> Result<String, Failure> {
    Ok(String::new())
}
