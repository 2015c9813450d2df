"""
Ids as 128 bits: many at once, under a secret key, with a bound that holds for any two ids.

A text is cut into 32-bit words w1..wn, its length in bytes before them.  Each of four parts is the
upper half of k0 + k1*length + k2*w1 + ... modulo 2^64, its k drawn at random.  That is strongly
universal (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): two different texts
meet in one part with a probability of 2^-32, in all four with 2^-128, whoever chose them, as long
as they were chosen without knowledge of the key.

So with 10^8 items in the topic and 10^9 others in a manifest, the probability that any of these is
taken for one of those is at most 10^17 / 2^128, which is 3 * 10^-22.  Pure.
"""

import secrets
from collections.abc import Sequence
from itertools import repeat
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]

# A product's name, "/" and an id of 256 bytes at most; longer texts name nothing there is.
TEXT_BYTES_MAX: Final = 288
_WORD_BYTES: Final = 4
_PARTS: Final = 4
_KEYS: Final = 2 + TEXT_BYTES_MAX // _WORD_BYTES  # of the sum, of the length, of each word
KEY_BYTES: Final = _KEYS * _PARTS * 8
_HALF: Final = np.uint64(32)
assert TEXT_BYTES_MAX % _WORD_BYTES == 0


class Hashes(NamedTuple):
    """
    Two arrays of equal length: the halves of each hash.

    (0, 0) is nobody's: no id, or one that is too long.  A table never finds it.
    """

    high: Words
    low: Words

    @classmethod
    def nothing(cls, count: int) -> Self:
        """Return *count* hashes that are found nowhere."""
        return cls(np.zeros(count, np.uint64), np.zeros(count, np.uint64))

    def at(self, chosen: NDArray[np.bool_] | Offsets) -> "Hashes":
        """Return those that a mask or positions choose."""
        return Hashes(self.high[chosen], self.low[chosen])

    def is_something(self) -> NDArray[np.bool_]:
        """Return which are hashes of a text."""
        found: NDArray[np.bool_] = (self.high | self.low) != 0
        return found


class Hasher:
    """
    A hash function drawn at random.

    key: KEY_BYTES secret bytes; the same key gives the same function.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.key = secrets.token_bytes(KEY_BYTES) if key is None else key
        assert len(self.key) == KEY_BYTES
        keys = np.frombuffer(self.key, "<u8").astype(np.uint64)
        self._keys: Words = keys.reshape(_KEYS, _PARTS)

    def of(self, texts: Sequence[bytes | None]) -> Hashes:
        """Return the hash of each text; None names nothing."""
        found = [b"" if text is None else text for text in texts]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        offsets = np.zeros(len(found) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return self.of_flat(np.frombuffer(b"".join(found), np.uint8), offsets)

    def of_texts(self, texts: Sequence[str]) -> Hashes:
        """Return the hash of each text's UTF-8; an empty one names nothing."""
        # Halves of surrogate pairs stand for bytes that are no UTF-8: such an id is never found.
        return self.of(list(map(str.encode, texts, repeat("utf-8"), repeat("surrogatepass"))))

    def of_flat(self, flat: Bytes, offsets: Offsets) -> Hashes:
        """Return the hash of flat[offsets[i]:offsets[i + 1]] for each i; empty names nothing."""
        lengths = np.diff(offsets)
        found = Hashes.nothing(len(lengths))
        for length in np.unique(lengths):
            if 0 < length <= TEXT_BYTES_MAX:
                rows = np.flatnonzero(lengths == length)
                parts = self._parts(flat, offsets[rows], int(length))
                found.high[rows] = (parts[:, 0] << _HALF) | parts[:, 1]
                found.low[rows] = (parts[:, 2] << _HALF) | parts[:, 3]
        return found

    def _parts(self, flat: Bytes, begins: Offsets, length: int) -> Words:
        """Return the four parts, each below 2^32, of texts that are all *length* bytes long."""
        word_count = -(-length // _WORD_BYTES)
        padded = np.zeros((len(begins), word_count * _WORD_BYTES), np.uint8)
        padded[:, :length] = flat[begins[:, None] + np.arange(length)]
        words = padded.view("<u4").astype(np.uint64)
        sums: Words = words @ self._keys[2 : 2 + word_count]
        sums += self._keys[0] + self._keys[1] * np.uint64(length)
        sums >>= _HALF
        return sums
