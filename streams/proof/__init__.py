"""
Proves outputs: what was published, against the final truth recomputed from the input topics.

    inputs = read(settings, INPUTS)
    outputs = read(settings, OUTPUTS)
    truth = expected(inputs, policy, now_ms)
    wrong = differences(truth, *(compacted(outputs[name]) for name in OUTPUTS))
    wrong += log_violations(chain(*outputs.values()))

The truth comes from decoding, merging and judging alone: it knows no cycles, epochs, timers or
fan-outs, so it shares no mistake with the code that has them.  A prefix must be at rest for it:
all inputs processed, all fan-outs done.

records (read, compacted) -> truth (expected) -> differences; log (violations over the whole log)
"""

from streams.proof.differences import dead_letter_differences, differences
from streams.proof.log import log_violations, repetitions
from streams.proof.records import INPUTS, OUTPUTS, Record, compacted, read
from streams.proof.truth import Truth, expected

__all__ = [
    "INPUTS",
    "OUTPUTS",
    "Record",
    "Truth",
    "compacted",
    "dead_letter_differences",
    "differences",
    "expected",
    "log_violations",
    "read",
    "repetitions",
]
