"""The node's tunnel: Python around the Rust core that carries the bytes. See `app` first."""
