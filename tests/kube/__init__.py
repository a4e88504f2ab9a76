"""The contract of a Kubernetes API server: run against the fake always, and a real one when it is named.

    make test-kube KUBECONFIG=FILE      # both; FILE is a real server's, whose bearer may do everything there

The real server's answers decide: where the fake differs, the fake is wrong. A test asks for what a client can
rely on: codes, reasons, fields and the order of events, not the words of a message. Each test works in a
namespace of its own, and removes what it made; any server will do, an empty one is best. What a server must
be told to do is skipped where it cannot: short tokens (kubeapi: `--min-token-ttl 1s`), compaction on demand.
"""
