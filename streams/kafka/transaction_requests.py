"""
Requests of transactions in versions that aiokafka has not.

With the producer's epoch, to go on with the next one (KIP-360); and with the member and generation
of the group, so that who is no member any more is refused (KIP-447).
Source: Kafka's protocol guide.  Kafka 2.5 is the first to take them.
"""

from typing import Any, Self

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

TEXT = CompactString("utf-8")
TAGS = ("tags", TaggedFields)


def _by_topic(*of_partition: tuple[str, object]) -> tuple[str, object]:
    partitions = CompactArray(("partition", Int32), *of_partition, TAGS)
    return "topics", CompactArray(("topic", TEXT), ("partitions", partitions), TAGS)


class _Request(RequestStruct):
    """A request in one version, of all fields but the tags."""

    API_KEY = API_VERSION = -1
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = Response
    SCHEMA = Schema(TAGS)

    def __init__(self, *fields: object) -> None:
        super().__init__(*fields, {})

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Self:
        """Return what is sent to a broker that knows *versions* of each request."""
        lowest, highest = versions[self.API_KEY]
        if not lowest <= self.API_VERSION <= highest:
            raise IncompatibleBrokerVersion(
                f"Kafka takes {type(self).__name__} in versions {lowest} to {highest}, "
                f"not {self.API_VERSION}"
            )
        return self


class InitProducerIdResponse(Response):
    """The producer's id and epoch, or an error."""

    API_KEY, API_VERSION = 22, 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        TAGS,
    )


class InitProducerIdRequest(_Request):
    """Begins a producer's next epoch, and rolls back what is open."""

    API_KEY, API_VERSION = 22, 3
    RESPONSE_TYPE = InitProducerIdResponse
    SCHEMA = Schema(
        ("transactional_id", TEXT),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        TAGS,
    )


class TxnOffsetCommitResponse(Response):
    """An error for each partition, or none."""

    API_KEY, API_VERSION = 28, 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        _by_topic(("error_code", Int16)),
        TAGS,
    )


class TxnOffsetCommitRequest(_Request):
    """Puts a group's offsets into the transaction."""

    API_KEY, API_VERSION = 28, 3
    RESPONSE_TYPE = TxnOffsetCommitResponse
    SCHEMA = Schema(
        ("transactional_id", TEXT),
        ("group_id", TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", TEXT),
        ("group_instance_id", TEXT),
        _by_topic(("offset", Int64), ("leader_epoch", Int32), ("metadata", TEXT)),
        TAGS,
    )


def codes(answer: Any) -> list[int]:
    """Return the error codes in an *answer* to a request of transactions."""
    if hasattr(answer, "error_code"):
        return [answer.error_code]
    if hasattr(answer, "errors"):  # AddPartitionsToTxn
        return [code for _, partitions in answer.errors for _, code in partitions]
    return [code for _, partitions, _ in answer.topics for _, code, _ in partitions]
