mod attacks;
mod client;
mod mutants;
mod server;
