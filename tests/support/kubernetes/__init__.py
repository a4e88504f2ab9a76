"""A Kubernetes API server for tests: small, in one process, and held to what the real one does.

Run it with `python -m tests.support.kubernetes`, or from a test with `tests.support.apiserver`. `tests/kube`
has the contract: one suite, run against this server and against any real one.
"""
