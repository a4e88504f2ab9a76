"""What users read is in the field's terms: sentences that nobody understood at night do not come back."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = ("README.md", "docs/**/*.md", "agent/**/*.py", "tunnel/*.py", "tunnel/src/**/*.rs", "bpf/*.[ch]")
# What was said, and the words that say it now.
SAID = {
    "may be left for no other": "destination not in the service registry",
    "counts, not this one": "takes precedence",
    "as well, which is used": "is also claimed by",
    "pods that went while no agent was here": "deleted while the agent was down",
    "is let go": "closed",
    "of the pod itself [": "destination port on the pod",
    "in no range but that of all": "source address unknown",
    "own address is nobody's": "node addresses count as unknown",
    "of what the kubelet calls": "a probe",
    "what the first misses": "the first endpoint's reason",
}


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """Files, each as one line."""
    files = {file for pattern in TEXTS for file in ROOT.glob(pattern)}
    return {str(file): " ".join(file.read_text().split()) for file in files}


@pytest.mark.parametrize("former", SAID)
def test_it_is_said_in_the_fields_terms(written: dict[str, str], former: str) -> None:
    assert [file for file, text in written.items() if former in text] == []
    assert any(SAID[former] in text for text in written.values())
