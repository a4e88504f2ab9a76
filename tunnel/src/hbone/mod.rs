//! HBONE: tunnels between pods, mutual TLS and HTTP/2 CONNECT, one stream for each connection of an application.
mod inbox;
pub mod pool;
mod session;
pub mod stream;
mod streams;
pub mod tunnel;
