"""`objections bench size`: the room that accounts and items take."""

from pathlib import Path

import click

from streams.commands.bench_common import print_all, progress, running_kafka
from streams.errors import UsageProblem


@click.command("size")
@click.option(
    "--accounts",
    type=click.IntRange(min=1),
    default=100_000_000,
    show_default=True,
    help="Accounts there are.",
)
@click.option(
    "--items",
    "items_per_account",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Items of an account, on average.",
)
@click.option("--partitions", type=click.IntRange(min=1), default=12, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--events",
    "events_per_s",
    type=click.FloatRange(min=0),
    default=10_000.0,
    show_default=True,
    help="New items a second, at the busiest.",
)
@click.option(
    "--id-bytes",
    type=click.IntRange(8, 256),
    default=20,
    show_default=True,
    help="Length of a user_id, and of a content_id.",
)
@click.option(
    "--sample-accounts",
    type=click.IntRange(min=100),
    default=10_000,
    show_default=True,
    help="Accounts to measure with.",
)
@click.option(
    "--sample-items",
    type=click.IntRange(1, 1_000),
    default=20,
    show_default=True,
    help="Items of each to measure with.",
)
@click.option(
    "--bootstrap",
    metavar="HOST:PORT",
    help="Kafka to measure on, in place of one started here; needs --kafka-data.",
)
@click.option(
    "--kafka-data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder (log.dirs) in which that Kafka keeps its topics, on this machine.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all figures to this file, in bytes.",
)
def size_command(
    accounts: int,
    items_per_account: float,
    partitions: int,
    workers: int,
    events_per_s: float,
    id_bytes: int,
    sample_accounts: int,
    sample_items: int,
    bootstrap: str | None,
    kafka_data: Path | None,
    json_path: Path | None,
) -> None:
    """
    Tell the room that so many accounts take: local stores, changelogs, outputs.

    Measures the bytes of an account and of an item on a Kafka started for it, by the service's own
    fold, stores and transactions, and multiplies.
    """
    if workers > partitions:
        message = f"{workers} workers, expected no more than the {partitions} partitions."
        raise click.BadParameter(message, param_hint="--workers")
    if (bootstrap is None) != (kafka_data is None):
        raise UsageProblem(
            "--bootstrap and --kafka-data go together: the sizes of topics are read from Kafka's "
            "files. Give both, or neither to have a Kafka started."
        )
    from streams.bench import size_report
    from streams.bench.connection import settings_at
    from streams.bench.run import fresh_place
    from streams.bench.size import measure

    with (
        progress() as say,
        running_kafka(bootstrap, 1, 0.0, say) as (address, folder),
        fresh_place(address, 1, folder, "size") as place,
    ):
        measured = measure(
            settings_at(address, place.prefix),
            kafka_data or folder / "kafka" / "data",
            folder,
            sample_accounts,
            sample_items,
            id_bytes,
            lambda text: say(text, ""),
        )
    wanted = size_report.Wanted(
        accounts=accounts,
        items_per_account=items_per_account,
        partitions=partitions,
        workers=workers,
        events_per_s=events_per_s,
    )
    lines = size_report.table(measured, wanted)
    print_all(lines, json_path, size_report.as_json(measured, wanted))
