"""What all nodes told, added up: rates of a window, both ends of an edge, looking back, bounds."""

import time

import pytest

from agent.dashboard import board as boards
from agent.dashboard.board import Board, Shown, shown
from agent.dashboard.look import Edge, Look
from tests.agent.dashboard.feeding import denial, edge, large, workload

A, B = "workload/shop/a", "workload/shop/b"


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day and that of the clocks, which a test sets."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def second(board: Board, moment: list[float], *looks: Look) -> None:
    for look in looks:
        board.take(look)
    moment[0] += 1
    board.tick()


def only(board: Board, window: int = 10, ago: float = 0) -> Shown:
    [found] = board.graph(window, ago).edges
    return found


def test_rates_are_those_of_the_window(moment: list[float]) -> None:
    board = Board()
    for _ in range(30):
        second(board, moment, Look("node1", 1, (edge(A, B, requests=4, errors=1),)))
    assert only(board).requests == pytest.approx(4) and only(board).errors == pytest.approx(1)
    for _ in range(5):
        second(board, moment, Look("node1", 1))
    assert only(board).requests == pytest.approx(2)
    assert only(board, 60).requests == pytest.approx(30 * 4 / 35, rel=0.01)
    for _ in range(6):
        second(board, moment, Look("node1", 1))
    assert board.graph(10).edges == []


def test_a_moment_of_the_past_is_shown_as_it_was(moment: list[float]) -> None:
    board = Board()
    for count in (2, 20):
        for _ in range(20):
            second(board, moment, Look("node1", 1, (edge(A, B, requests=count),)))
    assert only(board, 10, ago=0).requests == pytest.approx(20)
    assert only(board, 10, ago=20).requests == pytest.approx(2)
    assert board.graph(10, ago=20).history == pytest.approx(40)


def test_nodes_are_added_up_and_both_ends_of_an_edge_are_not(moment: list[float]) -> None:
    board = Board()
    outbound = edge(A, B, requests=3, open=2, paths={"tunnel": 3.0})
    inbound = edge(A, B, inbound=True, requests=6, denied=1, open=4, paths={"tunnel": 6.0})
    second(board, moment, Look("node1", 1, (outbound,)), Look("node2", 1, (outbound, inbound)))
    found = only(board)
    assert (found.requests, found.open, found.denied, found.lock) == (6, 4, 1, "mtls")


@pytest.mark.parametrize(
    ("paths", "lock"),
    [({}, "none"), ({"tunnel": 1}, "mtls"), ({"direct": 2}, "direct"), ({"plain": 1}, "plain"),
     ({"plain": 1, "tunnel": 99}, "mixed")],
)  # fmt: skip
def test_a_lock_is_honest(paths: dict[str, float], lock: str) -> None:
    [found] = shown([Edge(A, B, connections=1, paths=paths)], 1)
    assert found.lock == lock


def test_open_connections_are_those_of_now(moment: list[float]) -> None:
    board = Board()
    second(board, moment, Look("node1", 1, (edge(A, B, open=5),)))
    assert only(board, 60).open == 5
    second(board, moment, Look("node1", 1, (edge(A, B, open=2),)), Look("node1", 1, (edge(A, B, open=3),)))
    assert only(board, 60).open == 3
    second(board, moment, Look("node1", 1))
    assert board.graph(60).edges == []


def test_events_are_told_by_edge_the_last_first(moment: list[float]) -> None:
    board = Board()
    board.take(Look("node1", 1, events=(denial(A, B, 1), denial(B, A, 2), denial(A, B, 3))))
    assert [event.at for event in board.events(A, B)] == [3, 1]
    assert [event.at for event in board.events("", A)] == [2]


def test_workloads_are_told_once_and_again_when_they_change(moment: list[float]) -> None:
    board = Board()
    board.take(Look("node1", 1, workloads=(workload("a"),)))
    first = board.graph(10)
    assert first.workloads == [workload("a")]
    assert board.graph(10, known=first.version).workloads is None
    board.take(Look("node1", 1, workloads=(workload("a"), workload("b"))))
    again = board.graph(10, known=first.version)
    assert again.workloads and len(again.workloads) == 2


def test_a_node_that_is_silent_is_named(moment: list[float]) -> None:
    board = Board()
    board.take(Look("node1", 1))
    board.take(Look("node2", problem="no tunnel answers on node2"))
    assert board.graph(10).problems == {"node2": "no tunnel answers on node2"}
    moment[0] += 7
    assert "node1 has told nothing for 7 s" in board.graph(10).problems["node1"]
    board.take(Look("node2", 1))
    assert "node2" not in board.graph(10).problems


def test_memory_is_bounded(moment: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(boards, "_MOST_EDGES", 1000)
    board = Board()
    for _ in range(30):
        second(board, moment, large(1000))
    assert board._bytes <= 1 << 20 and 1 <= len(board._ring) < 30
    assert len(board.graph(10).edges) == 1000


def test_a_window_holds_no_more_than_the_ring(moment: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "_MOST_BYTES", 1 << 18)
    board = Board()
    for _ in range(20):
        second(board, moment, large(1000))
        board.graph(900)
    [sums] = board._sums.values()
    assert list(sums._ticks) == list(board._ring) and len(board._ring) < 20
    assert board.graph(900).seconds == pytest.approx(len(board._ring))


def test_while_nobody_looks_nothing_is_kept(moment: list[float]) -> None:
    board = Board()
    for _ in range(3):
        second(board, moment, Look("node1", 1, (edge(A, B, requests=4),), (denial(A, B),)))
    assert board.graph(10).history == pytest.approx(3)
    for _ in range(5):
        board.rest()
        second(board, moment)
    empty = board.graph(10)
    assert (empty.history, empty.edges, empty.events, empty.nodes) == (0, [], [], ())
    second(board, moment, Look("node1", 1, (edge(A, B, requests=4),)))
    assert only(board).requests == pytest.approx(4)
