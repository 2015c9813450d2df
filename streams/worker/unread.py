"""
Since when what is not read of an input can have been there.  Pure: whoever looks tells the time.

Records that are not fetched have no time stamp here.  But where an input ended is known for a row
of moments: once all that was there at one of them is read, what is not read came after it.
"""

from collections import deque
from typing import Final

LOOKS_MAX: Final = 256  # remembered while nothing is read


class Unread:
    """
    One input of one partition.

    since_s: no record that is not read came before; None while that is not known.
    """

    def __init__(self) -> None:
        self.since_s: float | None = None
        self._looks: deque[tuple[float, int]] = deque()  # when, and the end; both rise

    def look(self, at_s: float, end: int, position: int) -> None:
        """Know that at *at_s* the input ended at *end*, and all below *position* was read."""
        if self._looks and end <= self._looks[-1][1]:
            self._looks[-1] = at_s, self._looks[-1][1]
        else:
            self._looks.append((at_s, end))
        while self._looks and self._looks[0][1] <= position:
            self.since_s = self._looks.popleft()[0]
        if len(self._looks) > LOOKS_MAX:  # told too early rather than too late
            self._looks = deque(list(self._looks)[1::2])
