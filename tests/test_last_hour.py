"""What is told of the last hour, and of no more than it."""

from hypothesis import given
from hypothesis import strategies as st

from streams.last_hour import HOUR_S, MINUTE_S, CountsOfHour, LatenciesOfHour, Spread, spread
from streams.latencies import BOUNDS_MS, Latencies


def _counts(*latencies_ms: int) -> list[int]:
    found = Latencies()
    for latency_ms in latencies_ms:
        found.observe(latency_ms)
    return [*found.within, found.count]


def test_a_spread_tells_the_bound_that_so_many_kept() -> None:
    """Half within one bound, the slowest hundredth not counted; above all bounds is infinite."""
    assert spread(_counts()) == Spread(0, None, None)
    assert spread(_counts(*[7] * 50, *[70] * 49, 90_000)) == Spread(100, 0.01, 0.075)
    assert spread(_counts(*[7] * 49, *[70] * 49, 90_000, 90_000)) == Spread(
        100, 0.075, float("inf")
    )


@given(st.lists(st.integers(0, BOUNDS_MS[-1]), min_size=1))
def test_a_spread_never_flatters(latencies_ms: list[int]) -> None:
    """The bound told is never below the exact quantile."""
    found = spread(_counts(*latencies_ms))
    ordered = sorted(latencies_ms)

    assert found.p50_s is not None
    assert found.p99_s is not None
    assert found.p50_s * 1000 >= ordered[-(-len(ordered) * 50 // 100) - 1]
    assert found.p99_s * 1000 >= ordered[-(-len(ordered) * 99 // 100) - 1]


def test_the_first_hour_is_told_from_its_beginning() -> None:
    """A worker that has just started says how much it knows of."""
    hour = LatenciesOfHour[str](began_s=1_000.0)
    hour.note(1_005.0, {"a": _counts(10)})

    assert hour.over(1_010.0, {"a": _counts(10, 20)}) == (10.0, {"a": Spread(2, 0.01, 0.02)})


def test_what_is_older_than_an_hour_is_left_out() -> None:
    """An hour and at most a minute, also where looks come seldom, and of a key that came later."""
    hour = LatenciesOfHour[str](began_s=0.0)
    old, new = [30_000] * 5, [10]
    hour.note(30.0, {"a": _counts(*old)})
    hour.note(90.0, {"a": _counts(*old)})
    now_s = 90.0 + HOUR_S + 1
    histograms = {"a": _counts(*old, *new), "b": _counts(*new)}
    hour.note(now_s, histograms)

    covered_s, spreads = hour.over(now_s, histograms)

    assert HOUR_S <= covered_s <= HOUR_S + MINUTE_S
    assert spreads == {"a": Spread(1, 0.01, 0.01), "b": Spread(1, 0.01, 0.01)}


def test_no_more_than_an_hour_is_kept() -> None:
    """A look every few seconds for days takes no more room."""
    hour = LatenciesOfHour[str](began_s=0.0)
    for second in range(0, 3 * int(HOUR_S), 5):
        hour.note(float(second), {"a": _counts(second)})

    covered_s, _ = hour.over(3 * HOUR_S, {"a": _counts()})

    assert HOUR_S <= covered_s <= HOUR_S + 2 * MINUTE_S


def test_counts_of_the_last_hour() -> None:
    """Those before it are forgotten, minute by minute."""
    hour = CountsOfHour[str]()
    for at_s in (0.0, 59.0, 100.0, HOUR_S - 1):
        hour.add(at_s, "a")
    hour.add(100.0, "b")

    assert hour.over(HOUR_S - 1) == {"a": 4, "b": 1}
    assert hour.over(HOUR_S) == {"a": 2, "b": 1}
    assert hour.over(3 * HOUR_S) == {}
