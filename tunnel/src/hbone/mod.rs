//! HBONE: tunnels between pods, mutual TLS and HTTP/2 CONNECT, one stream for each connection of an application.
pub mod flusher;
pub mod link;
pub mod pool;
pub mod session;
pub mod stream;
pub mod tunnel;
