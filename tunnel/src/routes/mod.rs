//! What the routes of a service say about a request or connection: compiled when they arrive, pure, no I/O.

pub mod proto;
