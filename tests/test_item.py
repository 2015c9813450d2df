from hypothesis import assume, given
from hypothesis import strategies as st

from streams.core.item import UNKNOWN_ITEM, Item, merge, without_dead_letter
from streams.core.user import merge as merge_users
from streams.core.verdict import decide, is_unreadable, item_reasons
from tests.making import ALLOWED, DEFAULTS, NOW_MS, PREFIX, content, item_facts, to_bytes
from tests.strategies import ThreeItems, all_items, facts_of_one_item, item_from, three_items

# What is tested here keeps product and kind, as contract.md has it: "A content_id keeps its
# user, product and kind for ever; its producer sees to that".  A private message that is not
# known otherwise is never merged into a state: see test_fold.py.


@given(three_items())
def test_merge_is_a_join(states: ThreeItems) -> None:
    """Merging is idempotent, commutative and associative, and the unknown item adds nothing."""
    first, second, third = states

    assert first == merge(first, first)
    assert merge(first, second) == merge(second, first)
    assert merge(merge(first, second), third) == merge(first, merge(second, third))
    assert first == merge(first, UNKNOWN_ITEM)


@given(facts_of_one_item(), st.data())
def test_any_order_and_repetition_ends_in_the_same_state_and_decision(
    known: list[Item], data: st.DataObject
) -> None:
    """Replays, duplicates and late revisions end in the same item, judged the same."""
    again = st.lists(st.sampled_from(known), max_size=3) if known else st.just([])
    shuffled = data.draw(st.permutations(known + data.draw(again)))

    expected, found = item_from(known), item_from(shuffled)

    assert expected == found
    decision = decide(ALLOWED, DEFAULTS, NOW_MS).decision
    judged = item_reasons(expected, ALLOWED, decision, PREFIX)
    assert judged == item_reasons(found, ALLOWED, decision, PREFIX)


@given(all_items)
def test_deletion_stays(item: Item) -> None:
    """Once deleted, an item is deleted whatever revision is merged into it."""
    deleted = item_facts(content(revision=0, visibility="deleted")).facts

    assert merge(item, deleted).deleted
    assert merge(deleted, item).deleted


@given(all_items, all_items)
def test_an_item_is_never_created_later(first: Item, second: Item) -> None:
    """`created_at` is the earliest over all revisions."""
    assert min(first.created_ms, second.created_ms) == merge(first, second).created_ms


@given(facts_of_one_item())
def test_no_dead_letter_stands_before_a_good_record(known: list[Item]) -> None:
    """An item is unreadable only by records behind its last good one."""
    item = item_from(known)

    assert all(offset > item.readable_offset for offset in item.dead_letters)


@given(all_items)
def test_a_resolved_dead_letter_leaves_the_item(item: Item) -> None:
    """Taking a resolved dead letter out leaves all else, and judges as its resolution does."""
    assume(item.dead_letters)
    offset = item.dead_letters[0]
    resolved = merge_users(ALLOWED, type(ALLOWED)(resolved=(f"{PREFIX}{offset}",)))

    mended = without_dead_letter(item, offset)

    assert offset not in mended.dead_letters
    assert item == merge(mended, Item(dead_letters=(offset,)))
    assert is_unreadable(item, resolved, PREFIX) == is_unreadable(mended, resolved, PREFIX)


def test_the_bytes_that_hold_are_kept() -> None:
    """The state keeps the holding record's bytes: modality and language are read from them."""
    older, newer = content(revision=1), content(revision=2, language="gsw-CH")

    item = merge(item_facts(newer, 0).facts, item_facts(older, 1).facts)

    assert to_bytes(newer) == item.value
