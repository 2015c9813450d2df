"""
W3C Trace Context as records carry it: `traceparent`, read and written.

Pure.  Source: https://www.w3.org/TR/trace-context/, "traceparent Header".
"""

import re
from typing import Final, NamedTuple

SAMPLED: Final = 0x01  # of the flags: the caller records this trace

# Version 00; later ones may add fields behind, but no version is ff.
_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceContext(NamedTuple):
    """A span of some trace, as numbers; *sampled*: whoever made it records the trace."""

    trace_id: int
    span_id: int
    sampled: bool

    @property
    def traceparent(self) -> bytes:
        """The header that makes this span the parent of what it is sent to."""
        return b"00-%032x-%016x-%02x" % (self.trace_id, self.span_id, SAMPLED * self.sampled)


def trace_context(traceparent: bytes | None) -> TraceContext | None:
    """Return what *traceparent* says; None where it is none, or no valid one."""
    form = None if traceparent is None else _FORM.fullmatch(traceparent)
    if form is None:
        return None
    version, trace_id, span_id, flags, more = form.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    found = TraceContext(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & SAMPLED))
    return found if found.trace_id and found.span_id else None
