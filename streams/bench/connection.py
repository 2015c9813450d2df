"""
How benchmarks reach a Kafka: that of --bootstrap as the OBJECTIONS_KAFKA_ variables say.

A Kafka that is started for them asks for nothing, and is shown no credentials of another one.
Read from the environment, so that the processes that write, read and measure have it as well.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streams.settings import KAFKA_PREFIX, PREFIX, Settings


def settings_at(bootstrap: str, prefix: str = "") -> Settings:
    """Return the settings of a client of the Kafka at *bootstrap*, for topics of *prefix*."""
    ours = {"OBJECTIONS_BOOTSTRAP": bootstrap, "OBJECTIONS_TOPIC_PREFIX": prefix}
    return Settings.read({**_given(), **ours})


def options_at(bootstrap: str) -> dict[str, Any]:
    """Return the options of librdkafka that every client of the Kafka at *bootstrap* needs."""
    return settings_at(bootstrap).kafka()


def variables() -> dict[str, str]:
    """Return the variables that processes of ours need as well, without OBJECTIONS_."""
    return {name.removeprefix(PREFIX): text for name, text in _given().items()}


@contextmanager
def kafka_of_our_own() -> Iterator[None]:
    """Leave options for the Kafka of others out of the environment."""
    given = _given()
    for name in given:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(given)


def _given() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name.startswith(KAFKA_PREFIX)}
