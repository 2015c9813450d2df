"""A look as a table for people and as JSON for machines.  Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from streams.monitor.sight import Owner, Sight

HEAD = ("topic", "partition", "lag", "oldest")
NOBODY = "nobody"


def as_json(sight: Sight, now_ms: int) -> dict[str, Any]:
    """Return all there is to tell, under the names and units of the metrics."""
    ages = sight.oldest_unpropagated_s(now_ms)
    late = sight.oldest_unacknowledged_s(now_ms)
    return {
        "inputs": [
            {
                "topic": topic,
                "partition": partition,
                "lag_records": records,
                "oldest_unpropagated_seconds": ages.get((topic, partition)),
            }
            for (topic, partition), records in sight.lag_records().items()
        ],
        "stores": [
            {
                "store": store,
                "phase": phase,
                "oldest_unacknowledged_seconds": late[store, phase],
                "at": None
                if found is None
                else f"{'/'.join(map(str, found.place))}/{found.offset}",
            }
            for (store, phase), found in sight.stores.items()
        ],
        "owners": None
        if sight.owners is None
        else [
            {
                "partition": number,
                "client_id": None if owner is None else owner.client_id,
                "host": None if owner is None else owner.host,
            }
            for number, owner in _owners(sight, sight.owners)
        ],
    }


def waiting(sight: Sight, now_ms: int, max_age_s: float) -> list[str]:
    """Return a line for each thing that waits longer than *max_age_s* seconds, longest first."""
    found = [
        (age_s, f"{topic}/{partition} waits for {age_s:.1f} s to be published")
        for (topic, partition), age_s in sight.oldest_unpropagated_s(now_ms).items()
    ]
    for (store, phase), age_s in sight.oldest_unacknowledged_s(now_ms).items():
        late = sight.stores[store, phase]  # type: ignore[index] # a phase of its own
        where = "" if late is None else f" {late.place[0]}/{late.place[1]} from {late.offset} on"
        found.append(
            (age_s, f"store {store} has for {age_s:.1f} s not acknowledged{where} as {phase}")
        )
    return [line for age_s, line in sorted(found, reverse=True) if age_s > max_age_s]


def lines(sight: Sight, now_ms: int) -> Iterator[str]:
    """Yield the table; neighbours of which the same is to be told share a line."""
    ages = sight.oldest_unpropagated_s(now_ms)
    cells: list[Sequence[str]] = [HEAD]
    places = sight.inputs.items()
    for topic, of_topic in groupby(places, key=lambda each: each[0][0]):
        told = [
            (number, (f"{found.lag_records:,}", _age(ages.get((topic, number)))))
            for (_, number), found in of_topic
        ]
        for (lag, age), alike in groupby(told, key=lambda each: each[1]):
            numbers = [number for number, _ in alike]
            cells.append((topic, _span(numbers), lag, age))
    yield from _columns(cells)
    if sight.owners is not None:
        yield ""
        owned = ((number, str(owner or NOBODY)) for number, owner in _owners(sight, sight.owners))
        yield from _columns([("partition", "owner"), *_spans(owned)])
    if sight.stores:
        yield ""
        late = sight.oldest_unacknowledged_s(now_ms)
        rows: list[Sequence[str]] = [("store", "phase", "oldest", "from")]
        for (store, phase), found in sight.stores.items():
            where = "" if found is None else f"{found.place[0]}/{found.place[1]}/{found.offset}"
            rows.append((store, phase, _age(late[store, phase]), where))
        yield from _columns(rows)


def _owners(sight: Sight, owners: Mapping[int, Owner]) -> Iterator[tuple[int, Owner | None]]:
    for number in sorted({number for _, number in sight.inputs}):
        yield number, owners.get(number)


def _spans(cells: Iterable[tuple[int, str]]) -> Iterator[tuple[str, str]]:
    """Yield ranges of neighbours that have the same text."""
    for text, alike in groupby(cells, key=lambda each: each[1]):
        yield _span([number for number, _ in alike]), text


def _columns(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _age(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:,.1f} s"
