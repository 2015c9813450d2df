"""What accounts and items take is measured, and multiplied."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from streams.bench.size import Bytes, Measured, measure, needed
from streams.bench.size_report import Wanted, as_json, shown, table
from streams.commands import main
from streams.kafka.local import LocalKafka
from tests.worker_process import apply_topics, settings_of

ACCOUNTS, ITEMS, ID_BYTES = 300, 5, 24
MEASURED = Measured(
    accounts=1_000,
    items_per_account=20,
    id_bytes=20,
    per_account=Bytes(10, 20, 30),
    per_item=Bytes(1, 2, 3),
    per_record=Bytes(1, 5, 6),
)
WANTED = Wanted(
    accounts=1_000_000, items_per_account=2.5, partitions=10, workers=5, events_per_s=100.0
)


def test_an_account_and_an_item_are_measured(
    kafka: LocalKafka, prefix: str, tmp_path: Path
) -> None:
    """
    Each takes at least its ids, and an item no more than some hundred bytes.

    Both ids are the key of an item's row, and an output's key; an account's id is in the items'
    keys once more, but next to each other they compress.
    """
    apply_topics(kafka, prefix, partitions=1)
    said: list[str] = []
    found = measure(
        settings_of(kafka, prefix),
        kafka.folder / "data",
        tmp_path,
        ACCOUNTS,
        ITEMS,
        ID_BYTES,
        said.append,
    )

    assert said[-1] == f"{ACCOUNTS * ITEMS:,} of {ACCOUNTS * ITEMS:,} items"
    for bytes_ in (found.per_account, found.per_item):
        assert min(bytes_.store, bytes_.changelogs, bytes_.outputs) > ID_BYTES
        assert max(bytes_.store, bytes_.changelogs, bytes_.outputs) < 600
    assert found.per_record.changelogs >= found.per_item.changelogs


def test_what_is_needed_is_the_sum_over_accounts_and_items() -> None:
    """The formula on the sizing page."""
    assert Bytes(10 * 7 + 50, 20 * 7 + 100, 30 * 7 + 150) == needed(MEASURED, 7, 50)
    content = as_json(MEASURED, WANTED)
    assert content["total"] == {"store": 12.5e6, "changelogs": 25e6, "outputs": 37.5e6}
    assert (content["per_worker_store"], content["per_partition_store"]) == (2.5e6, 1.25e6)
    assert (content["changelog_bytes_per_s"], content["output_bytes_per_s"]) == (500, 600)
    lines = table(MEASURED, WANTED)
    (total,) = [line for line in lines if line.startswith("1,000,000 accounts, 2,500,000 items")]
    assert total.split()[-6:] == ["12.5", "MB", "25.0", "MB", "37.5", "MB"]


@pytest.mark.parametrize(
    "number, text", [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (3.5e15, "3.5 PB")]
)
def test_bytes_are_shown_with_their_unit(number: float, text: str) -> None:
    """In powers of a thousand, as disks are sold."""
    assert text == shown(number)


def test_more_workers_than_partitions_are_refused() -> None:
    """Before anything is started."""
    done = CliRunner().invoke(main, ["bench", "size", "--workers=13", "--partitions=12"])

    assert done.exit_code == 2
    assert "13 workers, expected no more than the 12 partitions" in done.output


def test_another_kafka_is_taken_with_its_data_folder_only() -> None:
    """Its answers do not tell how large topics are."""
    done = CliRunner().invoke(main, ["bench", "size", "--bootstrap=127.0.0.1:1"])

    assert done.exit_code == 2
    assert "--bootstrap and --kafka-data go together" in done.output
