"""What may be said of a place, and when: the pure part of acknowledging and erasing."""

from pathlib import Path
from typing import Any

from streams.errors import Busy
from streams.sinks.sink import Place, Position
from streams.sinks.sqlite import SqliteSink
from streams.subscriber.erasing import Eraser
from streams.subscriber.following import Followed, due
from streams.subscriber.places import settled

PLACE = Place("training-content", 0)
RESYNCING = Position("an-id", 60, 5)


def followed(position: Position, **fields: Any) -> Followed:
    """Return a place that was acknowledged up to 40 in both phases."""
    given: dict[str, Any] = {"unerased": True, "erased": 40, **fields}
    acked: Any = {"hidden": (40, 0), "erased": (40, 0)}
    return Followed(position, position.offset, 0, 60, 0, acked=acked, **given)


def said(each: Followed, now_ms: int = 1_000, heartbeat_ms: int = 5_000) -> dict[str, int]:
    """Return what is acknowledged now, by phase."""
    found = due({PLACE: each}, now_ms, heartbeat_ms, erases_at_once=False)
    return {phase: offset for _, phase, offset in found}


def test_a_resync_says_nothing_new() -> None:
    """
    During a resync the last words stand, and are repeated so that the store is not thought away.
    """
    assert {} == said(followed(RESYNCING))
    assert {"hidden": 40, "erased": 40} == said(followed(RESYNCING), now_ms=5_000)


def test_erased_follows_hidden() -> None:
    """
    Hidden is said at once; erased only what an erasure has covered, or all with none to do.
    """
    assert {"hidden": 60} == said(followed(settled(RESYNCING)))
    assert {"hidden": 60} == said(followed(settled(RESYNCING), unerased=False, erasing=True))
    assert {"hidden": 60, "erased": 50} == said(followed(settled(RESYNCING), erased=50))
    assert {"hidden": 60, "erased": 60} == said(followed(settled(RESYNCING), unerased=False))


def test_no_erasure_counts_before_the_sweep(tmp_path: Path) -> None:
    """
    An erasure during a resync says nothing of its place: what it lost is still there.
    """
    sink = SqliteSink(tmp_path / "store.sqlite", erase_every_s=5)
    sink.open()
    eraser, each = Eraser(sink, None), followed(RESYNCING)
    eraser.turn({PLACE: each}, at_once=True)
    assert (40, True) == (each.erased, each.unerased)

    each.position = settled(RESYNCING)
    eraser.turn({PLACE: each}, at_once=True)
    assert (60, False) == (each.erased, each.unerased)
    sink.close()


class BusySink(SqliteSink):
    def erase(self) -> None:
        raise Busy("not now", 60.0)


def test_a_failed_erasure_is_not_said(tmp_path: Path) -> None:
    """
    A store that cannot erase now is asked later; nothing is said to be erased meanwhile.
    """
    sink = BusySink(tmp_path / "store.sqlite", erase_every_s=5)
    sink.open()
    each = followed(settled(RESYNCING))
    Eraser(sink, None).turn({PLACE: each}, at_once=True)

    assert (40, True, False) == (each.erased, each.unerased, each.erasing)
    assert {"hidden": 60} == said(each)
    sink.close()
