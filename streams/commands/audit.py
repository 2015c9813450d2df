"""`objections audit`: compares what a data store holds with what the topics say."""

import re
import signal
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from streams.commands.audit_report import report
from streams.commands.audit_trail import trail
from streams.commands.common import bootstrap_option, passing_line, read_settings
from streams.errors import CheckFailed, UsageProblem

if TYPE_CHECKING:
    from streams.audit.findings import Report
    from streams.notices.proof import Proof

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


@click.group(invoke_without_command=True)
@click.pass_context
@bootstrap_option
@click.option("--sink", "url", metavar="URL", help="The store, as in `subscribe`.")
@click.option(
    "--store",
    metavar="NAME",
    help="Its name in acknowledgements; else its own positions say how far it is.",
)
@click.option(
    "--notices", "of_notices", is_flag=True, help="Instead: that nobody was allowed untold."
)
@click.option("--repair", is_flag=True, help="Mend what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many findings of each kind are named; all are counted, and mended.",
)
def audit(
    context: click.Context,
    bootstrap: str | None,
    url: str | None,
    store: str | None,
    of_notices: bool,
    repair: bool,
    as_json: bool,
    limit: int,
) -> None:
    """
    Compare what a data store holds with the topics, beside whatever writes to it.

    \b
    forbidden  found in the store, and purged in the topics (the item, or its account)
    unknown    found in the store, and never in the topics
    outdated   found with other fields, or of another account, than the topic says
    missing    allowed by the topics, and not found
    memory     the store remembers another pair of the key than the topic's

    Exit status 1 when something forbidden or unknown was found, mended or not.  What the store has
    not acknowledged yet is no finding: `late` counts items that should go by it, `on their way`
    those that should come, `lag` the records behind.  With --store, places are named whose purges
    are hidden and, past the sink's schedule, not erased; bytes themselves are not looked for.

    With --notices no store is looked at: every permission that stands in `training-users` needs a
    delivered notice whose window had passed when it was published, by the policy of
    OBJECTIONS_POLICY.  Exit status 1 where one has none.
    """  # noqa: D301  (click wants the character)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if context.invoked_subcommand is not None:
        _refuse_options(context, context.invoked_subcommand)
        return
    if of_notices == (url is not None) or (of_notices and (store is not None or repair)):
        text = "expected either --sink URL, with --store and --repair, or --notices alone"
        raise UsageProblem(text)
    if url is None:
        _audit_notices(bootstrap, as_json, limit)
    else:
        _audit_store(bootstrap, url, store, repair, as_json, limit)


def _audit_notices(bootstrap: str | None, as_json: bool, limit: int) -> None:
    import msgspec

    from streams.notices.proof import prove
    from streams.policy_file import policy_of

    settings = read_settings(bootstrap)
    policy = policy_of(settings.policy)
    with passing_line() as say:
        proof = prove(settings, policy, limit, say)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(proof), indent=2))
    else:
        _print_proof(proof)
    if proof.untold_n:
        raise CheckFailed(
            f"{proof.untold_n:,} permissions stand for users who were not told in time. Remedy: "
            "`objections explain USER` shows what is known of one; see who else writes to the "
            "topics of this prefix."
        )


def _refuse_options(context: click.Context, command: str) -> None:
    """A command has options of its own: those before it would be of no effect."""
    given = [
        name
        for name in context.params
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]
    if given:
        raise UsageProblem(f"options before `{command}`, expected them behind it; see its --help")


def _print_proof(proof: "Proof") -> None:
    for each in proof.untold:
        told = "no notice is known" if each.told_from is None else f"told from {each.told_from} on"
        place = f"{each.topic}/{each.partition}/{each.offset}"
        click.echo(f"untold: {each.user_id} in {each.product}, {each.allowed_at} {place}: {told}")
    if proof.untold_n > len(proof.untold):
        click.echo(f"  … and {proof.untold_n - len(proof.untold):,} more (--limit)")
    if proof.unproven:
        click.echo(
            f"unproven: {proof.unproven:,} permissions of users whose state was lost and whose "
            "facts are still being read again"
        )
    told_n = proof.permissions - proof.untold_n - proof.unproven
    click.echo(
        f"{told_n:,} of {proof.permissions:,} permissions have a notice whose window had passed "
        f"before them, by policy version {proof.policy_version}, {proof.took_s:.1f} s"
    )


def _audit_store(
    bootstrap: str | None, url: str, store: str | None, repair: bool, as_json: bool, limit: int
) -> None:
    if store is not None and not _NAME.fullmatch(store):
        text = f"--store is {store!r}, expected its name in acknowledgements, as in `subscribe`"
        raise UsageProblem(text)
    settings = read_settings(bootstrap)
    from streams.audit.run import Wanted
    from streams.audit.run import audit as run
    from streams.sinks.contents import AuditedSink
    from streams.sinks.urls import make_sink, place_of, shown

    place = place_of(url)
    if place is not None and not place.exists():
        text = f"{place} does not exist. Remedy: name the store that `subscribe` fills with --sink."
        raise UsageProblem(text)
    sink = make_sink(url)
    if not isinstance(sink, AuditedSink):
        text = f"the sink {shown(url)} cannot be audited: it does not show what it holds"
        raise UsageProblem(text)
    with passing_line() as say:
        report = run(settings, sink, Wanted(shown(url), store, limit, repair), say)
    _print(report, as_json)
    if report.failed:
        mended = " (mended: see above)" if repair else ". Remedy: --repair"
        text = f"{report.failed:,} keys were in the store that must not be{mended}"
        raise CheckFailed(text)


def _print(report: "Report", as_json: bool) -> None:
    import msgspec

    from streams.audit.findings import last_line, lines_of

    if as_json:
        content = {**msgspec.to_builtins(report, enc_hook=str), "failed": report.failed}
        click.echo(msgspec.json.format(msgspec.json.encode(content), indent=2))
        return
    for line in lines_of(report):
        click.echo(line)
    click.echo(last_line(report))


audit.add_command(trail)
audit.add_command(report)
