"""What the form confirms is there, whatever becomes of the broker; else it says so."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.kafka.local import LocalKafka
from tests.bench.intake import PARTITIONS, PREFIX, run
from tests.conftest import QUICK
from tests.intake_scene import Intake, Page
from tests.worker_settings import apply_topics, wait_for

RATE, SECONDS = 150, 4.0
CONFIRM_MS = 2_000


@pytest.fixture(scope="module")
def kafka_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Return a Kafka that may be killed."""
    with LocalKafka(tmp_path_factory.mktemp("killed"), properties=QUICK) as local:
        apply_topics(local, PREFIX, PARTITIONS)
        yield local


def test_none_confirmed_and_lost(kafka_of_its_own: LocalKafka, tmp_path: Path) -> None:
    """
    The broker is killed under people who object: what was confirmed is there.  While it is away
    the page says that nothing was saved and keeps what was chosen; the same form saves it later.
    """
    kafka = kafka_of_its_own
    with Intake(kafka, PREFIX, tmp_path / "intake", INTAKE_CONFIRM_MS=CONFIRM_MS) as intake:
        intake.wait_ready()
        form = Page.open(f"{intake.link('patient')}?lang=en")
        token = intake.link("program").rpartition("/")[2]
        pages = []

        def without_a_broker() -> None:
            page = form.send("messenger")
            assert 503 == page.status
            assert "Nothing has been saved" in page.text
            assert ["messenger"] == re.findall(r'value="(\w+)" checked', page.text)
            assert form.word == page.word
            answer = intake.api_post(token)
            assert (503, "Nothing has been saved") == (answer.status_code, answer.json()["title"])
            pages.append(page)

        result = run(kafka, intake, RATE, SECONDS, kills=1, away=without_a_broker)

        assert set() == result.lost
        assert result.outcomes.keys() <= {"saved", "not saved"}
        assert result.confirmed
        assert "Your objection has been saved" == pages[0].send("messenger").heading
        assert "patient" not in intake.log()

        # Told to leave while the broker is away, it first answers whoever waits.
        last = Page.open(f"{intake.link('last')}?lang=en")
        kafka.kill()
        with ThreadPoolExecutor() as people:
            asked = people.submit(last.send, "messenger")
            wait_for(lambda: intake.metric("objections_intake_waiting_submissions") > 0, "the form")
            intake.leave()
            page = asked.result()
        assert 503 == page.status
        assert "Nothing has been saved" in page.text
