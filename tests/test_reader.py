"""
What those who look on ask of Kafka: see also the tests of who asks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.kafka.local import LocalKafka
from streams.kafka.reader import Place, ends, extent
from tests.worker_process import apply_topics, settings_of

ANSWER_S = 10.0


class Told(NamedTuple):
    """An offset that is not told."""

    place: TopicPartition
    code: int

    @property
    def error(self) -> KafkaError:
        """Why not."""
        return KafkaError(self.code)


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

    def offsets_for_times(self, *asked: Any, **more: Any) -> Any:
        """Return what Kafka says, from the third time on; the second tells it by partition."""
        found = super().offsets_for_times(*asked, **more)
        if self.times:
            self.times -= 1
            if not self.times:
                raise KafkaException(KafkaError(self.code))
            return [Told(tp, self.code) for tp in found]
        return found


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
    place = (f"{prefix}objections", 0)

    assert extent(early, place, ANSWER_S) == (0, 0)
    early.times = 2
    assert ends(early, [place], ANSWER_S) == {place: 0}
    assert ends(early, [], ANSWER_S) == {}

    early.close()


@pytest.mark.parametrize("ask", [extent, lambda early, place, wait_s: ends(early, [place], wait_s)])
@pytest.mark.parametrize(
    "code, wait_s",
    [(KafkaError.TOPIC_AUTHORIZATION_FAILED, ANSWER_S), (KafkaError.NOT_LEADER_FOR_PARTITION, -1)],
)
def test_not_for_ever_and_nothing_else(
    early: Early,
    prefix: str,
    code: int,
    wait_s: float,
    ask: Callable[[Early, Place, float], object],
) -> None:
    """What else is wrong, or stays so, is told."""
    early.code = code

    with pytest.raises(KafkaException):
        ask(early, (f"{prefix}objections", 0), wait_s)

    early.close()
