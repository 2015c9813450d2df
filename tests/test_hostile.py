"""
Good records in numbers or places that nobody expects: they count, and nothing grows without bound.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.core.item import DEAD_LETTERS_MAX as OF_ITEM_MAX
from streams.core.reasons import PRODUCTS
from streams.core.user import DEAD_LETTERS_MAX
from streams.state import rows
from streams.worker.names import ACCOUNT_AGES, CONTENT, NOTICES, OBJECTIONS
from tests.making import content, grown_up, notice, objection
from tests.test_open_letters import Desk, Sent

CYCLE_RECORDS = 500


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return a desk over a new store, whose partition may grant."""
    made = Desk(tmp_path / "0")
    made.partition.release_at({})
    yield made
    made.store.close()


def commit_all(desk: Desk, sent: list[Sent]) -> int:
    """Commit so many a cycle; return the most bytes that a cycle has written of one row."""
    most = 0
    for begin in range(0, len(sent), CYCLE_RECORDS):
        folded = desk.fold(*sent[begin : begin + CYCLE_RECORDS])
        written = [*folded.users_rows, *folded.content_rows, *folded.local_rows]
        desk.store.write(written, {})
        desk.partition.persisted(folded)
        most = max(most, *(len(value or b"") for _, value in written))
    return most


def grant(desk: Desk, *users: str) -> None:
    """Let *users* be eligible."""
    desk.commit(
        *(Sent(ACCOUNT_AGES, grown_up(user_id=user)) for user in users),
        *(Sent(NOTICES, notice(user_id=user)) for user in users),
    )


def reasons(desk: Desk, user: str) -> list[str]:
    """Return the products that a reason stands against."""
    row = desk.partition.view.user(user)
    assert row is not None
    return [name for name, found in zip(PRODUCTS, row.decision.reasons, strict=True) if found]


def stored(desk: Desk) -> int:
    """Return how many rows the state has."""
    kinds = (*rows.VERSIONS, rows.TIMER, rows.LETTERS)
    return sum(1 for kind in kinds for _ in desk.store.scan(kind))


def test_ten_thousand_objections_of_one_user(desk: Desk) -> None:
    """Each counts, and is withdrawn by its own id; the row stays far below what a record takes."""
    grant(desk, "u1")
    filed = [
        Sent(OBJECTIONS, objection(objection_id=f"{number:036}", products=[product]))
        for number, product in enumerate(["instagram", *["facebook"] * 9_998, "instagram"])
    ]
    most = commit_all(desk, filed)
    objected = reasons(desk, "u1")
    withdrawn = [Sent(each.topic, {**each.record, "action": "withdrawn"}) for each in filed]
    commit_all(desk, withdrawn[:1])
    one_left = reasons(desk, "u1")
    commit_all(desk, withdrawn[-1:])

    assert most < 1024 * 1024
    assert ["facebook", "instagram"] == objected == one_left
    assert ["facebook"] == reasons(desk, "u1")


@pytest.mark.parametrize(
    "bad,kept",
    [
        (Sent(OBJECTIONS, objection(action="?")), DEAD_LETTERS_MAX),
        (Sent(ACCOUNT_AGES, {"user_id": "u1"}), DEAD_LETTERS_MAX),
        (Sent(CONTENT, content(product="?")), OF_ITEM_MAX),
    ],
)
def test_a_flood_of_one_key_grows_nothing(
    desk: Desk, bad: Sent, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Of many more bad records than are kept the state holds no more, its row is as small, and the
    log has said so once, naming nobody.
    """
    commit_all(desk, [bad] * (kept + 1))
    before = stored(desk)
    row = commit_all(desk, [bad] * (2 * kept))

    assert before == stored(desk)
    assert row < 64 * kept
    assert desk.open() == {bad.topic: kept}
    (said,) = [each.getMessage() for each in caplog.records if "as are kept" in each.getMessage()]
    assert said.startswith("partition 0: 1 more with as many dead letters")
    assert "Remedy: mend" in said
    assert "u1" not in said


def test_one_content_id_under_two_users(desk: Desk) -> None:
    """Its producer should see to it; each user's item is judged by itself, and none is lost."""
    grant(desk, "u1", "u2")
    both = [Sent(CONTENT, content(user_id=user)) for user in ("u1", "u2")]
    allowed = desk.fold(*both)
    desk.partition.persisted(allowed)
    desk.store.write([*allowed.users_rows, *allowed.content_rows, *allowed.local_rows], {})
    objected = desk.fold(Sent(OBJECTIONS, objection(user_id="u1")))
    answers = [
        (dict(each.headers)["ce_subject"], each.value is not None)
        for folded in (allowed, objected)
        for each in folded.outputs
        if each.topic == "training-content"
    ]

    assert sorted(answers) == [("u1", False), ("u1", True), ("u2", True)]
    for user in ("u1", "u2"):
        assert desk.store.get(rows.item_key(user, "c1")) is not None
