//! Load generator and server of the benchmark. Each client prints `ready` when it is warm, waits for a line on stdin (or
//! its end), works, and prints one JSON object: so whoever measures CPU time can do it around the work alone.

mod beside;
mod client;
mod download;
mod enter;
mod flood;
mod hop;
mod hostile;
mod idle;
mod serve;
mod stats;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use hostile::Identity;
use serve::Kind;

const USAGE: &str = "usage:
  warren-load serve ECHO_ADDR HTTP_ADDR MIX_ADDR  an echo server, an HTTP server that answers every request the same, and
                                                a server for `beside`
  warren-load answer HTTP_ADDR DOWNLOAD_ADDR    an HTTP server that answers every request the same, and one that answers
                                                with 100 MB
  warren-load victim IP                         an echo server, one that sends without end, and one that never reads
  warren-load relay ADDR=ADDR...                copies what comes to each first address to the second one, and back
  warren-load rr ADDR SECONDS SIZE              round trips of SIZE bytes on one connection
  warren-load crr ADDR SECONDS MAX fin|rst      connect, one byte each way, close; at most MAX times
  warren-load beside ADDR SECONDS FLOWS         round trips of a byte beside FLOWS connections that send all they can
  warren-load idle ADDR COUNT                   holds COUNT connections open, then says how many still answer
  warren-load unread ADDR COUNT                 the same, and reads none of what comes
  warren-load flood KIND ADDR SECONDS N         N threads that do nothing but open connections, send requests, or download:
                                                KIND is connections, requests or bytes
  warren-load echoes ADDR SECONDS MS            a round trip each MS milliseconds on one connection
  warren-load pings ADDR SECONDS MS N CRT KEY   a PING each MS milliseconds in each of N tunnels of an honest peer
  warren-load attack ADDR SECONDS MB CRT KEY A  as a peer with that certificate, attacks A (`attacks` lists them) on a
                                                tunnel, at most MB megabytes a second
  warren-load enter NETNS CGROUP CPUS CMD...    runs CMD there (`-`: where we are); it dies with its parent
ADDR is IP:PORT, CPUS a list as in 0,2";

pub type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("warren-load: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[&str]) -> Result<(), Failure> {
    match args {
        ["serve", echo, http, mix] => {
            serve::serve(&[(address(echo)?, Kind::Echo), (address(http)?, Kind::Http(0)), (address(mix)?, Kind::Mix)])
        }
        ["answer", http, download] => {
            let download = address(download)?;
            std::thread::spawn(move || download::serve(download).map_err(|e| eprintln!("warren-load: {e}")));
            serve::serve(&[(address(http)?, Kind::Http(0))])
        }
        ["relay", ways @ ..] if !ways.is_empty() => {
            let way = |way: &&str| match way.split_once('=') {
                Some((at, to)) => Ok((address(at)?, address(to)?)),
                None => Err(format!("{way}: not ADDR=ADDR").into()),
            };
            hop::relay(&ways.iter().map(way).collect::<Result<Vec<_>, Failure>>()?)
        }
        ["victim", ip] => serve::apart(hostile::applications(ip.parse()?)),
        ["rr", addr, seconds, size] => client::round_trips(address(addr)?, time(seconds)?, number(size)?),
        ["crr", addr, seconds, max, close @ ("fin" | "rst")] => {
            client::connections(address(addr)?, time(seconds)?, number(max)?, *close == "rst")
        }
        ["beside", addr, seconds, flows] => beside::round_trips(address(addr)?, time(seconds)?, number(flows)?),
        ["idle", addr, count] => idle::hold(address(addr)?, number(count)?),
        ["unread", addr, count] => idle::unread(address(addr)?, number(count)?),
        ["flood", kind, addr, seconds, count] => flood::flood(kind, address(addr)?, time(seconds)?, number(count)?),
        ["echoes", addr, seconds, interval] => hostile::echoes(address(addr)?, time(seconds)?, millis(interval)?),
        ["pings", addr, seconds, interval, tunnels, chain, key] => {
            let who = Identity { chain, key };
            hostile::pings(address(addr)?, time(seconds)?, millis(interval)?, number(tunnels)?, &who)
        }
        ["attack", addr, seconds, megabytes, chain, key, names] => {
            let rate = number::<f64>(megabytes)? * 1e6;
            hostile::attack(address(addr)?, time(seconds)?, rate, &Identity { chain, key }, names)
        }
        ["attacks"] => {
            hostile::list();
            Ok(())
        }
        ["enter", netns, cgroup, cpus, command @ ..] if !command.is_empty() => {
            enter::enter(netns, cgroup, cpus, command)
        }
        _ => Err(USAGE.into()),
    }
}

fn address(text: &str) -> Result<SocketAddr, Failure> {
    text.parse().map_err(|_| format!("{text}: not IP:PORT").into())
}

fn time(seconds: &str) -> Result<Duration, Failure> {
    Ok(Duration::try_from_secs_f64(number(seconds)?)?)
}

fn millis(interval: &str) -> Result<Duration, Failure> {
    Ok(Duration::try_from_secs_f64(number::<f64>(interval)? / 1e3)?)
}

fn number<T: FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| format!("{text}: not a number").into())
}

/// Says that the warm-up is over and waits to be told to go on.
fn gate() -> io::Result<()> {
    println!("ready");
    io::stdout().flush()?;
    io::stdin().read_line(&mut String::new()).map(drop)
}
