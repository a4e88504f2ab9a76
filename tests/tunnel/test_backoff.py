from tunnel.backoff import Backoff


def test_waits_double_up_to_the_most_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(0.5, 3.0, 0.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    backoff.reset()
    assert backoff.next() == 0.5


def test_they_vary_by_no_more_than_the_jitter() -> None:
    waits = []
    for _ in range(200):
        waits.append(Backoff(10.0, 150.0, 0.2).next())
    assert 8 <= min(waits) < max(waits) <= 12
