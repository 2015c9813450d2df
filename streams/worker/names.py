"""The topics a worker reads and writes, by their names in the contract."""

from typing import Final

OBJECTIONS: Final = "objections"
ACCOUNT_AGES: Final = "account-ages"
NOTICES: Final = "notices"
CONTENT: Final = "content"

USER_TOPICS: Final = (OBJECTIONS, ACCOUNT_AGES, NOTICES)  # folded before content
INPUTS: Final = (*USER_TOPICS, CONTENT)

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
