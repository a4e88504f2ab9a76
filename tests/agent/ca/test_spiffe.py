import pytest

from agent.ca.spiffe import SpiffeId


def test_an_id_is_spelled_as_it_was_parsed() -> None:
    text = "spiffe://cluster.local/ns/default/sa/web"
    assert SpiffeId.parse(text) == ("cluster.local", "default", "web")
    assert str(SpiffeId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a/sa",
        "spiffe://cluster.local/ns/a/sa/b/c",
        "spiffe://cluster.local/ns//sa/b",
        "spiffe:///ns/a/sa/b",
        "spiffe://Cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/sa/b/ns/a",
        "spiffe://cluster.local/ns/a\n/sa/b",
        "spiffe://cluster.local/ns/a/sa/b%2fc",
    ],
)
def test_any_other_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not spiffe://"):
        SpiffeId.parse(text)
