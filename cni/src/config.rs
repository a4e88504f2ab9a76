//! Our entry of the conflist, as the runtime hands it over on stdin.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::{self, Failure};

/// Of the CNI specification, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const LATEST: &str = VERSIONS[VERSIONS.len() - 1];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config<'a> {
    /// Where the agent listens.
    pub socket: PathBuf,
    /// NAMESPACE/NAME of the agent's DaemonSet; its pods are never held.
    #[serde(default)]
    pub agent: String,
    /// Nothing is captured there.
    #[serde(default)]
    pub excluded_namespaces: Vec<String>,
    /// How long ADD waits. Below the four minutes that the kubelet gives a sandbox.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// What the plugins before us made.
    #[serde(borrow)]
    pub prev_result: Option<&'a RawValue>,
    /// GC: what the runtime still knows of.
    #[serde(borrow, rename = "cni.dev/valid-attachments")]
    pub attachments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    cni_version: String,
}

impl<'a> Config<'a> {
    /// Refuses versions that we do not know, and commands that the version does not have.
    pub fn parse(input: &'a str, command: &str) -> Result<Self, Failure> {
        let version = version_of(input);
        let Some(age) = VERSIONS.iter().position(|known| *known == version) else {
            let details = format!("cniVersion {version:?} of the conflist is none of {VERSIONS:?}");
            return Err(Failure::new(failure::VERSION, "CNI version is not supported", details));
        };
        let since = match command {
            "ADD" | "DEL" => 0,
            "CHECK" => 1,
            "STATUS" | "GC" => 3,
            _ => {
                let details = "ADD, DEL, CHECK, STATUS, GC or VERSION; the container runtime calls this program";
                return Err(Failure::new(failure::ENVIRONMENT, format!("CNI_COMMAND is {command:?}"), details));
            }
        };
        if age < since {
            let details = format!("set cniVersion of the conflist to {}", VERSIONS[since]);
            return Err(Failure::new(failure::VERSION, format!("CNI {version} has no {command}"), details));
        }
        serde_json::from_str(input).map_err(|error| {
            let details = format!("{error}; restart Warren's agent on this node, it writes the entry");
            Failure::new(failure::CONFIG, "the conflist's entry for warren-cni is not usable", details)
        })
    }
}

/// What the caller speaks; our latest version where that cannot be told.
pub fn version_of(input: &str) -> String {
    serde_json::from_str(input).map_or_else(|_| LATEST.to_owned(), |stated: Version| stated.cni_version)
}

fn default_timeout() -> u64 {
    20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(input: &str, command: &str) -> Option<u32> {
        Config::parse(input, command).err().map(|failure| failure.code)
    }

    fn entry(version: &str) -> String {
        format!(r#"{{"cniVersion": "{version}", "socket": "/run/warren/cni.sock"}}"#)
    }

    #[test]
    fn commands_since_their_versions() {
        for (command, since) in [("ADD", 0), ("DEL", 0), ("CHECK", 1), ("GC", 3), ("STATUS", 3)] {
            for (age, version) in VERSIONS.iter().enumerate() {
                let expected = (age < since).then_some(failure::VERSION);
                assert_eq!(code(&entry(version), command), expected, "{command} {version}");
            }
        }
        assert_eq!(code(&entry("1.0.0"), ""), Some(failure::ENVIRONMENT));
    }

    #[test]
    fn versions_and_entries_that_are_refused() {
        assert_eq!(code(&entry("0.2.0"), "ADD"), Some(failure::VERSION));
        assert_eq!(code(&entry("2.0.0"), "ADD"), Some(failure::VERSION));
        assert_eq!(code(r#"{"cniVersion": "1.0.0"}"#, "ADD"), Some(failure::CONFIG));
        assert_eq!(code("{", "ADD"), Some(failure::CONFIG));
    }
}
