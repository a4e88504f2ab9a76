"""Gateways of Istio and of the Gateway API -> what each of their pods listens on."""
