//! What goes wrong, as the specification wants it told ("Section 5: Error").

use std::fmt::Display;

use serde::{Deserialize, Serialize};

pub const VERSION: u32 = 1;
pub const ENVIRONMENT: u32 = 4;
pub const IO: u32 = 5;
pub const CONFIG: u32 = 7;
pub const TRY_LATER: u32 = 11;
/// STATUS: ADD would fail.
pub const UNAVAILABLE: u32 = 50;

/// Also what the agent answers: code 0 when all is well.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Failure {
    pub code: u32,
    #[serde(default)]
    pub msg: String,
    #[serde(default)]
    pub details: String,
}

impl Failure {
    /// `details` names the remedy.
    pub fn new(code: u32, msg: impl Into<String>, details: impl Display) -> Self {
        Failure { code, msg: msg.into(), details: details.to_string() }
    }

    /// For stdout.
    pub fn json(&self, version: String) -> String {
        let Failure { code, msg, details } = self;
        serde_json::json!({"cniVersion": version, "code": code, "msg": msg, "details": details}).to_string()
    }
}
