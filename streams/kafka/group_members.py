"""
The members of a consumer group, as its coordinator tells.

By `AdminClient.list_groups`, which librdkafka answers without the requests to coordinators that
crash version 2.16 when a coordinator has moved.
"""

import warnings

from confluent_kafka.admin import (  # type: ignore[attr-defined] # all of it is there
    AdminClient,
    GroupMember,
)


def members_of(client: AdminClient, group: str, timeout_s: float) -> list[GroupMember]:
    """Return the members of *group*; none where there is no such group.  Raises KafkaException."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what replaces it crashes, see above
        found = client.list_groups(group, timeout=timeout_s)
    return [member for each in found for member in each.members]
