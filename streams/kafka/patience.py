"""
When a client of librdkafka is to make way for a new one: it has had no answer for long.

Seen in librdkafka 2.16: a lone broker that had stood still counted itself lost for a moment and
told of no brokers at all; a client that heard so could ask nobody any more, though the broker was
there.  A producer was seen to send nothing any more after the broker had stood still several times.
"""

import time


class Patience:
    """With one client at a time, for *seconds* from the first failure that no answer follows."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since_s: float | None = None  # of the first failure, or since there is a new client

    def answered(self) -> None:
        """Note that the client had an answer."""
        self._since_s = None

    def is_over(self) -> bool:
        """Note a failure; return whether it is time for a new client, with which it begins anew."""
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s > self._seconds:
            self._since_s = now_s
            return True
        return False
