"""How far an import is: a bar that passes where there is a terminal, else a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from streams.importing.run import Progress

SHOW_AGAIN_S: Final = 0.2
TELL_AGAIN_S: Final = 10.0
BAR_CELLS: Final = 20
SMOOTH: Final = 0.2  # of each new look at the rate


class Shown:
    """Shows progress to people."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown_s = time.monotonic()
        self._rate = Rate()

    def __call__(self, progress: "Progress") -> None:
        if self._is_due():
            self._show(line(progress, *self._rate.looked(self._shown_s, progress)))

    def text(self, text: str) -> None:
        """Show what else goes on."""
        if self._is_due():
            self._show(text)

    def _is_due(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._shown_s < (SHOW_AGAIN_S if self._terminal else TELL_AGAIN_S):
            return False
        self._shown_s = now_s
        return True

    def _show(self, text: str) -> None:
        if self._terminal:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        else:
            click.echo(text, err=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


class Rate:
    """Knows rows per second, and the seconds that are left."""

    def __init__(self) -> None:
        self._shown = ""
        self._before: tuple[float, int, float | None] | None = None
        self._rows_per_s: float | None = None
        self._part_per_s: float | None = None

    def looked(self, now_s: float, progress: "Progress") -> tuple[float | None, float | None]:
        """Return rows per second and seconds left, None where they are not known yet."""
        if self._shown != progress.shown:
            self._shown, self._before = progress.shown, None
            self._rows_per_s = self._part_per_s = None
        if self._before is not None:
            then_s, rows, _done = self._before
            took_s = max(now_s - then_s, 1e-6)
            self._rows_per_s = _smoothed(self._rows_per_s, (progress.rows - rows) / took_s)
        self._before = now_s, progress.rows, progress.done
        left_s = None
        if progress.done and progress.rows and self._rows_per_s:
            left_s = progress.rows * (1 / progress.done - 1) / self._rows_per_s
        return self._rows_per_s, left_s


def _smoothed(before: float | None, now: float) -> float:
    return now if before is None else before + SMOOTH * (now - before)


def line(progress: "Progress", rows_per_s: float | None, left_s: float | None) -> str:
    """Return one line about *progress*."""
    parts = [f"{progress.rows:,} rows"]
    if rows_per_s is not None:
        parts.append(f"{rows_per_s:,.0f} rows/s")
    if left_s is not None:
        minutes, seconds = divmod(round(left_s), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    if progress.note:
        parts.append(progress.note)
    bar = ""
    if progress.done is not None:
        full = round(progress.done * BAR_CELLS)
        bar = f" [{'#' * full}{'.' * (BAR_CELLS - full)}] {progress.done:4.0%}"
    return f"{progress.shown}{bar} {', '.join(parts)}"


@contextmanager
def shown() -> Iterator[Shown]:
    """Return what shows progress; nothing of a bar is left behind."""
    show = Shown()
    try:
        yield show
    finally:
        show.clear()
