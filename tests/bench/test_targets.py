"""What counts as reached."""

from bench.results import Cell, Record, key, summarise
from bench.targets import COMPARISONS, Outcome, Target, check, comparisons


def test_a_bound_holds_up_to_its_value() -> None:
    least, most = Target("x", "f", "at least", 1.5), Target("x", "f", "at most", 0.6)
    assert Outcome(least, 1.5).reached
    assert not Outcome(least, 1.49).reached
    assert Outcome(most, 0.6).reached
    assert not Outcome(most, 0.61).reached


def test_what_was_not_measured_is_not_reached() -> None:
    outcomes = [outcome for comparison in COMPARISONS for outcome in check({}, comparison)]
    assert not any(outcome.reached for outcome in outcomes)
    assert {outcome.text for outcome in outcomes} == {"not measured"}


def test_ratios_are_to_the_reference_and_absolute_figures_are_not() -> None:
    summary = summarise(
        [
            Record(Cell("warren", "stream1"), {"gbps": 18.0}),
            Record(Cell("envoy", "stream1"), {"gbps": 10.0}),
            Record(Cell("warren", "fresh"), {"memory_mb": 28.0}),
            Record(Cell("warren-node", "stream1"), {"gbps": 58.0}),
            Record(Cell("none-node", "stream1"), {"gbps": 60.0}),
        ]
    )
    found = {outcome.target.figure: outcome for outcome in check(summary, COMPARISONS[0])}
    assert found[key("stream1", "gbps")].text == "1.80x"
    assert found[key("stream1", "gbps")].reached
    assert found[key("fresh", "memory_mb")].text == "28.00 MB"
    assert found[key("fresh", "memory_mb")].reached

    found = {outcome.target.figure: outcome for outcome in check(summary, COMPARISONS[1])}
    assert (found[key("stream1", "gbps")].text, found[key("stream1", "gbps")].reached) == ("0.97x", False)


def test_beside_another_build_a_figure_may_be_worse_by_three_percent() -> None:
    (between_nodes, one_node) = comparisons(("warren", "baseline", "warren-node", "baseline-node"))
    assert (between_nodes.reference, one_node.reference) == ("baseline", "baseline-node")

    def outcomes(rate: float, p50: float) -> list[bool]:
        records = [
            Record(Cell("warren", "stream1"), {"gbps": rate}),
            Record(Cell("baseline", "stream1"), {"gbps": 100.0}),
            Record(Cell("warren", "round_trip"), {"p50": p50}),
            Record(Cell("baseline", "round_trip"), {"p50": 100.0}),
        ]
        return [each.reached for each in check(summarise(records), between_nodes) if each.found is not None]

    assert outcomes(rate=97.0, p50=103.0) == [True, True]
    assert outcomes(rate=96.9, p50=103.1) == [False, False]


def test_only_what_was_measured_is_compared() -> None:
    assert comparisons(("none", "warren")) == []
    assert [each.reference for each in comparisons(("warren", "envoy", "baseline-node"))] == ["envoy"]
