"""List and watch without a server: what is told, for every way in which answers can come."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from agent.kube.errors import ApiError
from agent.kube.listwatch import Event, Gone, Listed, ListWatch, Name, Put


def item(name: str, version: str = "1", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": version}, **more}


def page(*items: Any, version: str = "10", go_on: str = "") -> bytes:
    return json.dumps({"metadata": {"resourceVersion": version, "continue": go_on}, "items": items}).encode()


def line(type_: str, what: Any) -> bytes:
    return json.dumps({"type": type_, "object": what}).encode()


def told(events: Iterable[Event]) -> list[str]:
    """`+name`, `-name`, and `all` when a list is whole."""
    signs = {Put: "+", Gone: "-"}
    return ["all" if isinstance(e, Listed) else signs[type(e)] + e.name.name for e in events]


def watching(*names: str) -> ListWatch:
    """One that has listed these."""
    it = ListWatch()
    told(it.page(page(*map(item, names))))
    return it


def test_pages() -> None:
    it = ListWatch()
    assert it.query() == {"limit": "500"}
    assert told(it.page(page(item("a"), item("b"), go_on="next"))) == ["+a", "+b"]
    assert it.query() == {"limit": "500", "continue": "next"}
    assert told(it.page(page(item("c")))) == ["+c", "all"]
    assert it.next == "watch"
    assert it.query()["resourceVersion"] == "10"


def test_an_object_is_told_as_it_was_written() -> None:
    [put, _] = ListWatch().page(page(item("a", spec={"x": [1]})))
    assert isinstance(put, Put)
    assert put.name == Name("ns", "a")
    assert json.loads(bytes(put.raw))["spec"] == {"x": [1]}


@pytest.mark.parametrize("items", ["null", "[]"])
def test_an_empty_list(items: str) -> None:
    body = f'{{"metadata": {{"resourceVersion": "1"}}, "items": {items}}}'
    assert told(ListWatch().page(body.encode())) == ["all"]


def test_a_watch_goes_on_where_it_was() -> None:
    it = watching("a")
    assert told(it.line(line("ADDED", item("b", "11")))) == ["+b"]
    assert told(it.line(line("MODIFIED", item("a", "12")))) == ["+a"]
    assert told(it.line(line("DELETED", item("b", "13")))) == ["-b"]
    assert it.query()["resourceVersion"] == "13"
    assert told(it.line(line("BOOKMARK", {"metadata": {"resourceVersion": "40"}}))) == []
    it.failed(ApiError(0, "Unreachable", "cut"))
    it.check(page(version="40"))
    assert it.query()["resourceVersion"] == "40"


@pytest.mark.parametrize("how", ["ended", "cut"])
def test_before_a_watch_goes_on_the_server_is_asked_how_far_it_is(how: str) -> None:
    it = watching("a")
    it.ended() if how == "ended" else it.failed(ApiError(0, "Unreachable", "cut"))
    assert (it.next, it.query()) == ("check", {"limit": "1"})
    it.check(page(item("a"), version="10", go_on="next"))
    assert it.next == "watch"
    it.ended()
    with pytest.raises(ApiError, match="the server is at resourceVersion 9, and has told of 10") as caught:
        it.check(page(version="9"))
    it.failed(caught.value)
    assert it.query() == {"limit": "500"}
    assert told(it.page(page(item("b"), version="9"))) == ["+b", "-a", "all"]


def test_what_was_missed_has_been_told_when_the_servers_version_is_reached() -> None:
    it = watching("a")
    assert it.caught_up
    it.failed(ApiError(0, "Unreachable", "cut"))
    it.check(page(version="13"))
    assert not it.caught_up
    for version, caught_up in (("11", False), ("12", False), ("14", True)):
        told(it.line(line("ADDED", item("b", version))))
        assert it.caught_up is caught_up
    it.ended()
    it.check(page(version="14"))
    assert it.caught_up, "nothing was missed"


@pytest.mark.parametrize("type_", ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"])
def test_a_watch_that_tells_of_what_is_older(type_: str) -> None:
    it = watching("a")
    told(it.line(line("MODIFIED", item("a", "12"))))
    told(it.line(line("MODIFIED", item("a", "12"))))  # again is harmless
    with pytest.raises(ApiError) as caught:
        told(it.line(line(type_, item("a", "11"))))
    it.failed(caught.value)
    assert it.next == "list"


def test_versions_that_are_no_numbers_are_not_compared() -> None:
    it = ListWatch()
    told(it.page(page(version="b")))
    it.ended()
    it.check(page(version="a"))
    assert it.next == "watch"


def test_what_vanished_before_a_new_list_is_told_to_be_gone() -> None:
    it = watching("a", "b")
    told(it.line(line("ADDED", item("c", "11"))))
    with pytest.raises(ApiError) as caught:
        told(it.line(line("ERROR", {"code": 410, "reason": "Expired", "message": "too old"})))
    it.failed(caught.value)
    assert it.query() == {"limit": "500"}
    *there, all_ = told(it.page(page(item("a"), item("d"))))
    assert (sorted(there), all_) == (["+a", "+d", "-b", "-c"], "all")


def test_a_list_that_expires_between_its_pages_is_begun_again() -> None:
    it = watching("a")
    it.failed(ApiError(410, "Expired", ""))
    assert told(it.page(page(item("a"), item("b"), go_on="next"))) == ["+a", "+b"]
    it.failed(ApiError(410, "Expired", "the provided continue parameter is too old"))
    assert it.query() == {"limit": "500"}
    assert told(it.page(page(item("a")))) == ["+a", "-b", "all"], "it was told by the list that was given up"


def test_a_page_that_does_not_come_is_asked_for_again() -> None:
    it = ListWatch()
    told(it.page(page(item("a"), go_on="next")))
    it.failed(ApiError(0, "Unreachable", ""))
    it.failed(ApiError(503, "ServiceUnavailable", ""))
    assert it.query()["continue"] == "next"


@pytest.mark.parametrize(
    ("error", "anew"),
    [
        (ApiError(0, "Unreachable", ""), False),
        (ApiError(0, "Silent", ""), True),
        (ApiError(429, "TooManyRequests", ""), False),
        (ApiError(500, "InternalError", ""), False),
        (ApiError(504, "Timeout", "gateway"), False),
        (ApiError(504, "Timeout", "Too large resource version: 9, current: 3"), True),
        (ApiError(400, "BadRequest", "invalid resource version"), True),
        (ApiError(403, "Forbidden", ""), False),
        (ApiError(404, "NotFound", ""), True),
        (ApiError(0, "Malformed", ""), True),
    ],
)
def test_what_makes_a_new_list_necessary(error: ApiError, anew: bool) -> None:
    it = watching("a")
    it.failed(error)
    assert it.next == ("list" if anew else "check")


def test_a_page_that_is_forbidden_begins_the_list_anew() -> None:
    it = ListWatch()
    told(it.page(page(item("a"), go_on="next")))
    it.failed(ApiError(403, "Forbidden", ""))
    assert "continue" not in it.query()


def test_a_list_anew_leaves_what_is_known() -> None:
    it = watching("a", "b")
    it.restart()
    assert it.next == "list" and len(it) == 2
    assert told(it.page(page(item("a")))) == ["+a", "-b", "all"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"type":"ADDED"}', b"\xff", b'{"items": []}'])
def test_what_is_not_the_protocol(text: bytes) -> None:
    it = watching("a")
    with pytest.raises(ApiError, match="not Kubernetes' JSON") as caught:
        told(it.line(text))
    it.failed(caught.value)
    with pytest.raises(ApiError, match="not Kubernetes' JSON"):
        told(it.page(text))


def test_an_object_without_a_name_does_not_stop_the_others() -> None:
    it = ListWatch()
    strange = [{"metadata": {"name": 5}}, {"metadata": None}, 7, item("a")]
    assert [e.name for e in it.page(page(*strange)) if isinstance(e, Put)] == [Name("", "")] * 3 + [
        Name("ns", "a")
    ]
    assert told(it.line(line("MODIFIED", {"metadata": 1}))) == ["+"]
    assert it.query()["resourceVersion"] == "10"


def test_an_object_that_nests_without_end_does_not_stop_the_others() -> None:
    deep = (
        '{"metadata":{"name":"deep","namespace":"ns","resourceVersion":"9"},"x":'
        + "[" * 5000
        + "]" * 5000
        + "}"
    )
    body = f'{{"metadata":{{"resourceVersion":"1"}},"items":[{deep},{json.dumps(item("a"))}]}}'
    it = ListWatch()
    assert told(it.page(body.encode())) == ["+deep", "+a", "all"]
    assert told(it.line(f'{{"type":"MODIFIED","object":{deep}}}'.encode())) == ["+deep"]
    assert it.query()["resourceVersion"] == "9"
