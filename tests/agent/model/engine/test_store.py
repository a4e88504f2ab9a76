"""The store's index finds what has an entry, of few objects and of many, and nothing that is gone."""

import pytest

from agent.model.engine import store
from agent.model.engine.store import Entry, Store
from agent.model.schema.objects import Key, Object
from tests.agent.model.objects import pod

MANY = 2 * store._FEW


def entries(item: Object) -> set[Entry]:
    labels = item.metadata.labels
    return {("all",), *(("label", name, value) for name, value in labels.items())}


def put(to: Store, number: int, item: Object | None) -> Store:
    return to.put(Key("Pod", "default", f"p{number}"), item, entries)


def test_what_has_an_entry_is_found_of_few_and_of_many() -> None:
    filled = Store()
    for count in range(1, MANY + 1):
        filled = put(filled, count, pod(f"p{count}", labels={"odd": str(count % 2)}))
        assert len({*filled.find("all")}) == len([*filled.find("all")]) == count
    assert {*filled.find("label", "odd", "1")} == {Key("Pod", "default", f"p{n}") for n in range(1, MANY, 2)}

    changed = put(filled, 1, pod("p1", labels={"odd": "no"}))
    assert [*changed.find("label", "odd", "no")] == [Key("Pod", "default", "p1")]
    assert len([*changed.find("label", "odd", "1")]) == len([*filled.find("label", "odd", "1")]) - 1

    emptied = changed
    for count in range(1, MANY + 1):
        emptied = put(emptied, count, None)
        assert len([*emptied.find("all")]) == MANY - count
    assert not emptied.find("all") and not emptied.index
    assert len([*filled.find("all")]) == MANY, "nothing is changed in its place"


@pytest.mark.parametrize("count", [3, store._FEW - 1, store._FEW, MANY])
def test_stores_of_the_same_objects_are_equal_however_they_came_to_be(count: int) -> None:
    """What is compared with a store made anew: incremental translation."""
    grown, shrunk = Store(), Store()
    for number in range(count):
        grown = put(grown, number, pod(f"p{number}"))
    for number in reversed(range(MANY)):
        shrunk = put(shrunk, number, pod(f"p{number}"))
    for number in range(count, MANY):
        shrunk = put(shrunk, number, None)
    assert grown == shrunk
