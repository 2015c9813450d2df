"""
Where tests meet a prefix on a Kafka: its settings, its topics, and waiting for something there.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.settings import Settings

WAIT_S: Final = 60.0  # for what happens within a second or two on a machine that is not busy
ANSWER_S: Final = 5.0  # of one HTTP or admin request
POLL_PAUSE_S: Final = 0.05
PARTITIONS: Final = 4
# Harmless, and unknown to `client_options`: whoever has it set works by librdkafka's transactions.
BY_LIBRDKAFKA: Final = {"KAFKA_SASL_KERBEROS_SERVICE_NAME": "kafka"}

# librdkafka's own lines: brokers and workers are taken from under clients on purpose.
QUIET: Final = logging.getLogger(f"{__name__}.kafka")
QUIET.disabled = True


def settings_of(kafka: LocalKafka, prefix: str, **variables: object) -> Settings:
    """Return the settings of a process on *prefix*; *variables* are without OBJECTIONS_."""
    return Settings.read(environ_of(kafka.bootstrap, prefix, variables))


def apply_topics(kafka: LocalKafka, prefix: str, partitions: int = PARTITIONS) -> None:
    """Make all topics of *prefix*."""
    settings = settings_of(kafka, prefix)
    admin.apply(admin.connect(settings), settings, partitions)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Return once *condition* holds; fails saying *what* was waited for."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s:.0f} s in vain: {what}"
        time.sleep(POLL_PAUSE_S)


def new_prefix() -> str:
    """Return a topic prefix that nobody else has, on whatever Kafka."""
    return f"t{uuid.uuid4().hex[:10]}."


def environ_of(bootstrap: str, prefix: str, variables: Mapping[str, object]) -> dict[str, str]:
    """Return the environment of a process with *variables*, and none of ours besides."""
    environ = {
        name: text for name, text in os.environ.items() if not name.startswith("OBJECTIONS_")
    }
    ours = {"BOOTSTRAP": bootstrap, "TOPIC_PREFIX": prefix, **variables}
    return environ | {f"OBJECTIONS_{name}": str(value) for name, value in ours.items()}
