"""
The truth recomputed from inputs follows the contract, and whole topics are read to prove it.
"""

from collections.abc import Iterable

from confluent_kafka import Producer

from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.proof import INPUTS, Record, Truth, dead_letter_differences, expected, read
from streams.settings import Settings
from tests.folding import Delivery
from tests.making import DEFAULTS, NOW_MS, age, content, dismissal, grown_up, notice, objection
from tests.proving import as_input, deliver, make_world, topic_of

TIMEOUT_S = 30.0


def truth_of(*deliveries: Delivery) -> Truth:
    """Return the truth after *deliveries*."""
    inputs: dict[str, list[Record]] = {}
    for each in deliveries:
        inputs.setdefault(each.topic, []).append(as_input(each))
    return expected(inputs, DEFAULTS, NOW_MS)


KNOWN = deliver(grown_up(), notice(), content())


def test_bad_records_restrict() -> None:
    """A bad objection or age restricts the user, a bad notice nobody, bad content its item."""
    assert {"c1"} == truth_of(*KNOWN).items.keys()
    for bad in (objection(action="shout"), age(country="Germany")):
        truth = truth_of(*KNOWN, Delivery(topic_of(bad), 9, bad, NOW_MS))
        assert ("UNREADABLE_INPUT",) == truth.users["u1"].reasons["facebook"]
        assert not truth.items
    assert {"c1"} == truth_of(
        *KNOWN, Delivery("notices", 9, notice(notice_id=""), NOW_MS)
    ).items.keys()
    assert not truth_of(*KNOWN, Delivery("content", 9, content(revision=-1), NOW_MS)).items


def test_dismissals_and_headers_resolve() -> None:
    """A dismissal, or the header of a good record of the same user, ends a restriction."""
    bad = Delivery("objections", 7, objection(action="shout"), NOW_MS)
    bad_item = Delivery("content", 8, content(revision=-1), NOW_MS)
    restricted = truth_of(*KNOWN, bad, bad_item)
    dismissed = truth_of(
        *KNOWN,
        bad,
        bad_item,
        Delivery("objections", 9, dismissal(dead_letter="content/0/8"), NOW_MS),
        Delivery("notices", 9, notice(notice_id="n2"), NOW_MS, "objections/0/7"),
    )

    assert not restricted.items
    assert {"c1"} == dismissed.items.keys()
    assert restricted.bad.keys() == dismissed.bad.keys() == {"objections/0/7", "content/0/8"}


def test_a_later_good_record_ends_an_items_restriction() -> None:
    """A good record of an item counts against bad ones at lower offsets only."""
    bad = Delivery("content", 8, content(revision=-1), NOW_MS)

    assert {"c1"} == truth_of(*KNOWN, bad, Delivery("content", 9, content(), NOW_MS)).items.keys()


def test_private_messages_are_known_only_after_something_else() -> None:
    """What a private message was before, in the order of offsets, decides whether it is known."""
    private = content(kind="private_message", visibility="private", revision=2)
    never = truth_of(*KNOWN[:2], Delivery("content", 5, private, NOW_MS))
    before = truth_of(*KNOWN[:2], Delivery("content", 1, private, NOW_MS), *KNOWN[2:])
    after = truth_of(*KNOWN, Delivery("content", 5, private, NOW_MS))

    assert never.answered == set()
    assert never.unanswered == {"c1"}
    assert before.answered == before.items.keys() == {"c1"}
    assert after.answered == {"c1"}
    assert not after.items


def test_a_deleted_account_has_nothing() -> None:
    """Deletion leaves one reason and no item, also of content that comes later."""
    gone = Delivery("account-ages", 9, age(account="deleted"), NOW_MS)
    truth = truth_of(*KNOWN, gone, Delivery("content", 9, content(content_id="c2"), NOW_MS))

    assert ("ACCOUNT_DELETED",) == truth.users["u1"].reasons["instagram"]
    assert not truth.products
    assert not truth.items
    assert {"c1", "c2"} == truth.answered


def letter(place: str, record: Record, code: str) -> Record:
    """Return the dead letter of *record*."""
    topic, partition, offset = place.split("/")
    headers = {
        "dlq_topic": topic,
        "dlq_partition": partition,
        "dlq_offset": offset,
        "dlq_timestamp": str(NOW_MS),
        "dlq_error": code,
    }
    encoded = tuple((name, text.encode()) for name, text in headers.items())
    return Record("dead-letters", 0, 0, 0, record.key, record.value, encoded)


def test_dead_letters_are_compared() -> None:
    """Each bad input has one dead letter with its bytes and code, and nothing else has one."""
    truth = make_world().truth
    letters = [letter(place, each.record, each.code) for place, each in truth.bad.items()]
    first = letters[0]
    twice = [*letters, first]
    changed = [first._replace(value=b"x"), *letters[1:]]
    foreign = [*letters, letter("notices/0/99", first, "key_missing")]

    assert 2 == len(letters)
    assert [] == dead_letter_differences(truth, letters)
    assert "there are 0, expected one" in dead_letter_differences(truth, letters[1:])[0]
    assert "there are 2, expected one" in dead_letter_differences(truth, twice)[0]
    assert "value is b'x', expected" in dead_letter_differences(truth, changed)[0]
    assert ["dead letter of notices/0/99: of no bad record"] == dead_letter_differences(
        truth, foreign
    )


def test_whole_topics_are_read_as_committed(kafka: LocalKafka, prefix: str) -> None:
    """
    All committed records of all partitions are read; aborted ones and control records are not.
    """
    settings = Settings(bootstrap=kafka.bootstrap, topic_prefix=prefix)
    admin.apply(admin.connect(settings), settings, partitions=3)
    producer = Producer(settings.kafka(transactional_id=f"{prefix}writer"))
    producer.init_transactions(TIMEOUT_S)
    for number in range(4):
        producer.begin_transaction()
        for at in range(50):
            name = f"{number}-{at}"
            topic = settings.topic("content" if at % 2 else "notices")
            producer.produce(topic, name.encode(), name.encode(), at % 2, headers=[("a", b"b")])
        if number == 2:
            producer.abort_transaction(TIMEOUT_S)
        else:
            producer.commit_transaction(TIMEOUT_S)

    found = read(settings, INPUTS)

    keys = {name: [each.key_text for each in records] for name, records in found.items()}
    assert keys["content"] == [f"{number}-{at}" for number in (0, 1, 3) for at in range(1, 50, 2)]
    assert keys["notices"] == [f"{number}-{at}" for number in (0, 1, 3) for at in range(0, 50, 2)]
    assert keys["objections"] == keys["account-ages"] == []
    assert {(("a", b"b"),)} == {each.headers for each in found["content"]}
    assert offsets_rise(found["content"])
    assert f"{prefix}content/1/0" == found["content"][0].place


def offsets_rise(records: Iterable[Record]) -> bool:
    """Whether the offsets of one partition's records rise."""
    offsets = [each.offset for each in records]
    return offsets == sorted(set(offsets))
