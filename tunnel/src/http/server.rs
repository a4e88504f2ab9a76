//! What every connection of a client's is served with.
use super::drain::Drain;
use super::settings::Settings;
use http::uri::Authority;

pub struct Server {
    pub settings: Settings,
    /// Of a client of HTTP/1.0 that names no host.
    pub default_host: Option<Authority>,
    pub drain: Drain,
}
