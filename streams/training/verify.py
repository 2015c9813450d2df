"""
Tells which items of a filtered data set have been purged since.

Where it can, it reads only what the topics have got since the data set's positions.  A lock of an
account that was closed since asks for all of `training-content`, as a data set does not tell whose
its items are; so do positions so old that tombstones may be gone.  Nothing is said to be in order
that is not known to be: a changed file or topics made anew fail the check.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from streams.errors import CheckFailed, UsageProblem
from streams.settings import Settings
from streams.training import log, positions
from streams.training.index import Index, State
from streams.training.items import AllowedItems, Say
from streams.training.manifests import Source, opened, sha256_of, sources
from streams.training.positions import DataSet, Positions

FULL: Final = "all of the topics"
SINCE: Final = "what the topics have got since"
NOTHING: Final = "nothing, as the topics have got nothing since"


class Verified(NamedTuple):
    """
    purged: ids of the data set's items that may no longer be used, each once, in its order.
    rows: of the data set that hold them.
    positions: of the topics, up to which this holds.
    read: what of the topics was looked at, for people; records: how many.
    """

    purged: list[str]
    rows: int
    positions: Positions
    read: str
    records: int


def verify(
    settings: Settings,
    out: Path,
    *,
    positions_path: Path | None = None,
    cache_folder: Path | None = None,
    progress: log.Progress = lambda _topic, _done, _all: None,
    say: Say = lambda _text: None,
) -> Verified:
    """
    Return what of the data set *out* has been purged since it was filtered.

    Raises CheckFailed when that cannot be known (the file was changed, the topics are others or
    have lost records), UsageProblem when something is missing, Unreachable.
    """
    path = positions_path or positions.beside(out)
    data_set = positions.read(path)
    files = _unchanged(out, data_set, path)
    end = log.ends(settings)
    why = data_set.positions.contradiction(end)
    if why is not None:
        message = (
            f"the positions in {path} say nothing about these topics: {why}. So what was purged "
            "since cannot be known, and the data set must not be used. Remedy: name the right "
            "cluster and prefix, or filter the manifest again."
        )
        raise CheckFailed(message)
    found: _Found | None = None
    if cache_folder is None:
        found = _since(settings, data_set.positions, end, progress, say)
    if found is None:
        items = AllowedItems.read(settings, cache_folder=cache_folder, progress=progress, say=say)
        found = _Found(items.index, _not_allowed, items.positions, FULL, items.built.records)
    purged: dict[str, None] = {}
    rows = 0
    if found.read != NOTHING:
        for ids in _purged(files, data_set.column, found):
            rows += len(ids)
            purged.update(dict.fromkeys(ids))
    return Verified(list(purged), rows, found.positions, found.read, found.records)


@dataclass(frozen=True, slots=True)
class _Found:
    index: Index
    is_purged: "_Judge"
    positions: Positions
    read: str
    records: int


def _unchanged(out: Path, data_set: DataSet, path: Path) -> list[Source]:
    """Return the files of the data set; raises CheckFailed when they are not those filtered."""
    if not out.exists():
        message = f"{out} does not exist; expected a data set that `objections filter` has written."
        raise UsageProblem(message)
    files = sources([out], data_set.format, data_set.delimiter)
    # A data set that is one file may have been renamed together with its positions.
    names = [each.name for each in data_set.files] if out.is_dir() else [""]
    hashes = dict(zip(names, (each.sha256 for each in data_set.files), strict=False))
    found = {each.name for each in files}
    differing = sorted(found ^ hashes.keys())
    try:
        differing += [
            each.name or str(out)
            for each in files
            if each.name in hashes and sha256_of(each.path) != hashes[each.name]
        ]
    except OSError as error:
        message = f"{out} cannot be read: {error}"
        raise UsageProblem(message) from error
    if differing:
        shown = ", ".join(differing[:5])
        message = (
            f"{out} is not what was filtered: {shown} changed since {path} was written. So what is "
            "in it cannot be known, and it must not be used. Remedy: filter the manifest again."
        )
        raise CheckFailed(message)
    return files


def _since(
    settings: Settings, begin: Positions, end: Positions, progress: log.Progress, say: Say
) -> _Found | None:
    """Look at what came since *begin*; None where that does not tell."""
    why = begin.too_old(end)
    if why is not None:
        say(f"{why}; all is read")
        return None
    if begin.offsets() == end.offsets():
        return _Found(Index(), _has_tombstone, end, NOTHING, 0)
    index = Index()
    records = log.read(settings, begin, end, index.put, progress)
    index.settle()
    closed = int((~index.accounts.columns[0]).sum())
    if closed:
        say(f"{closed} accounts were locked since, so all of their items are looked for")
        return None
    return _Found(index, _has_tombstone, end, SINCE, records)


class _Judge:
    """Which states mean that an item of the data set may no longer be used."""

    def __init__(self, *states: State) -> None:
        self._purged = np.zeros(len(State), np.bool_)
        self._purged[list(states)] = True

    def __call__(self, states: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> "Mask":
        found: Mask = self._purged[states]
        return found


Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
_not_allowed: Final = _Judge(State.UNKNOWN, State.PURGED, State.LOCKED)
# What came since says nothing of an item that did not change, and of an account's lock only that
# none was closed; so a record that stands is still unlocked.
_has_tombstone: Final = _Judge(State.PURGED)


def _purged(files: list[Source], column: str, found: _Found) -> Iterator[list[str]]:
    for source in files:
        with opened(source, column) as manifest:
            for chunk in manifest.chunks:
                states = found.index.states(chunk.hashes(found.index.hasher))
                mask = found.is_purged(states)
                if mask.any():
                    yield chunk.ids(mask)
