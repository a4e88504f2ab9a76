"""Certificates, keys and CAs that DestinationRules name: read on the node, told to its tunnel alone."""
