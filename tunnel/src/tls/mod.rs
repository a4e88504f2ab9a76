//! TLS 1.3 with SPIFFE identities: rustls makes the handshake and the keys, the record layer is our own. What gateways terminate is
//! rustls' alone (`server`).
pub mod alert;
pub mod client_hello;
pub mod credentials;
pub mod handshake;
pub mod record_layer;
pub mod revocation;
pub mod server;
