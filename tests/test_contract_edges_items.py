"""
Edges of contract.md on what is known of items, each named by its sentence.

Bad records of items and their answers are in test_contract_edges_answers.py.
"""

import pytest

from streams.core.policy import Policy
from streams.core.user import User
from streams.core.user import merge as merge_users
from tests.making import (
    ALLOWED,
    Record,
    content,
    grown_up,
    item_facts,
    item_of,
    ms,
    notice,
    objection,
    reasons_of_item,
    user_of,
)


def found(*records: Record) -> set[str]:
    """Return the reasons against one item of an allowed user, in any order of its records."""
    forwards, backwards = (
        reasons_of_item(item_of(*each), ALLOWED) for each in (records, records[::-1])
    )
    assert forwards == backwards
    return forwards


class TestRevisions:
    def test_the_highest_revision_holds(self) -> None:
        """“The highest revision holds”"""
        older, newer = content(revision=1), content(revision=2, visibility="friends")

        assert {"NOT_PUBLIC"} == found(older, newer)
        assert set() == found({**newer, "revision": 0}, older)

    @pytest.mark.parametrize("less", ["friends", "private", "deleted", "unlisted"])
    def test_at_a_tie_the_less_visible(self, less: str) -> None:
        """“at a tie the less visible”"""
        assert "NOT_PUBLIC" in found(content(), content(visibility=less))

    def test_then_the_greater_value_bytes(self) -> None:
        """“..., then the greater value bytes”"""
        lesser, greater = content(language="de"), content(language="fr")

        for records in ((lesser, greater), (greater, lesser)):
            assert b'"fr"' in item_of(*records).value

    def test_a_less_visible_tie_wins_over_greater_bytes(self) -> None:
        """Visibility comes before bytes."""
        visible, hidden = content(language="zz"), content(language="aa", visibility="friends")

        assert b'"aa"' in item_of(hidden, visible).value

    @pytest.mark.parametrize("revision", [0, 1, 2])
    def test_deleted_at_any_revision_is_final(self, revision: int) -> None:
        """“`deleted` at any revision is final.”"""
        assert "DELETED" in found(content(), content(revision=revision, visibility="deleted"))

    def test_created_at_is_the_earliest(self) -> None:
        """“`created_at` is the earliest over all revisions.”"""
        early = content(revision=0, created_at="2010-01-01T00:00:00Z")
        late = content(revision=9)

        for item in (item_of(late, early), item_of(early, late)):
            assert ms("2010-01-01T00:00:00Z") == item.created_ms
            assert 9 == item.revision

    def test_created_at_is_not_later_than_its_record(self) -> None:
        """“A time later than the record's broker time stamp counts as that time stamp.”"""
        stamped_ms = ms("2026-05-01T00:00:00Z")
        record = content(created_at="2027-01-01T00:00:00Z")

        assert stamped_ms == item_facts(record, 0, stamped_ms).facts.created_ms


class TestVisibilityAndKind:
    @pytest.mark.parametrize("visibility", ["friends", "private", "unlisted", ""])
    def test_not_public(self, visibility: str) -> None:
        """“visibility not `public`”; “an unknown `visibility` counts as `private`”"""
        assert {"NOT_PUBLIC"} == found(content(visibility=visibility))

    @pytest.mark.parametrize("visibility", ["public", "friends", "private", "unlisted"])
    def test_ai_interaction(self, visibility: str) -> None:
        """“for an `ai_interaction` only `deleted` matters”"""
        assert set() == found(content(kind="ai_interaction", visibility=visibility))

    def test_deleted_ai_interaction(self) -> None:
        """“... only `deleted` matters”"""
        assert "DELETED" in found(content(kind="ai_interaction", visibility="deleted"))

    @pytest.mark.parametrize("kind", ["private_message", "story", ""])
    def test_private_message_of_a_known_item(self, kind: str) -> None:
        """“a known item that is said to be a private message is purged for good”"""
        said = content(kind=kind, revision=0)

        assert "PRIVATE_MESSAGE" in found(content(), said)
        assert "PRIVATE_MESSAGE" in found(content(), said, content(revision=9))

    def test_kinds_left_out(self) -> None:
        """“the policy leaves its kind out”; a private message is not for a policy to allow."""
        comments = Policy(kinds=frozenset({"comment"}))
        everything = Policy(kinds=frozenset({"post", "private_message"}))

        assert {"KIND_NOT_COVERED"} == reasons_of_item(item_of(content()), ALLOWED, comments)
        private = item_of(content(kind="private_message"))
        assert "PRIVATE_MESSAGE" in reasons_of_item(private, ALLOWED, everything)

    def test_minor_at_creation(self) -> None:
        """“created before its user came of age, however old the user is now”"""
        user = user_of(grown_up(birth_date="1990-05-01"), notice())
        before = item_of(content(created_at="2008-05-02T11:59:59.999Z"))
        after = item_of(content(created_at="2008-05-02T12:00:00Z"))

        assert {"MINOR_AT_CREATION"} == reasons_of_item(before, user)
        assert set() == reasons_of_item(after, user)

    def test_reasons_add_up(self) -> None:
        """“Reasons add up; taking one away leaves the others.”"""
        hidden = content(visibility="friends", revision=5)
        objected = merge_users(ALLOWED, user_of(objection()))

        assert {"DELETED", "NOT_PUBLIC"} == found(hidden, content(visibility="deleted"))
        assert {"OBJECTION", "NOT_PUBLIC"} == reasons_of_item(item_of(hidden), objected)
        other = merge_users(ALLOWED, User(dead_letters=("objections/0/1",)))
        assert {"UNREADABLE_INPUT"} == reasons_of_item(item_of(content()), other)
