"""
Pseudonyms of users: HMAC-SHA-256 with a key, in place of ids wherever a worker writes.
"""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.outputs import Output
from streams.core.subjects import HEADER, PLAIN, Subjects
from streams.errors import SettingsError, UsageProblem
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Memory, Store
from streams.worker.names import CONTENT
from streams.worker.naming import check_naming
from tests.test_partition import Desk, age, item, notice, objection

KEY = "5d1c2f6e-of-pseudonyms-0123456789"
OTHER_KEY = KEY[::-1]
KEYED = Subjects(KEY)
USERS = ("u1", "u2")
CONTENT_OUT = "training-content"
KINDS = (rows.USER, rows.JOB, rows.DEAD_LETTER, rows.ITEM, rows.RECEIPT, rows.TIMER, rows.LETTERS)
ids = st.text(min_size=1).filter(lambda text: text.isprintable())


@given(ids, st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_a_pseudonym_is_the_hmac_of_the_id(user_id: str, key: str) -> None:
    """
    Whoever has the key computes it with any HMAC-SHA-256; it is 64 digits long.
    """
    wanted = hmac.new(key.encode(), user_id.encode(), hashlib.sha256).hexdigest()
    subjects = Subjects(key)

    assert wanted == subjects.of(user_id) == subjects.of(user_id)
    assert 64 == len(wanted)


def test_long_keys_are_hashed_as_the_rfc_says() -> None:
    """
    A key of more than a block of SHA-256 works as with any other HMAC (RFC 4231, case 6).
    """
    key, text = "k" * 131, "Test Using Larger Than Block-Size Key - Hash Key First"

    assert hmac.new(key.encode(), text.encode(), "sha256").hexdigest() == Subjects(key).of(text)


def test_without_a_key_ids_stay() -> None:
    """
    Without a key users keep their ids, and outputs carry no header of it.
    """
    assert "u1" == PLAIN.of("u1")
    assert [] == PLAIN.headers
    assert not PLAIN.keyed


def test_a_fingerprint_tells_keys_apart() -> None:
    """
    Keys have different fingerprints, which are no part of any pseudonym or key.
    """
    assert KEYED.fingerprint != Subjects(OTHER_KEY).fingerprint
    assert 16 == len(KEYED.fingerprint)
    assert KEYED.fingerprint not in KEY + "".join(map(KEYED.of, USERS))


@pytest.mark.parametrize(
    "ours,theirs,said",
    [
        (KEYED, "", "names users by ids as they are"),
        (PLAIN, KEYED.fingerprint, "OBJECTIONS_SUBJECT_KEY is not set"),
        (Subjects(OTHER_KEY), KEYED.fingerprint, "set the key it was begun with"),
    ],
)
def test_another_key_is_refused(ours: Subjects, theirs: str, said: str) -> None:
    """
    Users named by another key, or none, are refused with what is expected, and without the key.
    """
    with pytest.raises(UsageProblem, match=said) as refused:
        ours.check(theirs, "eu.eligibility/3")

    assert "eu.eligibility/3" in str(refused.value)
    assert KEY not in str(refused.value)
    assert OTHER_KEY not in str(refused.value)


@pytest.mark.parametrize("key", ["short", "x" * 31])
def test_a_key_that_can_be_guessed_is_refused(key: str) -> None:
    """
    A short key is refused, and not shown.
    """
    with pytest.raises(SettingsError, match="OBJECTIONS_SUBJECT_KEY is hidden, expected") as error:
        Settings.read({"OBJECTIONS_SUBJECT_KEY": key})

    assert key not in str(error.value)


def test_the_key_is_not_in_what_settings_show() -> None:
    """
    Settings are shown without the key.
    """
    settings = Settings.read({"OBJECTIONS_SUBJECT_KEY": KEY})

    assert KEY not in repr(settings) + repr(settings.subjects())
    assert KEYED.fingerprint == settings.subjects().fingerprint


def played(folder: Path, subjects: Subjects) -> tuple[list[Output], set[bytes]]:
    """Return outputs of and keys in a state where users come, are allowed, object and leave."""
    store = Store(folder, Memory(1024 * 1024))
    desk = Desk(store, subjects=subjects)
    desk.release()
    outputs: list[Output] = []
    for user_id in USERS:
        outputs += desk.commit(
            desk.intake("account-ages", age(user_id)), desk.intake("notices", notice(user_id))
        )
        outputs += desk.commit(*[desk.intake(CONTENT, item(n, user_id)) for n in range(3)])
    outputs += desk.commit(desk.intake("objections", objection("u1")))
    outputs += desk.commit(desk.intake("objections", {"user_id": "u2", "action": "nonsense"}))
    gone = {"user_id": "u2", "account": "deleted", "observed_at": "2026-03-01T00:00:00Z"}
    outputs += desk.commit(desk.intake("account-ages", gone))
    keys = {key for kind in KINDS for key, _ in store.scan(kind)}
    store.close()
    return outputs, keys


def renamed(text: bytes | str | None) -> bytes:
    """Return *text* with pseudonyms in place of ids."""
    data = text.encode() if isinstance(text, str) else text or b"null"
    for user_id in USERS:
        data = data.replace(user_id.encode(), KEYED.of(user_id).encode())
    return data


def test_outputs_are_the_same_but_for_names(tmp_path: Path) -> None:
    """
    With a key every key, value and header is what it would be without, under the pseudonym.

    But dead letters: they are the input's bytes.
    """
    plain, _ = played(tmp_path / "plain", PLAIN)
    keyed, keys = played(tmp_path / "keyed", KEYED)

    assert {"eligibility", "training-users", CONTENT_OUT, "receipts", "dead-letters"} == {
        each.topic for each in keyed
    }
    for mine, theirs in zip(keyed, plain, strict=True):
        if mine.topic == "dead-letters":
            assert mine == theirs
            continue
        more = [(HEADER, KEYED.fingerprint)]
        assert renamed(theirs.key) == mine.key
        assert times_off(renamed(theirs.value)) == times_off(mine.value or b"null")
        assert sorted((name, renamed(held)) for name, held in [*theirs.headers, *more]) == sorted(
            (name, renamed(held)) for name, held in mine.headers
        )
    assert not [key for key in keys for user_id in USERS if user_id.encode() in key]


def times_off(value: bytes) -> object:
    """Return a value without the times that the real clock gave it."""
    found = json.loads(value)
    if isinstance(found, dict):
        return {name: held for name, held in found.items() if not name.endswith("_at")}
    return found


def test_the_state_knows_its_key(tmp_path: Path) -> None:
    """
    A state with users refuses every key but the one it was begun with; an empty one none.
    """
    for begun in (PLAIN, KEYED):
        folder = tmp_path / f"begun-{begun.keyed}"
        played(folder, begun)
        store = Store(folder, Memory(1024 * 1024))
        check_naming(Settings(), begun, 0, store)
        for other in {PLAIN, KEYED, Subjects(OTHER_KEY)} - {begun}:
            with pytest.raises(UsageProblem, match="objections-users-changelog/0 names users by"):
                check_naming(Settings(), other, 0, store)
        store.close()
    empty = Store(tmp_path / "empty", Memory(1024 * 1024))
    check_naming(Settings(), KEYED, 0, empty)
    empty.write([(rows.position_key("objections"), rows.encode_number(7))], {})
    check_naming(Settings(), KEYED, 0, empty)
    empty.close()
