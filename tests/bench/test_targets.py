"""What counts as reached."""

from bench.results import Cell, Record, key, summarise
from bench.targets import COMPARISONS, Outcome, Target, check


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
            Record(Cell("warren", "fresh"), {"resident_mb": 40.0}),
            Record(Cell("warren-node", "stream1"), {"gbps": 58.0}),
            Record(Cell("none-node", "stream1"), {"gbps": 60.0}),
        ]
    )
    found = {outcome.target.figure: outcome for outcome in check(summary, COMPARISONS[0])}
    assert found[key("stream1", "gbps")].text == "1.80x"
    assert found[key("stream1", "gbps")].reached
    assert found[key("fresh", "resident_mb")].text == "40.00 MB"
    assert found[key("fresh", "resident_mb")].reached

    found = {outcome.target.figure: outcome for outcome in check(summary, COMPARISONS[1])}
    assert (found[key("stream1", "gbps")].text, found[key("stream1", "gbps")].reached) == ("0.97x", False)
