"""A Kubernetes API server for tests: small, in one process, and held to what the real one does.

Run it with `python -m tests.support.kubernetes`, or from a test with `tests.support.apiserver`. `tests/kube`
has the contract: one suite, run against this server and against any real one.

A request goes through `server` (HTTPS), `calls` (what it asks for), `users` and `rbac` (who may), and `api`
(the answer), which puts together `lists` and `watches` (reading), `objects` (writing) and `storage`.
`namespaces` and `definitions` are the controllers.

What it does not have: managedFields and server-side apply, rules in CEL, tables, protobuf and YAML in
answers, aggregated discovery, OpenAPI, webhooks, impersonation, expiry of Events. A compaction ends old
watches of all kinds at once, where the real server's cache may serve them for a while.
"""
