//! What a connection may ask of the node that it is on.
pub mod pod;
