"""
The local store of a partition: what was written together stands together, in the order of keys.
"""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rocksdict import DbClosedError

from streams.errors import Halt
from streams.state import rows
from streams.state.store import Memory, Reached, Store, _successor

MIB = 1024 * 1024
CACHE_BYTES = 4 * MIB
CHANGELOG = "objections-users-changelog"
KILLS = 5
KEYS = 20

# Writes batch after batch, each with the same number in all rows and as the offset reached.
WRITER = f"""
import sys
from pathlib import Path
from streams.state.store import Memory, Reached, Store

store = Store(Path(sys.argv[1]), Memory(1024 * 1024))
reached = store.reached({CHANGELOG!r})
number = 0 if reached is None else reached.offset
while True:
    number += 1
    value = b"%d" % number * 200
    batch = [(b"u%d" % key, value) for key in range({KEYS})]
    batch.append((b"i%d" % number, b""))
    batch.append((b"i%d" % (number - 1), None))
    store.write(batch, {{{CHANGELOG!r}: Reached("id", number)}})
    if number % 50 == 0:
        print(number, flush=True)
"""


class Open:
    """Opens stores of one memory by their names."""

    def __init__(self, folder: Path) -> None:
        self.memory = Memory(CACHE_BYTES)
        self.opened: list[Store] = []
        self._folder = folder

    def __call__(self, name: str) -> Store:
        self.opened.append(Store(self._folder / name, self.memory))
        return self.opened[-1]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    """Return what opens a store by its name; all are closed in the end."""
    opening = Open(tmp_path)
    yield opening
    for store in opening.opened:
        with suppress(DbClosedError):
            store.close()


def test_rows_are_found_again_and_deleted(open_store: Open) -> None:
    """A row is there once written, alone or among many, and gone once its value was None."""
    store = open_store("0")

    store.write([(b"ua", b"1"), (b"ub", b"2"), (b"uc", b"3")], {})
    store.write([(b"ub", None)], {})

    assert b"1" == store.get(b"ua")
    assert store.get(b"ub") is None
    assert [b"3", None, b"1"] == store.get_many([b"uc", b"ub", b"ua"])
    assert store.get_many([]) == []


def test_a_scan_yields_a_prefix_in_order(open_store: Open) -> None:
    """A scan yields the rows of its prefix alone, ordered by key, from behind where it is told."""
    store = open_store("0")
    keys = [
        b"i\x00\x01a",
        b"i\x00\x01a\x00",
        b"i\x00\x01a\xff",
        b"i\x00\x01b",
        b"i\x00\x02aa",
        b"j",
    ]
    store.write([(key, key) for key in reversed(keys)], {})

    assert [(key, key) for key in keys[:3]] == list(store.scan(b"i\x00\x01a"))
    assert [keys[2]] == [key for key, _ in store.scan(b"i\x00\x01a", b"\x00")]
    assert keys[:5] == [key for key, _ in store.scan(b"i")]
    assert [] == list(store.scan(b"k"))


def test_a_scan_sees_the_moment_it_began(open_store: Open) -> None:
    """A walk over a user's items is not disturbed by what is written meanwhile."""
    store = open_store("0")
    store.write([(b"i1", b"old"), (b"i2", b"old")], {})

    found = store.scan(b"i")
    first = next(found)
    store.write([(b"i2", b"new"), (b"i3", b"new")], {})

    assert [(b"i1", b"old"), (b"i2", b"old")] == [first, *found]


@given(st.binary(min_size=1, max_size=6), st.binary(max_size=6))
def test_the_bound_of_a_scan_is_above_its_prefix_and_nothing_else(
    prefix: bytes, tail: bytes
) -> None:
    """Every key with the prefix lies below the bound, and no key between them lacks the prefix."""
    if not prefix.rstrip(b"\xff"):
        return  # the keys of rows begin with a letter

    bound = _successor(prefix)

    assert prefix + tail < bound
    assert tail < prefix or tail >= bound or tail.startswith(prefix)


def test_offsets_are_reached_with_the_rows(open_store: Open) -> None:
    """A store knows how far it has come in each changelog, also after it was opened again."""
    store = open_store("0")
    assert store.reached(CHANGELOG) is None

    store.write([(b"ua", b"1")], {CHANGELOG: Reached("id-1", 7), "other": Reached("id-2", 2**62)})
    store.close()
    store = open_store("0")

    assert Reached("id-1", 7) == store.reached(CHANGELOG)
    assert Reached("id-2", 2**62) == store.reached("other")
    assert b"1" == store.get(b"ua")


def test_a_store_remembers_when_it_was_used(open_store: Open) -> None:
    """The last use survives; a store never used says 0."""
    store = open_store("0")
    assert 0 == store.last_used_ms()

    store.mark_used(1_700_000_000_000)
    store.close()

    assert 1_700_000_000_000 == open_store("0").last_used_ms()


def test_a_store_thrown_away_leaves_nothing(open_store: Open, tmp_path: Path) -> None:
    """After `destroy` the folder is gone, and a store opened there is empty."""
    store = open_store("0")
    store.write([(b"ua", b"1")], {CHANGELOG: Reached("id", 7)})

    store.destroy()

    assert not (tmp_path / "0").exists()
    store = open_store("0")
    assert store.reached(CHANGELOG) is None
    assert store.get(b"ua") is None


def test_a_store_is_open_once(open_store: Open, tmp_path: Path) -> None:
    """A folder that is in use, or broken, is refused with its name; a closed one is free."""
    store = open_store("0")
    with pytest.raises(Halt, match=str(tmp_path / "0")):
        open_store("0")

    store.close()
    open_store("0").close()
    (tmp_path / "0" / "CURRENT").write_text("nonsense\n")

    with pytest.raises(Halt, match=str(tmp_path / "0")):
        open_store("0")


def test_all_stores_share_one_memory(open_store: Open) -> None:
    """The block cache is one for all partitions: reading any of them fills it, none beyond it."""
    stores = [open_store(str(number)) for number in range(3)]
    chance = random.Random(1)
    for store in stores:
        store.write([(b"u%06d" % key, chance.randbytes(400)) for key in range(10_000)], {})
        store._db.flush()  # what is not in files yet is read without the cache
    used = [open_store.memory.cache.get_usage()]
    for store in stores[:2]:
        for key in range(0, 10_000, 100):
            store.get(b"u%06d" % key)
        used.append(open_store.memory.cache.get_usage())

    assert used[0] < used[1] < used[2]
    for store in stores:
        assert 10_000 == sum(1 for _ in store.scan(b"u"))
    assert open_store.memory.cache.get_usage() < CACHE_BYTES + MIB  # of 12 MB read


def test_whatever_survives_a_kill_is_a_state_that_once_was(tmp_path: Path) -> None:
    """
    A writer is killed with -9 at random moments: its store opens, all rows are those of one and
    the same batch, with that batch's offset, and it goes on from there without falling back.
    """
    path = tmp_path / "0"
    chance = random.Random(7)
    last = 0
    for _ in range(KILLS):
        said = _write_until_killed(path, chance.randint(1, 30))
        store = Store(path, Memory(MIB))
        reached = store.reached(CHANGELOG)
        assert reached is not None
        values = set(store.get_many([b"u%d" % key for key in range(KEYS)]))
        left = [key for key, _ in store.scan(b"i")]
        store.close()

        assert {b"%d" % reached.offset * 200} == values
        assert [b"i%d" % reached.offset] == left
        assert reached.offset >= max(said, last)
        last = reached.offset


def _write_until_killed(path: Path, lines_n: int) -> int:
    """Return the last number that the killed writer had said it had written."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = 0
        for _ in range(lines_n):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    return said


def test_meta_rows_are_apart_from_the_state(open_store: Open) -> None:
    """What a store notes about itself is in no scan of users, jobs, items or timers."""
    store = open_store("0")
    store.mark_used(5)
    store.write([], {CHANGELOG: Reached("id", 7)})

    for kind in (rows.USER, rows.JOB, rows.ITEM, rows.TIMER, rows.POSITION, rows.DEAD_LETTER):
        assert [] == list(store.scan(kind))


# A file may get no larger than this: as on a disk that is full.
CRAMPED = """
import resource, sys
from pathlib import Path
from streams.errors import Halt
from streams.state.store import BROKEN_MARK, Broken, Memory, Store

store = Store(Path(sys.argv[1]), Memory(1024 * 1024))
resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, resource.RLIM_INFINITY))
try:
    for number in range(1_000):
        store.write([(b"u%d" % number, bytes(4096))], {})
except Halt as error:
    print(type(error).__name__, (store.path / BROKEN_MARK).exists(), error)
"""


def test_no_room_is_said_and_is_no_damage(tmp_path: Path) -> None:
    """Where, what, and what to do; the rows there are stay fit for use."""
    path = tmp_path / "0"
    done = subprocess.run(
        [sys.executable, "-c", CRAMPED, str(path)], capture_output=True, text=True, check=False
    )

    assert done.stdout.startswith(f"Halt False {path}: the local store cannot be read or written")
    assert "make room" in done.stdout
    store = Store(path, Memory(MIB))
    assert store.get(b"u0") == bytes(4096)
    store.close()
