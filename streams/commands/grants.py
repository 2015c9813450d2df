"""`objections grants status|release`: what the breaker on re-inclusion holds, and its release."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import click
import msgspec

from streams.commands.common import bootstrap_option, confirm, read_settings
from streams.core.times import rfc3339
from streams.dead_letters.letter import Place
from streams.dead_letters.log import USERS_CHANGELOG, Log
from streams.dead_letters.send import Sender
from streams.errors import CheckFailed, UsageProblem
from streams.grants.held import Held
from streams.grants.release import release as release_record
from streams.settings import Settings
from streams.state.rows import NewerRow, UnreadableRow

OBJECTIONS: Final = "objections"
READ_WITHIN_S: Final = 30.0  # a worker reads a record within a second
ASK_AGAIN_S: Final = 0.2

partition_option = click.option(
    "--partition",
    "numbers",
    type=click.IntRange(0),
    multiple=True,
    metavar="N",
    help="Only this partition; may be given again. All are read otherwise, which may take long.",
)


@click.group()
def grants() -> None:
    """
    Show and release grants that are held.

    When more users than OBJECTIONS_BREAKER_PERCENT would be allowed again within a window, a bad
    policy file or a broken age feed is likely.  Their partition then allows nothing more;
    restrictions and purges go on.  Find out why, mend it, and release what is left.
    """


@grants.command()
@partition_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@bootstrap_option
def status(numbers: tuple[int, ...], as_json: bool, bootstrap: str | None) -> None:
    """
    Show where grants are held, since when, for how many, and what would allow them.

    Read from the workers' changelog: no worker has to run.  A user who waits may also wait for
    records that a worker has still to read.
    """
    settings = read_settings(bootstrap)
    with Log(settings) as log:
        found = _look(log, numbers)
    for each in found:
        if as_json:
            click.echo(msgspec.json.encode(each.as_json()).decode())
        elif each.tripped:
            _tell(each, settings)
    if not as_json:
        held = [each for each in found if each.tripped]
        click.echo(f"Grants are held in {len(held)} of {len(found)} partitions looked at.")


@grants.command()
@partition_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@bootstrap_option
def release(numbers: tuple[int, ...], yes: bool, bootstrap: str | None) -> None:
    """
    Let go what is held, in the partitions given or in all, and begin to count anew.

    It names the trips that it has seen: should a breaker trip again meanwhile, that one stands.
    Waits until workers have read it; exit status 1 where they do not.
    """
    settings = read_settings(bootstrap)
    with Log(settings) as log:
        held = [each for each in _look(log, numbers) if each.tripped]
        if not held:
            click.echo("Nothing to release: grants are held nowhere.")
            return
        for each in held:
            _tell(each, settings)
        confirm(
            f"Release them in {len(held)} partitions? All who wait are allowed then, which no "
            "training run that has read them takes back.",
            yes=yes,
        )
        sent = _send(settings, held, len(log.partitions))
        _wait_until_read(log, sent)
    click.echo(f"Released in {len(held)} partitions. What waited is published from now on.")


def _look(log: Log, numbers: Sequence[int]) -> list[Held]:
    unknown = [number for number in numbers if number not in log.partitions]
    if unknown:
        raise UsageProblem(
            f"--partition {unknown[0]}: expected 0 to {len(log.partitions) - 1}, the partitions of "
            f"{log.settings.topic(USERS_CHANGELOG)}."
        )
    found = {number: Held(number) for number in sorted(set(numbers)) or log.partitions}
    begins = {(USERS_CHANGELOG, number): 0 for number in found}
    for message in log.read(begins, USERS_CHANGELOG):
        key, partition = message.key(), message.partition() or 0
        try:
            if isinstance(key, bytes):
                found[partition].learn_row(key, message.value())
        except (NewerRow, UnreadableRow) as error:
            raise CheckFailed(f"{message.topic()}/{partition}: {error}") from error
    return list(found.values())


def _tell(held: Held, settings: Settings) -> None:
    state = held.state
    causes = ", ".join(f"{topic} {number:,}" for topic, number in held.causes.items())
    click.echo(
        f"partition {held.partition}: held since {rfc3339(state.trip_ms)}, when more than "
        f"{state.trip_users:,} of {state.known:,} known users would have been allowed again"
    )
    click.echo(f"  {held.users_n:,} wait, because of {causes or 'nothing any more'}")
    for user_id in held.some:
        look = "the user whose pseudonym is" if settings.subjects().keyed else "objections explain"
        click.echo(f"  see for instance: {look} {user_id}")


def _send(settings: Settings, held: list[Held], partitions_n: int) -> dict[int, int]:
    """Send the releases; return their offsets, by partition."""
    sent: dict[int, int] = {}

    def arrived(partition: int, place: Place) -> None:
        sent[partition] = place.offset

    with Sender(settings) as sender:
        for each in held:
            record = release_record(each.partition, each.state.trip_ms, partitions_n)
            heard = partial(arrived, each.partition)
            sender.send(settings.topic(OBJECTIONS), record, heard, [], each.partition)
    return sent


def _wait_until_read(log: Log, sent: dict[int, int]) -> None:
    """Wait until the workers' group is behind all offsets of `objections` in *sent*."""
    until_s = time.monotonic() + READ_WITHIN_S
    spots = [(OBJECTIONS, number) for number in sent]
    while True:
        at = log.committed(spots)
        unread = [number for number, offset in sent.items() if at[OBJECTIONS, number] <= offset]
        if not unread:
            return
        if time.monotonic() > until_s:
            raise CheckFailed(
                f"no worker has read the release of partition {unread[0]} within "
                f"{READ_WITHIN_S:.0f} s, expected within one. It is on its way all the same. "
                "Remedy: see that workers run, and how late they are (`objections monitor --once`)."
            )
        time.sleep(ASK_AGAIN_S)
