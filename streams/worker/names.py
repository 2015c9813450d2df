"""The topics a worker reads and writes, by their names in the contract."""

from collections.abc import Container
from typing import Final, NamedTuple

OBJECTIONS: Final = "objections"
ACCOUNT_AGES: Final = "account-ages"
NOTICES: Final = "notices"
CONTENT: Final = "content"

USER_TOPICS: Final = (OBJECTIONS, ACCOUNT_AGES, NOTICES)  # folded before content
INPUTS: Final = (*USER_TOPICS, CONTENT)

# Followed where both exist.  Between partitions, owners tell each other by the second.
ACCOUNT_LINKS: Final = "account-links"
TELLS: Final = "objections-links"
LINK_TOPICS: Final = (ACCOUNT_LINKS, TELLS)

DEAD_LETTERS: Final = "dead-letters"
ELIGIBILITY: Final = "eligibility"
DECISIONS: Final = (ELIGIBILITY, "training-users", "training-content")
RECEIPTS: Final = "receipts"
AUDIT_TRAIL: Final = "audit-trail"
PURGE_ACKS: Final = "purge-acks"
OUTPUTS: Final = (*DECISIONS, DEAD_LETTERS, RECEIPTS, AUDIT_TRAIL)
USERS_CHANGELOG: Final = "objections-users-changelog"
CONTENT_CHANGELOG: Final = "objections-content-changelog"
CHANGELOGS: Final = (USERS_CHANGELOG, CONTENT_CHANGELOG)


class Followed(NamedTuple):
    """
    The topics that a worker reads like inputs, in the order in which they are folded.

    users: all that tell about users.
    """

    users: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """All topics, content last."""
        return (*self.users, CONTENT)

    @property
    def links(self) -> bool:
        """Whether links of accounts are followed."""
        return TELLS in self.users


WITHOUT_LINKS: Final = Followed(USER_TOPICS)
WITH_LINKS: Final = Followed((*USER_TOPICS, *LINK_TOPICS))


def followed(present: Container[str]) -> Followed:
    """Return what a worker reads like inputs where the topics *present* are."""
    return WITH_LINKS if all(name in present for name in LINK_TOPICS) else WITHOUT_LINKS
