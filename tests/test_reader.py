"""
What those who look on ask of Kafka: see also the tests of who asks.
"""

from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from streams.kafka.local import LocalKafka
from streams.kafka.reader import extent
from tests.worker_process import apply_topics, settings_of

ANSWER_S = 10.0


class Early(Consumer):
    """A consumer that is told *code* at first, as of a topic that was made just now."""

    code = KafkaError.NOT_LEADER_FOR_PARTITION
    times = 2

    def get_watermark_offsets(self, *asked: Any, **more: Any) -> Any:
        """Return what Kafka says, from the third time on."""
        if self.times:
            self.times -= 1
            raise KafkaException(KafkaError(self.code))
        return super().get_watermark_offsets(*asked, **more)


@pytest.fixture
def early(kafka: LocalKafka, prefix: str) -> Early:
    """Return a consumer that asks early, of topics that are there."""
    apply_topics(kafka, prefix)
    return Early(settings_of(kafka, prefix).kafka(group_id=f"{prefix}early"))


@pytest.mark.parametrize(
    "code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE]
)
def test_the_leader_of_a_new_partition_is_waited_for(early: Early, prefix: str, code: int) -> None:
    """It has none for a moment."""
    early.code = code

    assert extent(early, (f"{prefix}objections", 0), ANSWER_S) == (0, 0)

    early.close()


@pytest.mark.parametrize(
    "code, wait_s",
    [(KafkaError.TOPIC_AUTHORIZATION_FAILED, ANSWER_S), (KafkaError.NOT_LEADER_FOR_PARTITION, -1)],
)
def test_not_for_ever_and_nothing_else(early: Early, prefix: str, code: int, wait_s: float) -> None:
    """What else is wrong, or stays so, is told."""
    early.code = code

    with pytest.raises(KafkaException):
        extent(early, (f"{prefix}objections", 0), wait_s)

    early.close()
