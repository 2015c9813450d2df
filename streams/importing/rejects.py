"""
Rows that were refused: `FILE.rejected.jsonl`, with where each stood, why, and the row itself.

As long as the import runs it has another name; an interrupted run leaves what it found under the
right one, and the next run writes it anew.  It holds what the input held: only its owner reads it.
"""

import base64
import os
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from streams.errors import BadRecord, UsageProblem

SUFFIX: Final = ".rejected.jsonl"


class Rejects:
    """Writes refused rows to *path*; there is no file where there is no such row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._file: BinaryIO | None = None
        self.rows = 0

    def add(self, line: int, error: BadRecord, raw: bytes) -> None:
        """Write a row; raises UsageProblem where the file cannot be written."""
        row: dict[str, object] = {"line": line, "code": error.code, "detail": error.detail}
        try:
            row["row"] = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            row["row_base64"] = base64.b64encode(raw).decode()
        try:
            if self._file is None:
                handle = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                self._file = os.fdopen(handle, "wb")
            self._file.write(msgspec.json.encode(row) + b"\n")
        except OSError as error_:
            raise self._problem(error_) from error_
        self.rows += 1

    def close(self) -> None:
        """Give the file its name; an older one goes, as it spoke of an older run."""
        try:
            if self._file is None:
                self.path.unlink(missing_ok=True)
                return
            self._file.close()
            self._file = None
            self._partial.replace(self.path)
        except OSError as error:
            raise self._problem(error) from error

    def _problem(self, error: OSError) -> UsageProblem:
        return UsageProblem(
            f"{self.path} cannot be written: {error}. Refused rows go there. Remedy: name another "
            "file with --rejects."
        )
