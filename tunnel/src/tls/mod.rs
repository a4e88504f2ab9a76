//! TLS 1.3 with SPIFFE identities: rustls makes the handshake and the keys, the record layer is our own. What gateways terminate
//! (`server`), and what we begin towards servers outside of the mesh (`originate`), is rustls' alone.
pub mod alert;
pub mod client_hello;
pub mod credentials;
pub mod handshake;
pub mod originate;
mod provider;
pub mod record_layer;
pub mod revocation;
pub mod server;
mod trust;
mod verifier;

pub use provider::seed;
