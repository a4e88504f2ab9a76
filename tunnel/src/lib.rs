//! The byte path of the Warren tunnel.
//!
//! A connection's way: `proxy::outbound` takes it from an application to a tunnel, `proxy::inbound` from the tunnel to the
//! application at the other end. Below them: `node` (a pod's connections), `hbone` (tunnels, their sessions and streams),
//! `relay` (plain bytes), `tls` and `h2`. `decision` says what is to be done, from the `mesh`, and `policy` whether it may
//! be. `engine` is all threads, `direct` what goes past them, `sys` the kernel, `base` what all rooms speak of; `python`
//! is its face towards Python.
mod base;
pub mod config; // this, `h2`, `policy` and `routes`: for the programs in benches/
mod decision;
mod direct;
mod dns;
mod engine;
mod external;
#[cfg(fuzzing)]
pub mod fuzzing;
mod grpc;
pub mod h2;
mod hbone;
pub mod http;
mod limits;
mod mesh;
mod node;
mod observability;
mod pending;
pub mod policy;
mod proxy;
mod python;
mod relay;
pub mod routes;
mod sys;
mod telemetry;
mod tls;

pub use sys::pieces; // for the programs in benches/
