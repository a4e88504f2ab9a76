"""Requests that are routed: Warren beside two Envoys that do the same.

64 connections carry requests. Each is matched with a header, else split 90/10 between two versions.
"""
