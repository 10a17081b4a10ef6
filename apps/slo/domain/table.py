"""Running sums of (total, bad) of many series in one matrix: a window of any of them is two reads and a difference."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_FIRST_ROWS: Final = 16


class SumTable:
    """Series are rows, steps of ``step_seconds`` are columns; steps are numbered from the epoch.

    ``keep`` is how many steps a window may reach back. All rows share their columns, so that one index reads a window
    of every series at once; a series without events costs nothing but its row of equal sums.
    """

    def __init__(self, step_seconds: int, keep: int) -> None:
        self.step_seconds = step_seconds
        self._keep = keep
        self._columns = keep + max(keep // 4, 16)  # shifted once a quarter is used up, not at every step
        self._sums = np.zeros((2, _FIRST_ROWS, self._columns + 1), np.int64)
        self._first = 0
        self._head = 0  # columns in use: the sum before step ``first + n`` stands in column n
        self.rows = 0

    @property
    def oldest_step(self) -> int:
        return self._first

    def add_row(self) -> int:
        """The number of a new series, empty."""
        if self.rows == self._sums.shape[1]:
            grown = np.zeros((2, 2 * self.rows, self._columns + 1), np.int64)
            grown[:, : self.rows] = self._sums
            self._sums = grown
        self.rows += 1
        return self.rows - 1

    def advance(self, until_step: int) -> None:
        """Make room for every step before ``until_step``; steps without events repeat the sum before them."""
        if self._first == 0:
            self._first = until_step - self._keep
            self._head = self._keep
            return
        wanted = until_step - self._first
        if wanted > self._columns:
            shift = min(wanted - self._keep, self._head)
            self._head -= shift
            self._sums[:, :, : self._head + 1] = self._sums[:, :, shift : shift + self._head + 1].copy()
            self._first = until_step - self._keep if self._head == 0 else self._first + shift
            wanted = until_step - self._first
        if wanted > self._head:
            self._sums[:, :, self._head + 1 : wanted + 1] = self._sums[:, :, self._head : self._head + 1]
            self._head = wanted

    def put(self, row: int, since_step: int, seconds: Ints, total: Ints, bad: Ints) -> None:
        """Replace everything of ``row`` from ``since_step`` on by these sums; ``seconds`` are times, in any order.

        What lies before the kept steps is left out; what lies after the newest step is an error (advance first).
        """
        start = min(max(since_step - self._first, 0), self._head)
        places = seconds // self.step_seconds - self._first
        is_kept = places >= start
        places = places[is_kept] - start
        fresh = np.zeros((2, self._head - start), np.int64)
        np.add.at(fresh[0], places, total[is_kept])
        np.add.at(fresh[1], places, bad[is_kept])
        before = self._sums[:, row, start : start + 1]
        self._sums[:, row, start + 1 : self._head + 1] = before + np.cumsum(fresh, axis=1)

    def window(self, rows: Ints, steps: Ints, until_step: int) -> tuple[Ints, Ints]:
        """(total, bad) of the last ``steps`` (one number per row asked for) before ``until_step``."""
        end = min(max(until_step - self._first, 0), self._head)  # an hour's end may lie in the future
        begin = np.clip(until_step - steps - self._first, 0, end)
        total, bad = self._sums[:, rows, end] - self._sums[:, rows, begin]
        return total, bad
