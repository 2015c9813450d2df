"""
A local store whose files are damaged is thrown away and restored; never read as if it were whole.

That a worker heals itself so is tested in test_restore.py.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from streams.errors import Halt
from streams.state.store import BROKEN_MARK, Broken, Memory, Store

MEMORY = Memory(1024 * 1024)
ROWS = 20_000


def key(number: int) -> bytes:
    """Return the key of a row."""
    return b"i%08d" % number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the folder of a store with many rows, on disk."""
    store = Store(tmp_path / "0", MEMORY)
    store.write([(key(number), b"value-%d" % number * 20) for number in range(ROWS)], {})
    store._db.flush()
    store.close()
    return tmp_path / "0"


def tables(path: Path) -> list[Path]:
    """Return the store's table files."""
    found = list(path.glob("*.sst"))
    assert found
    return found


def flip(path: Path) -> None:
    """Change bytes of each table's rows, as a failing disk does."""
    for table in tables(path):
        data = bytearray(table.read_bytes())
        for at in range(len(data) // 20, len(data) * 3 // 4, 1024):
            data[at] ^= 0xFF
        table.write_bytes(data)


def cut(path: Path) -> None:
    """Let each table end early."""
    for table in tables(path):
        table.write_bytes(table.read_bytes()[: table.stat().st_size // 2])


def lose(path: Path) -> None:
    """Take a table away."""
    tables(path)[0].unlink()


def forget(path: Path) -> None:
    """Spoil the list of tables."""
    next(path.glob("MANIFEST-*")).write_bytes(b"nonsense")


@pytest.mark.parametrize("damage", [cut, lose, forget])
def test_damage_seen_at_once(path: Path, damage: Callable[[Path], None]) -> None:
    """A store that cannot be opened, as its files are damaged, says so."""
    damage(path)

    with pytest.raises(Broken, match="cannot be opened"):
        Store(path, MEMORY)


def test_damage_found_by_a_scan(path: Path) -> None:
    """A scan raises rather than ending early; the store is marked, and not opened again."""
    flip(path)
    store = Store(path, MEMORY)

    with pytest.raises(Broken, match="Start the worker again"):
        list(store.scan(b"i"))

    store.close()
    assert (path / BROKEN_MARK).exists()
    with pytest.raises(Broken, match="was found damaged"):
        Store(path, MEMORY)


@pytest.mark.parametrize("many", [False, True])
def test_damage_found_by_a_look_up(path: Path, *, many: bool) -> None:
    """A row that cannot be read is not one that is missing."""
    flip(path)
    store = Store(path, MEMORY)

    def look_up() -> None:
        for number in range(0, ROWS, 50):
            found = store.get_many([key(number)])[0] if many else store.get(key(number))
            assert found is not None

    with pytest.raises(Broken, match="is damaged"):
        look_up()
    store.close()


def test_a_store_in_use_is_not_damaged(path: Path) -> None:
    """One that somebody else has open is left alone."""
    store = Store(path, MEMORY)

    with pytest.raises(Halt, match="LOCK") as caught:
        Store(path, MEMORY)

    assert not isinstance(caught.value, Broken)
    store.close()
