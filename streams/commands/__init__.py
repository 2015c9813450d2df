"""
The command `objections`: one file per subcommand, imported only when it is asked for.

So `objections --help` answers at once and loads neither Faust nor a Kafka client.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from streams.commands.common import exit_statuses

# name: (module, attribute, what it does).  Listed by `--help` without importing the module.
COMMANDS = {
    "demo": ("streams.commands.demo", "demo", "See objections purge items, on a real Kafka."),
    "worker": ("streams.commands.worker", "worker", "Decide on users and items, and publish it."),
    "receipt": ("streams.commands.receipt", "receipt", "Tell how far an objection has got."),
    "explain": (
        "streams.commands.explain",
        "explain",
        "Say why a user's data may be used, or not.",
    ),
    "topics": ("streams.commands.topics", "topics", "Plan, apply and check the topics."),
    "intake": ("streams.commands.intake", "intake", "Serve the form to object with."),
    "import": (
        "streams.commands.importing",
        "import_command",
        "Bring in objections, ages, notices and content from files.",
    ),
    "subscribe": (
        "streams.commands.subscribe",
        "subscribe",
        "Follow the outputs into a data store, and acknowledge it.",
    ),
    "audit": ("streams.commands.audit", "audit", "Compare a data store with the topics; mend it."),
    "notices": ("streams.commands.notices", "notices", "List who has still to be told."),
    "dead-letters": (
        "streams.commands.dead_letters",
        "dead_letters",
        "List, replay and dismiss records that could not be used.",
    ),
    "grants": (
        "streams.commands.grants",
        "grants",
        "Show and release grants that are held, as too many would be allowed again.",
    ),
    "monitor": (
        "streams.commands.monitor",
        "monitor",
        "Tell how late propagation is, worker or none.",
    ),
    "canary": (
        "streams.commands.canary",
        "canary",
        "Let a made-up account object all day, and measure the way to every store.",
    ),
    "filter": ("streams.commands.filter", "filter_command", "Keep what may be used of a manifest."),
    "bench": ("streams.commands.bench", "bench", "Measure throughput and latency."),
    "kafka": ("streams.commands.kafka", "kafka", "Run a local Kafka for development."),
}


class LazyGroup(click.Group):
    """A group that reads its commands from `COMMANDS`, as far as they are installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name, (module, _, _) in COMMANDS.items() if find_spec(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}.{attribute} is no command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, COMMANDS[name][2]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """
        Run a command; the errors of all commands leave through this one door.

        Here and not in `main`, where click has already made an interrupt its own.
        """
        with exit_statuses():
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 a check failed, 2 bad usage or settings, "
    "3 Kafka or a store could not be reached.",
)
@click.version_option(package_name="objection-streams", prog_name="objections")
def main() -> None:
    """Carry an objection to AI training to every store that holds the objector's data."""
