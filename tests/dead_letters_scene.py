"""
A prefix with a worker, in which bad records are sent, and the command line looked at.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner, Result

from streams.commands import main
from streams.kafka.local import LocalKafka
from tests.making import content, grown_up, notice
from tests.worker_process import Inputs, Sent, Watch, Worker, apply_topics
from tests.worker_settings import environ_of

Decision = dict[str, Any]
MIB = 1024 * 1024


class Scene:
    """One worker for several tests, each with users of its own."""

    def __init__(self, kafka: LocalKafka, prefix: str, folder: Path) -> None:
        self.kafka = kafka
        self.prefix = prefix
        self.worker = Worker(kafka, prefix, folder / "state")
        squeezed = {"compression_type": "zstd", "message_max_bytes": 64 * MIB}
        self.inputs = Inputs(kafka, prefix, **squeezed)
        self.watch = Watch(kafka, prefix)

    @classmethod
    @contextmanager
    def open(cls, kafka: LocalKafka, prefix: str, folder: Path) -> Iterator[Self]:
        """Make the topics and start the worker."""
        apply_topics(kafka, prefix)
        scene = cls(kafka, prefix, folder)
        with scene.worker, scene.inputs, scene.watch:
            scene.worker.wait_ready()
            yield scene

    def grant(self, *users: str) -> None:
        """Let *users* be eligible, each with an item USER.c."""
        for user in users:
            self.inputs.queue("account-ages", grown_up(user_id=user))
            self.inputs.queue("notices", notice(user_id=user))
            self.inputs.queue("content", content(user_id=user, content_id=f"{user}.c"))
        self.inputs.flush()

    def bad(self, topic: str, value: object, key: bytes | str | None = "") -> Sent:
        """Send one record, by default under its own user_id, and wait for its dead letter."""
        if key == "":
            (sent,) = self.inputs.send((topic, value))
        else:
            self.inputs.queue(topic, value, key)
            (sent,) = self.inputs.flush()
        self.catch_up()
        return sent

    def catch_up(self) -> None:
        """Wait until the worker has done all there is to do."""
        self.watch.wait_until_caught_up(workers=[self.worker])

    def run(self, *arguments: object, typed: str | None = None, **environ: str) -> Result:
        """Run `objections dead-letters` with *arguments*; it is never a traceback."""
        result = CliRunner().invoke(
            main,
            ["dead-letters", *map(str, arguments)],
            input=typed,
            env=environ_of(self.kafka.bootstrap, self.prefix, {}) | environ,
        )
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    def listed(self, *arguments: object) -> list[dict[str, Any]]:
        """Return what `list --json` prints."""
        result = self.run("list", "--json", *arguments)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def places(self, *arguments: object) -> list[str]:
        """Return the places that `list` prints."""
        return [each["place"] for each in self.listed(*arguments)]

    def decision(self, user: str) -> Decision:
        """Return the last decision on *user*."""
        records = [each for each in self.watch.outputs()["eligibility"] if each.key_text == user]
        found: Decision = json.loads(records[-1].value or b"")
        return found

    def allowed(self, content_id: str) -> bool:
        """Return whether the item may be used."""
        items = self.watch.outputs()["training-content"]
        records = [each for each in items if each.key_text == content_id]
        return records[-1].value is not None

    def open_metric(self) -> dict[str, float]:
        """Return the open dead letters that the worker tells of, by topic without prefix."""
        name = "objections_dead_letters_open"
        return {
            series.split('"')[1].removeprefix(self.prefix): number
            for series, number in self.worker.metrics().items()
            if series.startswith(name)
        }
