"""
Sets of dead letters by their places, "topic/partition/offset", that cannot outgrow a user's row.

Of each partition the highest offsets are kept, and of what is resolved the partitions with the
lowest names: a worker writes dead letters of few, but a resolution may name any.
Both are joins: what is kept of two sets' union follows from what is kept of each, so a state does
not depend on the order in which it was learnt.  Whoever reads such a set makes sure that what was
left out restricts.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, TypeVar

Refs = tuple[str, ...]  # sorted as texts, each once: those of one partition stand together

# Of a user: the partitions whose dead letters may be told resolved.  Four inputs have one each;
# more are there where somebody resolves what never restricted, so that the list leaves it out.
PARTITIONS_MAX: Final = 8

Value = TypeVar("Value")


def partition_of(ref: str) -> str:
    """Return "topic/partition" of *ref*."""
    return ref.rpartition("/")[0]


def offset_of(ref: str) -> int:
    """Return the offset in *ref*."""
    return int(ref.rpartition("/")[2])


def holds(refs: Refs, ref: str) -> bool:
    """Whether *ref* is among *refs*."""
    at = bisect_left(refs, ref)
    return at < len(refs) and refs[at] == ref


def join(known: Refs, news: Refs, kept_max: int) -> Refs:
    """Return the *known* and the *news*, of each partition the *kept_max* of highest offset."""
    if not news or known == news:
        return known
    if not known:
        return news
    if len(news) == 1:
        at = bisect_left(known, news[0])
        if at < len(known) and known[at] == news[0]:
            return known
        merged = (*known[:at], *news, *known[at:])
    else:
        merged = tuple(sorted({*known, *news}))
    if len(merged) > kept_max:
        for partition in {partition_of(ref) for ref in news}:
            merged = _cut(merged, partition, kept_max)
    return merged


def by_partition(refs: Refs) -> Iterator[tuple[str, Refs]]:
    """Yield each "topic/partition" and its *refs*."""
    begin = 0
    while begin < len(refs):
        partition = partition_of(refs[begin])
        end = _end(refs, partition, begin)
        yield partition, refs[begin:end]
        begin = end


def lowest(refs: Refs) -> str:
    """Return the one of *refs*, all of one partition, with the lowest offset."""
    lengths = [*map(len, refs)]
    return refs[lengths.index(min(lengths))]  # numbers of one length are ordered as texts


def of_lowest_names(refs: Refs) -> Refs:
    """Return those of *refs* that are of as many partitions as are kept."""
    if len(refs) <= PARTITIONS_MAX:
        return refs
    begin = 0
    for _ in range(PARTITIONS_MAX):
        if begin == len(refs):
            return refs
        begin = _end(refs, partition_of(refs[begin]), begin)
    return refs[:begin]


def lowest_names(known: dict[str, Value]) -> dict[str, Value]:
    """Return what is *known* of as many partitions as are kept."""
    if len(known) <= PARTITIONS_MAX:
        return known
    return {name: known[name] for name in sorted(known)[:PARTITIONS_MAX]}


def _cut(refs: Refs, partition: str, kept_max: int) -> Refs:
    begin = bisect_left(refs, f"{partition}/")
    end = _end(refs, partition, begin)
    kept = refs[begin:end]
    if len(kept) == kept_max + 1:  # one after the other, in a flood: a sort of each would be slow
        at = bisect_left(kept, lowest(kept))
        kept = (*kept[:at], *kept[at + 1 :])
    elif len(kept) > kept_max:
        kept = tuple(sorted(sorted(kept, key=_by_offset)[-kept_max:]))
    return (*refs[:begin], *kept, *refs[end:])


def _end(refs: Refs, partition: str, begin: int) -> int:
    return bisect_left(refs, f"{partition}0", begin)  # "0" is what comes next after "/"


def _by_offset(ref: str) -> tuple[int, str]:
    return len(ref), ref
