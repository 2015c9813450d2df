"""
The record that releases a partition's grants.

Its key is nobody's id, made so that Kafka's own partitioner takes the record to that partition, as
it does every record of `objections`.  Pure.
"""

from itertools import count

import msgspec

from streams.core.times import rfc3339
from streams.dead_letters.mend import Mended
from streams.kafka.partitioner import partition_of


def release(partition: int, trip_ms: int, partitions_n: int) -> Mended:
    """Return the record for `objections` that releases the trip at *trip_ms* of *partition*."""
    user_id = next(
        name
        for name in (f"grants-released-{partition}-{number}" for number in count())
        if partition_of(name.encode(), partitions_n) == partition
    )
    record = {
        "user_id": user_id,
        "action": "grants_released",
        "partition": partition,
        "tripped_at": rfc3339(trip_ms),
    }
    return Mended(user_id.encode(), msgspec.json.encode(record))
