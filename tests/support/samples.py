"""The sample applications that lie beside the repository."""

from pathlib import Path

SAMPLES = Path(__file__).parents[2].parent / "shared" / "data" / "istio-samples" / "samples"
BOOKINFO = SAMPLES / "bookinfo" / "platform" / "kube" / "bookinfo.yaml"
