"""
Grant the roles of `acls.yaml` to users of Kafka; run it from the repository's root.

    python -m deploy.acls --principal worker=User:objections-worker [--print | --check]

How Kafka is reached is said by the OBJECTIONS_KAFKA_ variables, as for every command.
"""

import argparse
import sys
from typing import Final

from deploy.acls.grant import compare, grant
from deploy.acls.roles import Place, Rule, read_roles, rules
from streams.commands.common import exit_statuses, read_settings
from streams.errors import CheckFailed, UsageProblem
from streams.kafka import admin

_DOES: Final = "Grant the roles of deploy/acls/acls.yaml to users of Kafka."


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 refused or different, 2 bad usage, 3 no Kafka."""
    parser = argparse.ArgumentParser(prog="python -m deploy.acls", description=_DOES)
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT", help="else OBJECTIONS_BOOTSTRAP, as for every command"
    )
    parser.add_argument("--prefix", help="of the topics; else OBJECTIONS_TOPIC_PREFIX")
    parser.add_argument("--group", help="of the workers; else OBJECTIONS_GROUP")
    parser.add_argument(
        "--principal",
        action="append",
        default=[],
        metavar="ROLE=User:NAME",
        help=f"who gets a role ({', '.join(read_roles())}); may be given again",
    )
    parser.add_argument(
        "--watched-group",
        action="append",
        default=[],
        metavar="GROUP",
        help="a group that OBJECTIONS_STORES counts (`group:GROUP:...`): worker, monitor and "
        "canary ask it",
    )
    does = parser.add_mutually_exclusive_group()
    does.add_argument(
        "--print", action="store_true", dest="prints", help="only print lines for kafka-acls.sh"
    )
    does.add_argument(
        "--check", action="store_true", help="only compare; status 1 when rights differ"
    )
    chosen = parser.parse_args(arguments)
    with exit_statuses():
        _act(chosen)
    return 0


def _act(chosen: argparse.Namespace) -> None:
    settings = read_settings(chosen.bootstrap)
    prefix = settings.topic_prefix if chosen.prefix is None else chosen.prefix
    is_default = settings.group == f"{settings.topic_prefix}objections"
    group = chosen.group or (f"{prefix}objections" if is_default else settings.group)
    place = Place(prefix, group, tuple(chosen.watched_group))
    wanted = _wanted(chosen.principal, place)
    if chosen.prints:
        for rule in wanted:
            print(rule.command(settings.bootstrap, " --command-config admin.properties"))
        return
    client = admin.connect(settings)
    if not chosen.check:
        grant(client, settings, wanted)
    found = compare(client, settings, wanted, place)
    for other in found.others:
        print(f"beyond its role, here: {other}", file=sys.stderr)
    if not chosen.check:
        print(f"{len(wanted)} rights stand for {len(chosen.principal)} roles")
        return
    if found.missing or found.others:
        lines = [
            f"missing: {each.principal} {each.operation} on {each.resource} {each.name}"
            for each in found.missing
        ]
        counts = f"{len(found.missing)} rights are missing, {len(found.others)} are beyond the role"
        remedy = "Remedy: run this without --check; take away what is beyond with kafka-acls.sh."
        raise CheckFailed("\n".join([*lines, f"{counts}. {remedy}"]))
    print(f"{len(wanted)} rights stand, and no others")


def _wanted(principals: list[str], place: Place) -> list[Rule]:
    """Return the rules for `ROLE=User:NAME` texts; raises UsageProblem."""
    if not principals:
        raise UsageProblem("--principal is missing, expected ROLE=User:NAME, once for each role")
    wanted: list[Rule] = []
    for text in principals:
        role, _, principal = text.partition("=")
        kind, _, name = principal.partition(":")
        if role not in read_roles() or not kind or not name:
            known = ", ".join(read_roles())
            raise UsageProblem(
                f"--principal is {text!r}, expected ROLE=User:NAME, where ROLE is one of {known}"
            )
        wanted += rules(role, principal, place)
    return list(dict.fromkeys(wanted))


if __name__ == "__main__":
    sys.exit(main())
