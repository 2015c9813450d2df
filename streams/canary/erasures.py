"""
What stores have hidden of the canary's and not erased yet, however long that takes.

A store erases at its own pace, up to once a day, so no turn waits for it.  Of each store and
partition one objection is followed at a time, the first since the last was erased: what is
remembered does not grow.
"""

from collections.abc import Mapping

from streams.canary.numbers import Numbers
from streams.core.receipts import ERASED
from streams.monitor.levels import StoreLevels
from streams.worker.receipt_notes import Following


class Erasures:
    """Follows erasures; of the canary's thread."""

    def __init__(self, levels: StoreLevels, numbers: Numbers) -> None:
        self._levels = levels
        self._numbers = numbers
        self._awaited: dict[tuple[str, int], Mapping[int, int]] = {}  # offsets by topic

    def begin(self, store: Following, number: int, offsets: Mapping[int, int]) -> None:
        """*store* has hidden what was filed last in partition *number*: up to *offsets*."""
        if store.erases and (store.name, number) not in self._awaited:
            self._awaited[store.name, number] = offsets
            self._numbers.erasing(store.name, number)

    def look(self) -> None:
        """Note what has been erased since the last look."""
        for (store, number), offsets in list(self._awaited.items()):
            if all(
                self._levels.offset(store, topic, number, ERASED) > offset
                for topic, offset in offsets.items()
            ):
                del self._awaited[store, number]
                self._numbers.erased(store, number)
