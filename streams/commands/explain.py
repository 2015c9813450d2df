"""`objections explain USER`: why a user's data may be used for training, or may not."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import CheckFailed, UsageProblem

if TYPE_CHECKING:
    from streams.explain.assemble import Wanted
    from streams.explain.explanation import Explanation
    from streams.settings import Settings

ID_BYTES_MAX = 256
# What one transaction wrote becomes visible in one topic a moment before it does in another.
LOOK_AGAIN_S = (0.3, 0.7, 1.5, 3.0)

Say = Callable[[str], None]


@click.command()
@click.argument("user_id", metavar="USER")
@bootstrap_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
@click.option("--items", "list_items", is_flag=True, help="List items too, not only count them.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many items to list.",
)
@click.option("--item", "content_id", metavar="CONTENT_ID", help="Tell one item with its history.")
@click.option(
    "--objection",
    "objection_id",
    metavar="OBJECTION_ID",
    help="Tell how far one objection has got.",
)
@click.option(
    "--no-items", "without_items", is_flag=True, help="Leave out items: much less to read."
)
@click.option(
    "--no-stores",
    "without_stores",
    is_flag=True,
    help="Leave out what stores have made of decisions: less to read where they say much.",
)
@click.option(
    "--history",
    "steps",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="How many steps to tell, the latest.",
)
@click.option(
    "--redact", is_flag=True, help="Hide birth dates, what follows from them, and countries."
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The policy the workers decide by; else OBJECTIONS_POLICY, else the one built in.",
)
def explain(
    user_id: str,
    bootstrap: str | None,
    as_json: bool,
    list_items: bool,
    limit: int,
    content_id: str | None,
    objection_id: str | None,
    without_items: bool,
    without_stores: bool,
    steps: int,
    redact: bool,
    policy: Path | None,
) -> None:
    """
    Explain why USER's data may be used for training, or may not.

    Facts in force and superseded, the reasons against each product with the records that cause
    them, what changes next by itself, the history, and the items; and when what was decided had got
    how far, up to what stores have hidden and erased.  Read from the topics, beside running workers
    or without any; nothing is written.  What is shown is personal data: birth dates
    are, unless --redact is given; the content of items and the values of unreadable records never
    are, and of a deleted account only that it was deleted.

    Exit status 1 when USER is unknown, or when what is published is not what the facts say and
    nothing under way explains it.
    """
    if without_items and (list_items or content_id is not None):
        raise UsageProblem("--no-items was given with --items or --item: expected one of them.")
    _check_id("USER", user_id)
    if content_id is not None:
        _check_id("--item", content_id)
    if objection_id is not None:
        _check_id("--objection", objection_id)
    settings = read_settings(bootstrap)
    if policy is not None:
        settings = replace(settings, policy=policy)
    from streams.explain.assemble import Wanted

    listed = limit if list_items else 0
    wanted = Wanted(redact, not without_items, listed, content_id, steps, objection_id)
    with _progress() as say:
        found = _look(settings, user_id, wanted, say, stores=not without_stores)
    _print(found, as_json)
    if not found.ok:
        raise CheckFailed(
            "\n".join(
                [
                    f"what is published of {user_id} is not what the facts say, and nothing under "
                    "way explains it:",
                    *found.mismatches,
                ]
            )
        )


def _check_id(name: str, text: str) -> None:
    try:
        fits = 0 < len(text.encode()) <= ID_BYTES_MAX
    except UnicodeEncodeError:  # bytes of a command line that are no UTF-8
        fits = False
    if not fits:
        raise UsageProblem(f"{name} is {text[:40]!r}, expected an id of 1 to 256 bytes in UTF-8.")


def _look(
    settings: "Settings", user_id: str, wanted: "Wanted", say: Say, *, stores: bool
) -> "Explanation":
    """Return the explanation; a mismatch is looked at again, as it may be about to go."""
    from streams.explain import assemble
    from streams.explain.reading import Reading
    from streams.policy_file import policy_of

    policy = policy_of(settings.policy)

    def look(reading: Reading) -> "Explanation":
        now_ms = int((time.time() + settings.clock_offset_s) * 1000)
        return assemble.explain(reading.look(), policy, now_ms, wanted)

    with Reading(
        settings,
        user_id,
        say,
        items=wanted.items,
        content_id=wanted.content_id,
        steps=wanted.steps,
        stores=stores,
    ) as reading:
        found = look(reading)
        for pause_s in LOOK_AGAIN_S:
            if found.ok:
                break
            say("looking again")
            time.sleep(pause_s)
            found = look(reading)
        evidence = reading.evidence
        if not evidence.known:
            raise CheckFailed(
                f"user {user_id!r} is unknown: partition {evidence.number}, where Kafka's murmur2 "
                f"puts this id, holds no record of it{'' if wanted.items else ' but of items'}, "
                "neither in the inputs nor in the outputs. "
                "Remedy: see that the id is spelt as its producer writes it (case and spaces "
                f"count), and that the prefix {settings.topic_prefix!r} is the right one."
            )
    return found


def _print(found: "Explanation", as_json: bool) -> None:
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    from streams.explain.rendering import lines_of

    for line in lines_of(found):
        click.echo(line)


@contextmanager
def _progress() -> Iterator[Say]:
    """Show a passing line, where there is a terminal."""
    shows = sys.stderr.isatty()

    def say(passing: str) -> None:
        if shows:
            click.echo(f"\r\x1b[K{passing}", nl=False, err=True)

    try:
        yield say
    finally:
        say("")
