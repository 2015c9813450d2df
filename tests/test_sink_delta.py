"""The Delta sink passes the suite of all sinks."""

from pathlib import Path

import pytest

from streams.testing.audits import AuditTests
from streams.testing.sinks import SinkTests
from tests.lake_stores import DeltaStore


class TestDelta(SinkTests, AuditTests):
    examples = 4
    steps = 8

    @pytest.fixture
    def store(self, tmp_path: Path) -> DeltaStore:
        return DeltaStore(tmp_path / "store")
