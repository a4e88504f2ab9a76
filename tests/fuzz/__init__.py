"""Input of others that may be anything: parsers are given what nobody would send.

The tests here are of Python's parsers, with a few examples each; `make fuzz` gives them many, and runs the
targets of the Rust parsers in `tunnel/fuzz` and `cni/fuzz`.
"""
