"""
Help for the tests of those who write a sink of their own: the suite that every sink passes.

Needs the extra `testing`.  See `streams.testing.sinks`.
"""

import pytest

# Before the suite is imported, so that its failures show what was compared.
pytest.register_assert_rewrite(
    "streams.testing.sinks", "streams.testing.suite", "streams.testing.machine"
)
