mod attacks;
mod client;
mod server;
