"""`objections audit trail`: shows and verifies the audit trail."""

import re
import signal
from typing import TYPE_CHECKING, Final

import click

from streams.commands.common import bootstrap_option, passing_line, read_settings
from streams.errors import CheckFailed, UsageProblem

if TYPE_CHECKING:
    from streams.audit.trail import Verified

_HEAD: Final = re.compile(r"(\d{1,6}):(\d{1,18}):([0-9a-f]{64})")


@click.command()
@bootstrap_option
@click.option("--verify", is_flag=True, help="Read each chain from its beginning and check it.")
@click.option(
    "--eligibility",
    is_flag=True,
    help="With --verify: are the decisions that stand on `eligibility` those of the trail?",
)
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="PARTITION:SEQUENCE:HASH",
    help="With --verify: a head noted earlier, which must still be in its chain; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def trail(
    bootstrap: str | None,
    verify: bool,
    eligibility: bool,
    expected: tuple[str, ...],
    as_json: bool,
) -> None:
    """
    Show where the audit trail of all decisions ends, or verify it.

    Each partition has a chain: every record names the hash of the one before, and the workers'
    state knows the last.  --verify names the first break of each chain (partition, offset, what was
    expected, what was found): a record that was removed, altered, inserted or moved, or an end that
    is missing.  A beginning that retention has cut is told, and is no break.

    Who can write to every topic, and to the brokers' disks, can make a whole new chain.  So note
    the heads that this command prints where they cannot reach, and give them to --expect.

    Exit status 1 when a chain is broken, or a decision is not the trail's.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    noted = _heads(expected)
    if not verify and (eligibility or expected):
        option = "--eligibility" if eligibility else "--expect"
        raise UsageProblem(f"{option} without --verify, expected both")
    settings = read_settings(bootstrap)
    from streams.audit import trail as audited

    with passing_line() as say:
        if not verify:
            found = audited.heads(settings, say)
        else:
            chains = audited.verify(settings, say, noted=noted, eligibility=eligibility)
    if verify:
        _tell(chains, as_json)
        return
    if as_json:
        import msgspec

        rows = [
            {"partition": number, "sequence": head.sequence, "hash": head.hash}
            for number, head in found.items()
            if head is not None
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    for number, head in found.items():
        click.echo(f"{number}: empty" if head is None else f"{number}:{head.sequence}:{head.hash}")


def _tell(chains: "list[Verified]", as_json: bool) -> None:
    """Print what was found; raise CheckFailed where it is not as it must be."""
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(chains), indent=2))
    else:
        for each in chains:
            for line in _lines(each):
                click.echo(line)
    broken = [each for each in chains if each.broken is not None]
    differences = sum(each.differences_n for each in chains)
    records, decisions = (
        sum(each.records for each in chains),
        sum(each.decisions for each in chains),
    )
    if broken or differences:
        text = f"{len(broken)} of {len(chains)} chains are broken"
        if differences:
            text += f", {differences:,} decisions are not those of the trail"
        raise CheckFailed(text)
    if not as_json:
        click.echo(f"whole: {len(chains)} chains, {records:,} records, {decisions:,} decisions")


def _lines(found: "Verified") -> list[str]:
    here = f"partition {found.partition}: "
    if found.broken is not None:
        at = found.broken
        return [f"{here}BROKEN at offset {at.offset}: expected {at.expected}, found {at.found}"]
    if not found.records:
        return [f"{here}no records"]
    lines = [
        f"{here}{found.records:,} records, {found.decisions:,} decisions, "
        f"{found.begins_at} to {found.ends_at}, ends with {found.sequence}:{found.hash}"
    ]
    if found.begins > 1:
        lines.append(
            f"{here}begins with sequence {found.begins}: what was before is deleted from the topic "
            "(its retention, or somebody) and cannot be verified"
        )
    if found.proven is not None:
        lines.append(
            f"{here}of the decisions that stand {found.proven:,} are proven, {found.older:,} are "
            "older than the trail"
        )
    lines += [
        f"{here}NOT THE TRAIL'S: subject {each.subject}, epoch {each.epoch}: {each.what}"
        for each in found.differences
    ]
    return lines


def _heads(texts: tuple[str, ...]) -> dict[int, dict[int, str]]:
    """Return hashes by partition and sequence."""
    found: dict[int, dict[int, str]] = {}
    for text in texts:
        match = _HEAD.fullmatch(text)
        if match is None:
            raise UsageProblem(
                f"--expect is {text!r}, expected PARTITION:SEQUENCE:HASH as `objections audit "
                "trail` prints it"
            )
        number, sequence, digest = match.groups()
        found.setdefault(int(number), {})[int(sequence)] = digest
    return found
