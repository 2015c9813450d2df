"""`objections dead-letters list|replay|dismiss`: records that could not be used, and their end."""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import IO, Any, Final, TypeVar

import click
import msgspec

from streams.commands.common import bootstrap_option, confirm, read_settings
from streams.dead_letters.choose import choose
from streams.dead_letters.letter import Choice, Letter, Place
from streams.dead_letters.log import Log
from streams.dead_letters.mend import RESOLVES, Mended, dismissal, mend
from streams.dead_letters.originals import original, originals
from streams.dead_letters.send import Sender
from streams.dead_letters.shown import against, shown_text, table
from streams.dead_letters.survey import survey
from streams.dead_letters.together import Dismissed, together
from streams.errors import BadRecord, CheckFailed, UsageProblem

Command = TypeVar("Command", bound=Callable[..., Any])

UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
NAMED_MAX: Final = 20  # dead letters named one by one before a question
OBJECTIONS: Final = "objections"


class Moment(click.ParamType):
    """A time with an offset from UTC, or how long ago it was."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return milliseconds since 1970."""
        if isinstance(value, int):
            return value
        if ago := re.fullmatch(r"([0-9]+)([smhd])", str(value)):
            return int(time.time() * 1000) - int(ago[1]) * UNITS_MS[ago[2]]
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            expected = (
                "2026-04-15T09:00:00Z, with an offset from UTC, or as long ago as 90m, 12h, 7d"
            )
            self.fail(f"{value!r}, expected a time as in {expected}", param, ctx)
        return int(moment.timestamp() * 1000)


@click.group("dead-letters")
def dead_letters() -> None:
    """
    List records that could not be used, and replay or dismiss them.

    A bad record of `objections` or `account-ages` restricts its user, one of `content` its item,
    until a mended record is replayed or the dead letter is dismissed.  PLACE is
    topic/partition/offset of the bad record.  Everything is read from Kafka: no worker has to
    run, and no group is joined.
    """


def _choosing_options(command: Command) -> Command:
    for option in (
        click.argument("place", required=False),
        click.option(
            "--topic",
            "topics",
            multiple=True,
            metavar="TOPIC",
            help="Only of this input; may be given again.",
        ),
        click.option(
            "--error",
            "errors",
            multiple=True,
            metavar="CODE",
            help="Only with this error code (time_without_offset); may be given again.",
        ),
        click.option("--user", "user_id", metavar="USER", help="Only of this user."),
        click.option(
            "--since",
            type=Moment(),
            help="Only records received at this time or later; 2026-04-15T09:00:00Z, or 12h (ago).",
        ),
        click.option("--until", type=Moment(), help="Only records received before this time."),
        bootstrap_option,
    ):
        command = option(command)
    return command


def _yes_option(command: Command) -> Command:
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


@dead_letters.command("list")
@_choosing_options
@click.option("--all", "also_resolved", is_flag=True, help="Also those that are resolved.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def list_(also_resolved: bool, as_json: bool, bootstrap: str | None, **chosen: Any) -> None:
    """
    Show dead letters that are open, the oldest first; one by its PLACE, open or not.

    Also shown is what stands longer than its dead letter was kept.
    """
    settings = read_settings(bootstrap)
    choice = choose(settings, **chosen)
    with Log(settings) as log:
        found = survey(log, choice)
    if choice.place is not None and not found:
        raise _unknown(choice.place)
    shown = [each for each in found if each.open or also_resolved or choice.place is not None]
    if as_json:
        for letter in shown:
            click.echo(msgspec.json.encode(letter.as_json()).decode())
        return
    for line in table(shown):
        click.echo(line)
    standing = sum(1 for each in found if each.open and each.restricts is not None)
    open_n = sum(1 for each in found if each.open)
    click.echo(
        f"{open_n} open, of which {standing} stand against a user or an item; "
        f"{len(found) - open_n} resolved{'' if len(shown) == len(found) else ' (see --all)'}."
    )


@dead_letters.command()
@_choosing_options
@click.option("--edit", is_flag=True, help="Mend the record in $VISUAL or $EDITOR.")
@click.option(
    "--file",
    "mended_file",
    type=click.File("rb"),
    help="Send the mended record in this file (- for standard input).",
)
@_yes_option
def replay(
    edit: bool, mended_file: IO[bytes] | None, yes: bool, bootstrap: str | None, **chosen: Any
) -> None:
    """
    Send the record at PLACE again, mended, or all open ones the options choose, as they are.

    It goes to its topic under the same key, with a header that resolves the dead letter.  What the
    workers' decoder still refuses is not sent: exit status 1.  What is resolved is skipped, so
    this may be repeated.
    """
    settings = read_settings(bootstrap)
    choice = choose(settings, **chosen)
    if edit and mended_file is not None:
        raise UsageProblem("--edit and --file were given, expected one of them.")
    if choice.place is None and (edit or mended_file is not None):
        raise UsageProblem(
            "--edit and --file mend one record, expected its PLACE (topic/partition/offset). "
            "Remedy: see `objections dead-letters list`."
        )
    with Log(settings) as log:
        if choice.place is None:
            _replay_all(log, choice, yes=yes)
        else:
            _replay_one(log, choice, choice.place, mended_file, edit=edit)


def _replay_one(
    log: Log, choice: Choice, place: Place, mended_file: IO[bytes] | None, *, edit: bool
) -> None:
    letter = _one(log, choice, place)
    if not letter.open:
        click.echo(f"{place}: resolved already, nothing to send.")
        return
    _check_known([letter])
    if mended_file is not None:
        record = _judged(letter, mended_file.read().rstrip(b"\r\n"))
    else:
        found = original(log, letter)
        if found is None:
            raise CheckFailed(_gone(letter))
        record = _edited(letter, found.value) if edit else _judged(letter, found.value)
    with Sender(log.settings) as sender:
        _send(sender, letter, record)


def _replay_all(log: Log, choice: Choice, *, yes: bool) -> None:
    found = survey(log, choice)
    letters = [letter for letter in found if letter.open]
    _say_skipped(len(found) - len(letters))
    _check_known(letters)
    if not letters:
        click.echo("Nothing to replay: no open dead letter is chosen.")
        return
    _name(letters)
    confirm(f"Replay {len(letters)} as they are? What is bad still is not sent.", yes=yes)
    failed: Counter[str] = Counter()
    with Sender(log.settings) as sender, closing(originals(log, letters)) as taken:
        for letter, content in taken:
            if content is None:
                click.echo(_gone(letter), err=True)
                failed["no longer kept"] += 1
                continue
            try:
                record = mend(letter, content.value, _now_ms())
            except BadRecord as bad:
                click.echo(f"{letter.place}: still bad, not sent: {bad}", err=True)
                failed[bad.code] += 1
            else:
                _send(sender, letter, record)
    sent = len(letters) - failed.total()
    click.echo(f"{sent} of {len(letters)} sent and acknowledged.")
    if failed:
        why = ", ".join(f"{code} {number}" for code, number in failed.most_common())
        raise CheckFailed(
            f"{failed.total()} of {len(letters)} were not sent ({why}). Remedy: mend each with "
            "`replay PLACE --edit` or `--file`, or dismiss it."
        )


@dead_letters.command()
@_choosing_options
@_yes_option
def dismiss(yes: bool, bootstrap: str | None, **chosen: Any) -> None:
    """
    Say that the dead letter at PLACE, or all that the options choose, count for nothing.

    What they restrict is lifted, unless something else stands against it.  An objection that only
    could not be read is lost by it: mend it with `replay` instead.

    Of a user with more than a thousand bad records in a topic one stands for all before it: they
    are dismissed together.
    """
    settings = read_settings(bootstrap)
    choice = choose(settings, **chosen)
    if choice == Choice():
        raise UsageProblem(
            "nothing says which dead letters, expected a PLACE or an option that chooses some. "
            "Remedy: see `objections dead-letters list`."
        )
    with Log(settings) as log:
        found = survey(log, choice) if choice.place is None else [_one(log, choice, choice.place)]
        still_open = [letter for letter in found if letter.open]
        letters = [letter for letter in still_open if letter.user_id is not None]
        _check_known(letters)
        to_send = together(log, letters)
    _say_skipped(len(found) - len(still_open))
    nobodys = [letter for letter in still_open if letter.user_id is None]
    for letter in nobodys:
        click.echo(
            f"{letter.place}: nothing to dismiss: its key is no valid user id, so it restricts "
            "nobody. It may be replayed with a user_id, or left to its retention."
        )
    if not letters:
        click.echo("Nothing to dismiss.")
        return
    _name(letters, lifts=True)
    confirm(
        f"Dismiss {len(letters)}? What only they restrict may be used for training again, and "
        "what they were meant to say is not counted.",
        yes=yes,
    )
    topic = settings.topic(OBJECTIONS)
    with Sender(settings) as sender:
        for each in to_send:
            # To the partition it lies in, where its user's state is, whatever its key says.
            said, letter = partial(_say_dismissed, each), each.letter
            record = dismissal(letter, through=each.covered > 0 or letter.stands_for_more)
            sender.send(topic, record, said, [], letter.place.partition)
    click.echo(f"{len(letters)} dismissed and acknowledged.")


def _check_known(letters: Sequence[Letter]) -> None:
    """Raise CheckFailed where nobody can tell whose dead letter one is."""
    unknown = [letter for letter in letters if letter.pseudonym]
    if unknown:
        raise CheckFailed(
            f"{unknown[0].place}: its dead letter is no longer kept, and of its user only the "
            f"pseudonym {unknown[0].user_id} is known ({len(unknown)} of {len(letters)} chosen). "
            "Nothing was sent. Remedy: choose it by --user and the user's id."
        )


def _one(log: Log, choice: Choice, place: Place) -> Letter:
    found = survey(log, choice)
    if not found:
        raise _unknown(place)
    return found[0]


def _unknown(place: Place) -> UsageProblem:
    return UsageProblem(
        f"{place}: there is no dead letter of a record at this place, expected that of a bad "
        "record. Remedy: see `objections dead-letters list --all`; a record that the workers have "
        "not read yet has none."
    )


def _gone(letter: Letter) -> str:
    why = "was cut to fit" if letter.truncated else "is no longer kept"
    return (
        f"{letter.place}: its dead letter {why}, and the record itself is no longer at its place. "
        "Remedy: get it from who sent it, and replay it with --file."
    )


def _judged(letter: Letter, value: bytes | None) -> Mended:
    """Return the record, if it is good now.  Raises CheckFailed."""
    try:
        return mend(letter, value, _now_ms())
    except BadRecord as bad:
        raise CheckFailed(
            f"{letter.place}: still bad, not sent: {bad}{_about_the_key(letter, bad)}. Remedy: "
            "mend it with --edit or --file, or dismiss the dead letter."
        ) from None


def _about_the_key(letter: Letter, bad: BadRecord) -> str:
    if bad.code != "key_differs":
        return ""
    return (
        f" (the key is {shown_text(letter.key or '')}; if that is what was wrong, let the sender "
        "send the record anew under the right one, and dismiss this)"
    )


def _edited(letter: Letter, value: bytes | None) -> Mended:
    """Return the record as somebody has mended it; who sits at a terminal may try again."""
    text = value if value is not None else b"{}"
    while True:
        edited = click.edit(text, extension=".json")
        if edited is None:
            raise CheckFailed(f"{letter.place}: nothing was changed, so nothing is sent.")
        text = bytes(edited).rstrip(b"\r\n")
        try:
            return _judged(letter, text)
        except CheckFailed as error:
            if not sys.stdin.isatty():
                raise
            click.echo(error, err=True)
            if not click.confirm("Edit it again?", default=True, err=True):
                raise


def _send(sender: Sender, letter: Letter, record: Mended) -> None:
    said = partial(_say_sent, letter, record)
    sender.send(letter.place.topic, record, said, [(RESOLVES, str(letter.place))])


def _say_sent(letter: Letter, record: Mended, place: Place) -> None:
    click.echo(f"{letter.place}: sent as {place}.")
    if letter.user_id is None:
        click.echo(
            f"{letter.place}: its key was no user id; it is {shown_text(record.key.decode())}."
        )
    elif place.partition != letter.place.partition:
        click.echo(
            f"{letter.place}: its partition was not that of its key, so the restriction there "
            "still stands; dismiss it too. Remedy: let its sender use Kafka's own partitioner "
            "(librdkafka: partitioner=murmur2_random).",
            err=True,
        )


def _say_dismissed(done: Dismissed, place: Place) -> None:
    others = f" and {done.covered} before it" if done.covered else ""
    click.echo(f"{done.letter.place}{others}: dismissed by {place}.")


def _say_skipped(number: int) -> None:
    if number:
        click.echo(f"{number} resolved already, skipped.")


def _name(letters: Sequence[Letter], *, lifts: bool = False) -> None:
    """Show what is about to be sent or dismissed."""
    for letter in letters[:NAMED_MAX]:
        click.echo(
            f"{letter.place} {letter.error or 'no longer kept'}: {against(letter, lifts=lifts)}"
        )
    if len(letters) > NAMED_MAX:
        click.echo(f"and {len(letters) - NAMED_MAX} more.")


def _now_ms() -> int:
    return int(time.time() * 1000)
