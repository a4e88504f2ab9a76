//! `warren-cni`: a chained CNI plugin that holds a pod's start until the node's agent has captured the pod.
//!
//! The container runtime calls it after the plugins that make the pod's interface. It changes nothing itself: it
//! tells the agent over a Unix socket, waits for its word, and hands the interface's result on as it came.
//!
//! What happens when the agent is away:
//! - ADD keeps trying until its deadline, so an agent that is restarted or upgraded (one to three seconds) costs its
//!   node's new pods that time and no failure. After that it fails; the kubelet tries again. A pod is never started
//!   on the guess that it is none of the mesh's.
//! - Pods that can never be captured are not asked about: those on the host's network have no CNI call, those of the
//!   excluded namespaces (kube-system) and the agent's own pass. So a node that boots comes up: the conflist is on
//!   its disk from before, DNS, the network's own pods and the agent start, then everything that was held.
//! - Where another network plugin puts its own conflist in first place while no agent watches (an installer at boot),
//!   pods start unseen. The agent captures them live when it comes, from what the runtime's CRI socket tells.
//! - DEL never holds a pod's removal: the agent finds out without it, from the network namespace that is gone.
//! - STATUS says no, so that a node whose agent is broken is seen to be, and gets no pods that it cannot start.
//!
//! The CNI specification: <https://github.com/containernetworking/cni/blob/main/SPEC.md>, versions 0.3.1 to 1.1.0.

mod agent;
mod call;
mod config;
mod failure;

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use crate::call::Call;
use crate::config::{Config, VERSIONS};
use crate::failure::Failure;

fn main() -> ExitCode {
    let mut input = String::new();
    let done = io::stdin()
        .read_to_string(&mut input)
        .map_err(|error| Failure::new(failure::IO, "the configuration cannot be read from stdin", error))
        .and_then(|_| serve(&input));
    let (output, code) = match done {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(failure) => (failure.json(config::version_of(&input)), ExitCode::FAILURE),
    };
    // Nobody is left to be told when the runtime has closed its end.
    let _ = io::stdout().write_all(output.as_bytes());
    code
}

/// One call of the runtime's: what is to be printed.
fn serve(input: &str) -> Result<String, Failure> {
    let command = env::var("CNI_COMMAND").unwrap_or_default();
    if command == "VERSION" {
        let version = config::version_of(input);
        return Ok(serde_json::json!({"cniVersion": version, "supportedVersions": VERSIONS}).to_string());
    }
    let config = Config::parse(input, &command)?;
    let call = Call::read(&command, &config)?;
    if call.concerns_us(&config) {
        agent::ask(&call, &config)?;
    }
    Ok(call.output().to_owned())
}
