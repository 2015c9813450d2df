"""
The breaker on re-inclusion, pure: what counts, the window, trips and releases.
"""

from hypothesis import given
from hypothesis import strategies as st

from streams.core.breaker import BUCKETS, Breaker, Freed, Limit, Mark, State, reincludes
from streams.core.changes import Cause, UserRow
from streams.core.reasons import Reason
from streams.core.user import NOBODY
from streams.core.verdict import Decision
from tests.folding import Delivery, Shell
from tests.making import NOW_MS, Record

WINDOW_MS = 24_000
LIMIT = Limit(5, 3, WINDOW_MS)
NOTHING_FREED = Freed({}, 1, 0)
HOUR_MS = 3_600_000

steps = st.lists(
    st.tuples(st.integers(0, WINDOW_MS // 3), st.integers(0, 9)), min_size=1, max_size=60
)


def decision(*reasons: Reason, adult_from_ms: int = 0, kinds: int = 7) -> Decision:
    """Return a decision with the same reasons for all products."""
    found = int(sum(reasons))
    return Decision((found, found, found, found), adult_from_ms, kinds)


ALLOWED = decision()


@given(steps)
def test_no_window_sees_more_than_the_limit(gone: list[tuple[int, int]]) -> None:
    """Of different people, whatever their order and however often each comes, until it trips."""
    breaker = Breaker(LIMIT, State(known=10))
    marks: dict[int, Mark] = {}
    admitted: list[tuple[int, int]] = []
    now_ms = NOW_MS
    for passed_ms, person in gone:
        now_ms += passed_ms
        if breaker.tripped:
            break
        mark = breaker.admit(marks.get(person), now_ms)
        if mark is not None:
            marks[person] = mark
            admitted.append((now_ms, person))
        recent = {who for at_ms, who in admitted if at_ms >= now_ms - WINDOW_MS}

        assert len(recent) <= 3
        assert breaker.tripped == (mark is None)
        assert breaker.tripped <= (breaker.state.count == 3)
        assert len(breaker.state.counts) <= BUCKETS + 1


@given(steps)
def test_who_was_counted_is_not_counted_again_within_the_window(
    gone: list[tuple[int, int]],
) -> None:
    """So an account whose objection is filed and withdrawn all day trips nothing."""
    breaker = Breaker(LIMIT, State(known=10))
    mark: Mark | None = None
    now_ms = NOW_MS
    for passed_ms, _ in gone:
        now_ms += passed_ms
        mark = breaker.admit(mark, now_ms)

        assert mark is not None
        assert 1 == breaker.state.count


def test_a_limit_is_a_share_of_those_who_are_known_but_not_of_a_few() -> None:
    """Five of a hundred are 5 %, and nobody's mistake."""
    assert [1_000, 1_000, 50_000] == [
        Limit(5, 1_000, WINDOW_MS).of(known) for known in (0, 20_000, 1_000_000)
    ]
    assert 5 == Limit(0.5, 1, WINDOW_MS).of(1_000)


def tripped_at(now_ms: int, breaker: Breaker) -> int:
    """Let four come at once; return the trip's name."""
    assert [True, True, True, False] == [breaker.admit(None, now_ms) is not None for _ in range(4)]
    return breaker.state.trip_ms


def test_an_old_release_releases_no_later_trip() -> None:
    """Each trip has a name of its own, also where the clock stands still or goes back."""
    breaker = Breaker(LIMIT)
    first = tripped_at(NOW_MS, breaker)
    early = breaker.release(first - 1, NOTHING_FREED)
    released = breaker.release(first, NOTHING_FREED)
    second = tripped_at(NOW_MS - HOUR_MS, breaker)
    again = breaker.release(first, NOTHING_FREED)

    assert (False, True, False) == (early, released, again)
    assert NOW_MS == first < second
    assert breaker.tripped


def test_after_a_release_counting_begins_anew() -> None:
    """Marks from before the trip count for nothing: their users are counted like all others."""
    breaker = Breaker(LIMIT)
    before = breaker.admit(None, NOW_MS)
    for _ in range(3):
        breaker.admit(None, NOW_MS)
    breaker.release(breaker.state.trip_ms, NOTHING_FREED)
    after = breaker.admit(before, NOW_MS)

    assert before != after
    assert 1 == breaker.state.count


def test_a_clock_that_goes_back_lets_nobody_more_in() -> None:
    """What was counted in a later bucket counts on."""
    breaker = Breaker(LIMIT)
    later = [breaker.admit(None, NOW_MS + WINDOW_MS // 2) for _ in range(3)]

    assert later[0] == breaker.admit(later[0], NOW_MS)
    assert breaker.admit(None, NOW_MS) is None


def test_without_a_limit_nothing_is_held() -> None:
    """Also where it had tripped before it was turned off."""
    assert not Breaker(Limit(0, 0, WINDOW_MS), State(tripped=True, trip_ms=1)).tripped


def test_what_was_kept_out_for_a_reason_counts() -> None:
    """An objection, being under age, a country, what was unreadable, a product left out."""
    for reason in Reason:
        stands = decision(reason)
        expected = reason != Reason.NOTICE_PENDING
        counts = reincludes(stands, ALLOWED, ages_missing=False, by_policy=False)

        assert counts is expected, reason.name


def test_a_first_time_does_not_count() -> None:
    """Whose age and country were missing, or whose notice window ends, comes in for the first."""
    told = decision(Reason.AGE_UNKNOWN, Reason.COUNTRY_NOT_COVERED, Reason.NOTICE_PENDING)

    assert not reincludes(told, ALLOWED, ages_missing=True, by_policy=False)
    assert not reincludes(
        decision(Reason.NOTICE_PENDING), ALLOWED, ages_missing=False, by_policy=False
    )
    assert reincludes(told, ALLOWED, ages_missing=False, by_policy=False)
    assert reincludes(told, ALLOWED, ages_missing=True, by_policy=True)


def test_whose_items_become_allowed_counts_as_well() -> None:
    """By an earlier coming of age, or kinds of items that a policy adds; but not who stays out."""
    for wider in (decision(adult_from_ms=-1), decision(kinds=15)):
        assert reincludes(ALLOWED, wider, ages_missing=False, by_policy=False)
    out = decision(Reason.OBJECTION)
    assert not reincludes(
        out, decision(Reason.OBJECTION, kinds=15), ages_missing=False, by_policy=False
    )


def row() -> UserRow:
    """Return a row that never was counted."""
    return UserRow(NOBODY, 1, ALLOWED, 0, 1, 0, Cause("content", 0, 0))


def test_a_row_of_before_the_breaker_was_never_counted() -> None:
    """The field's default means what rows without it meant."""
    assert row().reincluded is None


records = st.sampled_from(
    [
        ("objections", {"objection_id": "o1", "action": "filed"}),
        ("objections", {"objection_id": "o1", "action": "withdrawn"}),
        ("objections", {"objection_id": "o2", "action": "filed", "products": ["facebook"]}),
        ("objections", {"objection_id": "o2", "action": "withdrawn"}),
        ("account-ages", {"observed_at": "2026-01-01T00:00:00Z", "age_band": "under_18"}),
        (
            "account-ages",
            {"observed_at": "2026-01-02T00:00:00Z", "birth_date": "1990-01-01", "country": "DE"},
        ),
        ("notices", {"notice_id": "n1", "delivered_at": "2026-01-01T00:00:00Z"}),
    ]
)


said = st.lists(st.tuples(records, st.integers(0, 3)), max_size=30)


def allowed(users_n: int) -> Shell:
    """Return a partition in which so many users are allowed."""
    shell = Shell()
    for number in range(users_n):
        user_id = f"u{number}"
        age = {"observed_at": "2025-12-01T00:00:00Z", "birth_date": "1990-01-01", "country": "DE"}
        notice = {"notice_id": "n0", "delivered_at": "2025-12-01T00:00:00Z"}
        told = {"account-ages": age, "notices": notice}
        shell.cycle(
            *(Delivery(topic, 0, {"user_id": user_id, **told[topic]}, NOW_MS) for topic in told),
            now_ms=NOW_MS,
        )
    return shell


@given(said)
def test_restrictions_are_never_delayed(said: list[tuple[tuple[str, Record], int]]) -> None:
    """A tripped breaker allows nothing more, and stops at once what an unguarded fold stops."""
    free, guarded = allowed(2), allowed(2)
    guarded.breaker = Breaker(LIMIT, State(known=4, tripped=True, trip_ms=NOW_MS))
    for offset, ((topic, record), number) in enumerate(said):
        delivery = Delivery(topic, offset + 1, {"user_id": f"u{number}", **record}, NOW_MS)
        before = guarded.reader.products()
        free.cycle(delivery, now_ms=NOW_MS)
        guarded.cycle(delivery, now_ms=NOW_MS, breaks=True)

        assert guarded.reader.products() <= before & free.reader.products()


@given(said)
def test_a_fold_lets_no_more_in_than_the_breaker(
    said: list[tuple[tuple[str, Record], int]],
) -> None:
    """Records of many people in any order: those allowed again are at most the limit."""
    shell = allowed(4)
    shell.breaker = Breaker(Limit(5, 2, WINDOW_MS))
    stood: set[str] = set()
    again: set[str] = set()
    for offset, ((topic, record), number) in enumerate(said):
        user_id = f"u{number}"
        delivery = Delivery(topic, offset + 1, {"user_id": user_id, **record}, NOW_MS)
        before = shell.reader.products()
        shell.cycle(delivery, now_ms=NOW_MS, breaks=shell.breaker.tripped)
        after = shell.reader.products()
        stood |= before
        if (after - before) & stood:
            again.add(user_id)

        assert len(again) <= 2
        assert shell.breaker.tripped or len(again) == shell.breaker.state.count
