"""
What the form does about a client that sends nothing any more.
"""

import asyncio

import pytest

from streams.intake import sender as sending
from streams.intake.sender import NotSaved, Sender
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port
from streams.settings import Settings
from tests.worker_process import apply_topics, settings_of
from tests.worker_settings import environ_of

SHORT = {"INTAKE_CONFIRM_MS": 1_000}


def test_a_client_of_which_nothing_is_confirmed_makes_way_for_a_new_one(
    kafka: LocalKafka, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka is there; the client does not find it any more.  Who sends is told so each time."""
    apply_topics(kafka, prefix)
    nowhere = Settings.read(environ_of(f"{HOST}:{free_port()}", prefix, SHORT))
    monkeypatch.setattr(sending, "DEAF_S", 0.5)

    async def send() -> None:
        sender = Sender(settings_of(kafka, prefix, **SHORT))
        sender._producer = Sender(nowhere)._producer
        sender.start()
        for _ in range(2):
            with pytest.raises(NotSaved):
                await sender.send("u1", b"{}")
        await sender.send("u1", b"{}")
        await sender.stop()

    asyncio.run(send())
