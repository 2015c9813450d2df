"""`objections intake` as a process, and people who use it."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urljoin

import requests
from confluent_kafka import Message, TopicPartition

from streams.intake.tokens import Signer
from streams.kafka.local import HOST, LocalKafka
from streams.kafka.ports import free_port
from streams.kafka.reader import read_to_ends, reader
from tests.worker_process import Worker
from tests.worker_settings import settings_of

KEY: Final = "key-of-tests-0123456789abcdef0123"
SIGNER: Final = Signer([KEY])
ANSWER_S: Final = 15.0

_WORD: Final = re.compile(r'name="word" value="([^"]+)"')
_HEADING: Final = re.compile(r"<h1>(.*?)</h1>", re.DOTALL)


class Intake(Worker):
    """`objections intake` as a process: its form's address is `form`."""

    command = "intake"

    def __init__(
        self, kafka: LocalKafka | str, prefix: str, state_dir: Path, **variables: object
    ) -> None:
        self.form_port = free_port()
        ours: dict[str, Any] = {
            "INTAKE_HTTP": f"{HOST}:{self.form_port}",
            "INTAKE_KEY": KEY,
            "INTAKE_RATE": 100_000,
            **variables,
        }
        super().__init__(kafka, prefix, state_dir, **ours)

    @property
    def form(self) -> str:
        """Where people reach it."""
        return f"http://{HOST}:{self.form_port}"

    def link(self, user_id: str, valid_s: int = 3_600, locale: str = "") -> str:
        """Return the link of a notice."""
        return f"{self.form}/o/{SIGNER.link_token(user_id, int(time.time()) + valid_s, locale)}"

    def api_post(self, token: str) -> requests.Response:
        """Object to everything by the API."""
        url, headers = f"{self.form}/api/v1/objections", {"Authorization": f"Bearer {token}"}
        return requests.post(url, json={}, headers=headers, timeout=ANSWER_S)


@dataclass
class Page:
    """A page as somebody sees it."""

    url: str
    status: int
    text: str
    headers: "requests.structures.CaseInsensitiveDict[str]"

    @classmethod
    def open(cls, url: str, **options: Any) -> Self:
        """Follow a link."""
        return cls._of(requests.get(url, timeout=ANSWER_S, **options))

    @property
    def heading(self) -> str:
        """What it says first."""
        found = _HEADING.search(self.text)
        assert found is not None, self.text
        return found[1]

    @property
    def word(self) -> str:
        """The signed word of its form."""
        found = _WORD.search(self.text)
        assert found is not None, self.text
        return found[1]

    def send(self, *products: str, word: str | None = None, **options: Any) -> Self:
        """Press its button."""
        data = {"word": self.word if word is None else word, "products": list(products)}
        target = urljoin(self.url, "?lang=en")
        return self._of(requests.post(target, data=data, timeout=ANSWER_S, **options))

    @classmethod
    def _of(cls, answer: requests.Response) -> Self:
        return cls(answer.url, answer.status_code, answer.text, answer.headers)


def saved(kafka: LocalKafka, prefix: str, partitions_n: int) -> list[Message]:
    """Return all records of `objections`."""
    settings = settings_of(kafka, prefix)
    consumer = reader(settings, fetch_wait_max_ms=20)
    topic = settings.topic("objections")
    places = [(topic, number) for number in range(partitions_n)]
    consumer.assign([TopicPartition(*place, 0) for place in places])
    found = [
        each for batch in read_to_ends(consumer, places, wait_s=0.1, silence_s=30) for each in batch
    ]
    consumer.close()
    return found
