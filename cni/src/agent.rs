//! The conversation with the agent: our JSON object, then its own, each up to the end of its direction.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::call::Call;
use crate::config::Config;
use crate::failure::{self, Failure};

const PAUSE: Duration = Duration::from_millis(50);
/// DEL is a courtesy to the agent: it must not hold up the removal of pods.
const COURTESY: Duration = Duration::from_secs(5);
/// The kubelet gives a sandbox four minutes; a clock cannot be added more than it holds.
const LIMIT: Duration = Duration::from_secs(240);
/// STATUS is asked by a runtime that holds its own answer back meanwhile; an agent's restart should not show.
const STATUS: Duration = Duration::from_secs(10);

type Attempt = Result<Failure, String>;

/// Waits until the agent has done what the call wants. Fails with what it says, or when it cannot be reached.
pub fn ask(call: &Call, config: &Config) -> Result<(), Failure> {
    let within = patience(call, config);
    let request =
        serde_json::to_vec(call).map_err(|error| Failure::new(failure::IO, "the request cannot be written", error))?;
    match (reach(config.socket.clone(), request, within, call.command != "DEL"), call.command) {
        (Ok(Failure { code: 0, .. }), _) | (_, "DEL") => Ok(()),
        (Ok(refusal), _) => Err(refusal),
        (Err(reason), command) => Err(not_reached(command, call, &config.socket, &reason)),
    }
}

/// How long a call may wait.
pub fn patience(call: &Call, config: &Config) -> Duration {
    let limit = Duration::from_secs(config.timeout_seconds).min(LIMIT);
    match call.command {
        "DEL" | "GC" => limit.min(COURTESY),
        "STATUS" => limit.min(STATUS),
        _ => limit,
    }
}

/// What the agent answers within that time; else why it does not. `again`: try until then.
fn reach(socket: PathBuf, request: Vec<u8>, within: Duration, again: bool) -> Attempt {
    let end = Instant::now() + within;
    let (sender, attempts) = mpsc::channel();
    // A thread of its own, because nothing bounds how long the kernel takes to connect to a full queue.
    thread::spawn(move || keep_trying(&socket, &request, &sender));
    let mut reason = format!("no answer within {} s", within.as_secs());
    loop {
        match attempts.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Err(failed)) if again => reason = failed,
            Ok(attempt) => return attempt,
            Err(_) => return Err(reason),
        }
    }
}

fn keep_trying(socket: &Path, request: &[u8], attempts: &Sender<Attempt>) {
    loop {
        let attempt = converse(socket, request).map_err(|error| error.to_string());
        let answered = attempt.is_ok();
        if attempts.send(attempt).is_err() || answered {
            return;
        }
        thread::sleep(PAUSE);
    }
}

fn converse(socket: &Path, request: &[u8]) -> io::Result<Failure> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

fn not_reached(command: &str, call: &Call, socket: &Path, reason: &str) -> Failure {
    let code = if command == "STATUS" { failure::UNAVAILABLE } else { failure::TRY_LATER };
    let what = match command {
        "ADD" => format!("pod {}/{} is held until it is captured; see", call.namespace, call.name),
        _ => "see".to_owned(),
    };
    let details = format!(
        "{what} that Warren's agent runs on this node, and its log; \
         where Warren was removed, `warren cni uninstall` takes this plugin away"
    );
    Failure::new(code, format!("Warren's agent cannot be reached at {}: {reason}", socket.display()), details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_waits_longer_than_a_kubelet() {
        let longest = format!(r#"{{"cniVersion": "1.1.0", "socket": "/s", "timeoutSeconds": {}}}"#, u64::MAX);
        let config = Config::parse(&longest, "STATUS").unwrap();
        for (command, expected) in [("STATUS", STATUS), ("GC", COURTESY), ("VERSION", LIMIT)] {
            let call = Call::read(command, &config).unwrap();
            assert_eq!(patience(&call, &config), expected, "{command}");
        }
    }
}
