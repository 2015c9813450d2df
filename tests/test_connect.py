"""
A store without our code: Kafka Connect, Debezium's JDBC sink and PostgreSQL as deploy/ has them.

One scene on real programs, played once; each test looks at what it needs of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from streams.kafka.local import LocalKafka
from streams.setting_values import stores
from tests.connect_worker import DEPLOY, Connect, connect_worker, connector
from tests.making import content, grown_up, notice, objection
from tests.servers import postgres_server
from tests.worker_process import Inputs, Worker, apply_topics, read_receipts, wait_for
from tests.worker_settings import new_prefix
from topics import connect as schemas

STORES: Final = (
    "postgres-users=group:connect-objections-postgres-users:training-users;"
    "postgres-content=group:connect-objections-postgres-content:training-content"
)
FILES: Final = ("postgres-users.json", "postgres-content.json")
ALL: Final = (*FILES, "opensearch-users.json", "opensearch-content.json")
PARTITIONS: Final = 2

Rows = dict[str, tuple[Any, ...]]


@dataclass
class Scene:
    """
    A prefix, and the store that follows it.

    seen: tables of the store, as they were at the moments that tests look at.
    """

    kafka: LocalKafka
    prefix: str
    url: str
    connect: Connect
    seen: dict[str, Rows] = field(default_factory=dict)
    receipt: dict[str, Any] = field(default_factory=dict)
    validated: dict[str, Any] = field(default_factory=dict)

    def rows(self, table: str) -> Rows:
        """Return the rows of *table* by their first column."""
        with psycopg.connect(self.url) as connection:
            statement = sql.SQL("SELECT * FROM {}").format(sql.Identifier("objections", table))
            found = connection.execute(statement).fetchall()
        return {row[0]: row for row in found}

    def look(self, name: str) -> None:
        """Keep what the store has now."""
        for table in ("training_users", "training_content", "usable"):
            self.seen[f"{name}: {table}"] = self.rows(table)

    def do(self, statement: str) -> None:
        """Run a statement in the store."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def positions(self) -> dict[tuple[str, int], int]:
        """Return how far the connectors have committed."""
        found = {}
        for file in FILES:
            answer = self.connect.ask("GET", f"/connectors/{connector(file)['name']}/offsets")
            for each in answer["offsets"]:
                place = each["partition"]["kafka_topic"], each["partition"]["kafka_partition"]
                found[place] = each["offset"]["kafka_offset"]
        return found

    def find_receipt(self) -> bool:
        """Keep the receipt of objection o1; tell whether both stores are done with it."""
        self.receipt = read_receipts(self.kafka, self.prefix).get("u1/o1/filed", {})
        return bool(self.receipt) and self.receipt["completed_at"] is not None


@pytest.fixture(scope="module")
def scene(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return the scene, played to its end."""
    prefix = new_prefix()
    apply_topics(kafka, prefix, partitions=PARTITIONS)
    folder = tmp_path_factory.mktemp("connect")
    with postgres_server(shared_buffers="32MB") as server:
        host, port = server.url.rpartition("@")[2].rpartition("/")[0].split(":")
        variables = {
            "OBJECTIONS_TOPIC_PREFIX": prefix,
            "POSTGRES_URL": f"jdbc:postgresql://{host}:{port}/postgres",
            "POSTGRES_USER": "objections",
            "POSTGRES_PASSWORD": "unused",
        }
        with (
            Worker(kafka, prefix, folder / "state", STORES=STORES) as worker,
            Inputs(kafka, prefix) as inputs,
            connect_worker(kafka, folder, variables) as connect,
        ):
            played = Scene(kafka, prefix, server.url, connect)
            for _ in range(2):  # the file of tables may be run again
                played.do((DEPLOY / "postgres.sql").read_text("utf-8"))
            worker.wait_ready()
            _start(played)
            _allow(played, inputs)
            _object(played, inputs)
            _replay(played)
            yield played


def _start(scene: Scene) -> None:
    """Post the connectors as they are, and wait for their tasks."""
    for file in FILES:
        posted = connector(file)
        kind = posted["config"]["connector.class"]
        scene.validated[file] = scene.connect.ask(
            "PUT",
            f"/connector-plugins/{kind}/config/validate",
            {"name": posted["name"], **posted["config"]},
        )
        scene.connect.ask("POST", "/connectors", posted)
    names = [connector(file)["name"] for file in FILES]
    wait_for(lambda: all(map(scene.connect.runs, names)), "tasks that run")


def _allow(scene: Scene, inputs: Inputs) -> None:
    """Two people with items; one of them is published again."""
    for user_id in ("u1", "u2"):
        inputs.queue("account-ages", grown_up(user_id=user_id))
        inputs.queue("notices", notice(user_id=user_id))
        for number in range(3):
            item = content(user_id=user_id, content_id=f"{user_id}-{number}", language="gsw-CH")
            inputs.queue("content", item)
    inputs.queue("content", content(user_id="u2", content_id="u2-3"))
    inputs.flush()
    wait_for(lambda: len(scene.rows("usable")) == 7, "all items to be in the store")
    scene.look("allowed")
    again = content(user_id="u2", content_id="u2-0", revision=2)
    gone = content(user_id="u2", content_id="u2-1", revision=2, visibility="deleted")
    inputs.send(("content", again), ("content", gone))
    wait_for(lambda: scene.rows("training_content")["u2-0"][2] == 2, "the second revision")
    wait_for(lambda: "u2-1" not in scene.rows("training_content"), "the deleted item to go")
    scene.look("changed")


def _object(scene: Scene, inputs: Inputs) -> None:
    """One of them objects."""
    inputs.send(("objections", objection(user_id="u1")))
    wait_for(lambda: not any(key.startswith("u1") for key in scene.rows("usable")), "two locks")
    wait_for(scene.find_receipt, "the receipt to be complete")
    scene.look("objected")


def _replay(scene: Scene) -> None:
    """The groups are taken back to the beginning; every row seen on the way is kept."""
    scene.do(
        "CREATE TABLE objections.shown AS SELECT * FROM objections.training_content LIMIT 0;"
        "CREATE FUNCTION objections.show() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO objections.shown SELECT NEW.*; RETURN NEW; END $$;"
        "CREATE TRIGGER show AFTER INSERT OR UPDATE ON objections.training_content"
        " FOR EACH ROW EXECUTE FUNCTION objections.show()"
    )
    before = scene.positions()
    for file in FILES:
        path = f"/connectors/{connector(file)['name']}"
        scene.connect.ask("PUT", f"{path}/stop")

        scene.connect.wait_stopped(path)
        scene.connect.ask("DELETE", f"{path}/offsets")
        scene.connect.ask("PUT", f"{path}/resume")
    wait_for(lambda: {"u2-2", "u2-3"} <= scene.rows("shown").keys(), "the old records again")

    def is_back() -> bool:
        after = scene.positions()
        return all(after.get(place, 0) >= offset for place, offset in before.items())

    wait_for(is_back, "the positions to be where they were")
    scene.look("replayed")
    scene.seen["shown"] = scene.rows("shown")


def test_schemas_are_those_of_the_topics() -> None:
    """What a connector is told of the values cannot drift from what the topics say."""
    for file, topic in schemas.WITH_SCHEMA.items():
        text = (DEPLOY / file).read_text("utf-8")
        assert schemas.written(text, topic) == text, f"{file}: run python -m topics.connect"


def test_a_schema_of_lists_is_refused() -> None:
    """No column can be made of them."""
    with pytest.raises(ValueError, match="eligibility: no column can be made of reasons"):
        schemas.value_schema("eligibility")


@pytest.mark.parametrize("file", ALL)
def test_every_connector_reads_what_is_committed(file: str) -> None:
    """It sees no grant of a transaction that is given up, and skips no record."""
    config = connector(file)["config"]
    assert "read_committed" == config["consumer.override.isolation.level"]
    assert "earliest" == config["consumer.override.auto.offset.reset"]
    assert "none" == config["errors.tolerance"]


def test_the_readme_counts_these_groups() -> None:
    """Its line for OBJECTIONS_STORES names the groups that the connectors have."""
    text = (DEPLOY / "README.md").read_text("utf-8")
    assert STORES in text
    for file in ALL:
        posted = connector(file)
        topic = posted["config"]["topics"].removeprefix("${env:OBJECTIONS_TOPIC_PREFIX}")
        assert f"group:connect-{posted['name']}:{topic}" in text
    assert {"training-users", "training-content"} == {each.topics[0] for each in stores(STORES)}


@pytest.mark.nightly
def test_connect_finds_nothing_wrong(scene: Scene) -> None:
    """The files are what the connector takes."""
    for file, answer in scene.validated.items():
        errors = [each["value"] for each in answer["configs"] if each["value"]["errors"]]
        assert not errors, file
        assert 0 == answer["error_count"]


@pytest.mark.nightly
def test_records_become_rows(scene: Scene) -> None:
    """With all their fields, a language that is unknown, and a time that is one."""
    users, items = scene.seen["allowed: training_users"], scene.seen["allowed: training_content"]
    assert ("instagram/u1", "u1", "instagram") == users["instagram/u1"][:3]
    assert 8 == len(users)
    item = items["u1-0"]
    assert ("u1-0", "u1", 1, "instagram", "post", "text", "gsw-CH") == item[:7]
    assert "2026-04-15T09:00:00+00:00" == item[7].isoformat()
    assert items["u2-3"][6] is None


@pytest.mark.nightly
def test_newer_records_replace_rows(scene: Scene) -> None:
    """The revision grows; a deleted item's row goes."""
    before = scene.seen["allowed: training_content"]
    after = scene.seen["changed: training_content"]
    assert (1, 2) == (before["u2-0"][2], after["u2-0"][2])
    assert before.keys() - after.keys() == {"u2-1"}


@pytest.mark.nightly
def test_an_objection_deletes_rows_of_both_tables(scene: Scene) -> None:
    """All of the user's, and nobody else's."""
    users, items = scene.seen["objected: training_users"], scene.seen["objected: training_content"]
    assert {f"{product}/u2" for product in ("facebook", "instagram", "messenger", "whatsapp")} == (
        users.keys()
    )
    assert {"u2-0", "u2-2", "u2-3"} == items.keys() == scene.seen["objected: usable"].keys()


@pytest.mark.nightly
def test_the_groups_positions_are_counted_as_hidden(scene: Scene) -> None:
    """The receipt is complete once both connectors have committed what the objection caused."""
    found = scene.receipt["stores"]
    assert {"postgres-users", "postgres-content"} == found.keys()
    for store in found.values():
        assert scene.receipt["published_at"] <= store["hidden_at"] <= scene.receipt["completed_at"]
        assert store["erased_at"] is None


@pytest.mark.nightly
def test_a_replay_brings_nothing_back(scene: Scene) -> None:
    """Old records are refused one by one, so that not even for a moment a purged item is there."""
    for table in ("training_users", "training_content", "usable"):
        assert scene.seen[f"objected: {table}"] == scene.seen[f"replayed: {table}"]
    assert {"u2-0", "u2-2", "u2-3"} == scene.seen["shown"].keys()
    assert 2 == scene.seen["shown"]["u2-0"][2]
