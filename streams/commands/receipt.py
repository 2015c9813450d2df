"""`objections receipt OBJECTION`: how far an objection has got, store by store."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import CheckFailed, Unreachable

if TYPE_CHECKING:
    from streams.core.receipts import Receipt
    from streams.kafka.receipts import Found, Lateness

LOOK_AGAIN_S = 0.5


@click.command()
@click.argument("objection", metavar="OBJECTION")
@bootstrap_option
@click.option("--user", "user_id", metavar="USER", help="Of this user only: reads one partition.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a line of JSON for each, for machines."
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long, at most, for it to be complete.",
)
def receipt(
    objection: str, bootstrap: str | None, user_id: str | None, as_json: bool, wait_s: float
) -> None:
    """
    Tell how far an objection has got: decided, published, hidden and erased in each store.

    OBJECTION is its id; an objection and its withdrawal each have a receipt, and all users with
    such an id are told.  A store that is late is named, with what it has acknowledged; what stores
    follow is read from OBJECTIONS_STORES.  Exit status 1 when it is not complete, or not known.
    """
    from streams.kafka.receipts import Finder

    def tell(text: str) -> None:
        click.echo(text, err=True)

    deadline_s = time.monotonic() + wait_s
    with Finder(read_settings(bootstrap), objection, user_id, tell) as finder:
        while True:
            found = _read(finder.read, deadline_s)
            open_n = sum(1 for each in found if each.receipt.completed_at is None)
            left_s = deadline_s - time.monotonic()
            if (found and not open_n) or left_s <= 0:
                break
            time.sleep(min(LOOK_AGAIN_S, left_s))
        late = [finder.lateness(each) for each in found]
    if not found:
        whose = "" if user_id is None else f" of user {user_id!r}"
        raise CheckFailed(
            f"no receipt of objection {objection!r}{whose}: none was filed under this id, or it is "
            "not decided yet (is a worker running?)"
        )
    for each, stores in zip(found, late, strict=True):
        if as_json:
            click.echo(msgspec.json.encode(_as_json(each, stores)).decode())
        else:
            click.echo("\n".join(lines(each.receipt, stores)))
    if open_n:
        names = sorted({name for stores in late for name in stores})
        why = f"late: {', '.join(names)}" if names else "not all is published yet"
        raise CheckFailed(f"{open_n} of {len(found)} not complete; {why}")


def _read(read: "Callable[[], list[Found]]", deadline_s: float) -> "list[Found]":
    """Read, and again while there is time to wait for Kafka."""
    while True:
        try:
            return read()
        except Unreachable:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(LOOK_AGAIN_S)


def _as_json(found: "Found", late: "Mapping[str, Lateness]") -> dict[str, object]:
    """Return the record, and what it waits for."""
    fields = msgspec.to_builtins(found.receipt)
    fields["late"] = {
        name: {
            "phase": each.phase,
            "since": each.since,
            "reached": {
                place: {"acknowledged": offset, "end": end} for place, offset, end in each.reached
            },
        }
        for name, each in late.items()
    }
    return dict(fields)


def lines(found: "Receipt", late: "Mapping[str, Lateness]") -> Iterator[str]:
    """Return what a receipt says to people, and of the stores that are *late*."""
    width = max([len("published"), *map(len, found.stores)]) + 2

    def line(name: str, text: str) -> str:
        return f"  {name:<{width}}{text}"

    yield f"objection {found.objection_id} of user {found.user_id}, {found.action}"
    yield line("received", found.received_at)
    yield line("decided", f"after {_after(found, found.decided_at)}")
    if found.published_at is None:
        yield line("published", f"not yet: its items are being answered, {found.items} so far")
    else:
        items = f"{found.items} item{'' if found.items == 1 else 's'}"
        yield line("published", f"after {_after(found, found.published_at)}, {items}")
    if found.reopened_at is not None:
        yield line("reopened", f"{found.reopened_at}, as a store went back")
    for name, progress in found.stores.items():
        yield line(name, _progress(found, progress.hidden_at, progress.erased_at, late.get(name)))
    if found.completed_at is not None:
        yield line("completed", f"after {_after(found, found.completed_at)}, {found.completed_at}")
    else:
        yield line("completed", f"not yet: waits for {', '.join(late) or 'its publication'}")


def _progress(
    found: "Receipt", hidden_at: str | None, erased_at: str | None, late: "Lateness | None"
) -> str:
    done = [
        f"{phase} after {_after(found, at)}"
        for phase, at in (("hidden", hidden_at), ("erased", erased_at))
        if at is not None
    ]
    if late is not None:
        waited_s = (datetime.now(UTC) - datetime.fromisoformat(late.since)).total_seconds()
        where = [
            f"{place} acknowledged up to {offset} of {end}"
            if offset is not None
            else f"{place} never acknowledged, ends at {end}"
            for place, offset, end in late.reached
        ]
        what = "; ".join(where) or "it has acknowledged nothing"
        done.append(f"not {late.phase} yet, LATE for {_seconds(waited_s)}: {what}")
    return ", ".join(done) or "not yet"


def _after(found: "Receipt", at: str) -> str:
    span = datetime.fromisoformat(at) - datetime.fromisoformat(found.received_at)
    return _seconds(span.total_seconds())


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if abs(seconds) < 1 else f"{seconds:,.1f} s"
