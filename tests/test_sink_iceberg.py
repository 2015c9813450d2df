"""The Iceberg sink passes the suite of all sinks."""

from pathlib import Path

import pytest

from streams.testing.audits import AuditTests
from streams.testing.sinks import SinkTests
from tests.lake_stores import IcebergStore


class TestIceberg(SinkTests, AuditTests):
    examples = 4
    steps = 8

    @pytest.fixture
    def store(self, tmp_path: Path) -> IcebergStore:
        return IcebergStore(tmp_path / "store")
