"""Kinds of Istio's groups, read strictly."""
