"""Medians, spreads and ratios."""

from bench.results import Cell, Record, Spread, key, ratio, summarise


def record(path: str, value: float, number: int, one_cpu: bool = False) -> Record:
    return Record(Cell(path, "connect", one_cpu, number), {"per_second": value})


def test_a_summary_has_median_minimum_and_maximum_of_each_path() -> None:
    records = [record("a", value, i) for i, value in enumerate([5.0, 1.0, 3.0])] + [record("b", 7.0, 0)]
    summary = summarise(records)
    assert summary == {"connect.per_second": {"a": Spread(3.0, 1.0, 5.0, 3), "b": Spread(7.0, 7.0, 7.0, 1)}}


def test_one_cpu_is_another_figure() -> None:
    summary = summarise([record("a", 1.0, 0), record("a", 2.0, 0, one_cpu=True)])
    assert summary[key("connect", "per_second", True)]["a"].median == 2.0
    assert summary[key("connect", "per_second")]["a"].median == 1.0


def test_a_ratio_is_of_medians_and_absent_where_there_is_none() -> None:
    summary = summarise([record("a", 9.0, 0), record("b", 3.0, 0), record("zero", 0.0, 0)])
    name = key("connect", "per_second")
    assert ratio(summary, name, "a", "b") == 3.0
    assert ratio(summary, name, "a", "zero") is None
    assert ratio(summary, name, "a", "nobody") is None
    assert ratio(summary, "no.figure", "a", "b") is None
