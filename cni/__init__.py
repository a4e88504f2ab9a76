"""The CNI plugin's binary, which the agent copies to its node; its source is in `src`."""

from pathlib import Path

BINARY = Path(__file__).with_name("warren-cni")
