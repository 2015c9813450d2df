"""The items that may be used: read from Kafka, asked by id, brought up to date."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from streams.settings import Settings
from streams.training import cache, log
from streams.training.hashing import Hashes
from streams.training.index import Index, State, States
from streams.training.positions import Positions

Say = Callable[[str], None]
STORE_AGAIN_MS: Final = 3_600_000


class Built(NamedTuple):
    """How an index came to be: records read from Kafka, and whether it began with a stored one."""

    records: int
    from_cache: bool


class AllowedItems:
    """
    What the topics allow at one place of theirs, `positions`; `refresh` moves it on.

    Made by `read`.  An id that is not known is not allowed.
    """

    def __init__(self, settings: Settings, index: Index, positions: Positions) -> None:
        self._settings = settings
        self._index = index
        self.positions = positions
        self.built = Built(0, from_cache=False)

    @classmethod
    def read(
        cls,
        settings: Settings | None = None,
        *,
        cache_folder: Path | None = None,
        progress: log.Progress = lambda _topic, _done, _all: None,
        say: Say = lambda _text: None,
    ) -> Self:
        """
        Read the topics up to the ends they have now.

        settings: by default those of the environment (`Settings.read(os.environ)`).
        cache_folder: where an index is kept, so that only what has come since is read.
        progress: called with the topic, offsets read and offsets to read; say: with a note.

        Raises Unreachable; UsageProblem when a topic is missing or the folder cannot be used;
        CheckFailed when a topic was made anew meanwhile.
        """
        if settings is None:
            import os

            settings = Settings.read(os.environ)
        end = log.ends(settings)
        stored = None
        if cache_folder is not None:
            stored, why = cache.load(cache_folder, end)
            if why:
                say(f"{why}; it is made anew")
        index = Index() if stored is None else stored.index
        begin = None if stored is None else stored.positions
        items = cls(settings, index, end)
        records = log.read(settings, begin, end, index.put, progress)
        index.settle()
        items.built = Built(records, from_cache=stored is not None)
        # Positions grow old though nothing comes: now and then they are stored anew.
        idle_ms = None if begin is None else end.noted_ms - begin.noted_ms
        if cache_folder is not None and (records or idle_ms is None or idle_ms > STORE_AGAIN_MS):
            cache.save(cache_folder, cache.Stored(index, end))
        return items

    def refresh(self, progress: log.Progress = lambda _topic, _done, _all: None) -> int:
        """
        Take in what the topics have got since, and return the number of records read.

        Raises as `read` does, and can be called again then.  Where the positions say nothing any
        more, as after a long pause, all is read again.
        """
        end = log.ends(self._settings)
        begin: Positions | None = self.positions
        index = self._index
        if self.positions.contradiction(end) or self.positions.too_old(end):
            begin, index = None, Index()
        records = log.read(self._settings, begin, end, index.put, progress)
        index.settle()
        self._index, self.positions = index, end
        return records

    def hashes(self, content_ids: Iterable[str]) -> Hashes:
        """Return the ids as `states` takes them."""
        return self._index.hasher.of_texts(list(content_ids))

    def states(self, hashes: Hashes) -> States:
        """Return the `State` of each item."""
        return self._index.states(hashes)

    @property
    def index(self) -> Index:
        """What is known of items and accounts."""
        return self._index

    def mask(self, content_ids: Iterable[str]) -> NDArray[np.bool_]:
        """Return for each id whether it may be used."""
        found: NDArray[np.bool_] = self.states(self.hashes(content_ids)) == State.ALLOWED
        return found

    def __contains__(self, content_id: str) -> bool:
        return bool(self.mask([content_id])[0])

    def __len__(self) -> int:
        return self._index.counts()[State.ALLOWED]


def id_text(value: Any) -> str:
    """Return a row's id as text; one that is no id becomes the empty text, which is never found."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""


def of_row(row: Mapping[str, Any], column: str) -> str:
    """Return the id of *row*; empty where there is none."""
    return id_text(row.get(column))
