"""The routes of the Gateway API (gateway.networking.k8s.io), as read."""
