"""The Kubernetes API server as we use it: requests, list and watch, leases. Of a mesh it knows nothing."""
