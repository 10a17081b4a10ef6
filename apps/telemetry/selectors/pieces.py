"""Which stored rows make up a span of time: SQL that every read of windows shares.

A span is cut into pieces: whole days from the roll-ups of a day, what is left at both ends from hours, from there ten
minutes, minutes and slots, each as far as it has been rolled up and is still kept. The pieces neither overlap nor leave
anything out, so sums are the same as of the slots, bit for bit, whatever has been rolled up meanwhile. Where the finer
is gone, a coarser window belongs to the span that its first second lies in.

One statement reads the marks and the rows: in two, a roll-up between them would be counted twice or not at all.
"""

from __future__ import annotations

from apps.telemetry.domain.levels import LEVELS, SLOT, finer

FAR = 2**53


def pieces(spans: str) -> str:
    """The CTE ``pieces``: every column of ``spans`` and ``resolution``, ``lo`` (inclusive), ``hi`` (exclusive).

    ``spans`` is a query with at least ``endpoint``, ``since``, ``until``, ``step`` and ``has_period``. ``step``: no
    coarser window is taken than what divides it while finer ones are kept; 0 for no such wish.
    """
    # OFFSET 0: computed once per span, not once per mention. unnest, because a VALUES that depends on its row is
    # prepared anew for each.
    raw = ", ".join(f"{start} AS a{level}, {end} AS b{level}" for level in LEVELS for start, end in [_bounds(level)])
    covered = ", ".join(
        f"CASE WHEN w.a{level} < w.b{level} THEN w.{side}{level} ELSE w.since END AS {name}{level}"
        for level in LEVELS
        for side, name in (("a", "from_"), ("b", "to_"))
    )
    columns = (", ".join(column) for column in zip(*_cuts(), strict=True))
    return f"""
        WITH pieces AS MATERIALIZED (
          SELECT l.*, p.resolution, p.lo, p.hi, l.has_period AND (p.resolution > {SLOT} OR p.lo = 0) AS by_period
          FROM (SELECT w.*, {covered} FROM (
            SELECT x.*, {raw} FROM ({spans}) x LEFT JOIN telemetry_rollupmark m ON m.endpoint = x.endpoint
            OFFSET 0) w OFFSET 0) l
          CROSS JOIN LATERAL unnest({", ".join(f"ARRAY[{column}]::int8[]" for column in columns)}) p(resolution, lo, hi)
          WHERE p.lo < p.hi)
        """  # noqa: S608


def _bounds(level: int) -> tuple[str, str]:
    """What this level could cover of a span: its first second, and the one after its last (before it: nothing)."""
    below = f"coalesce(m.kept_{finer(level)}, 0)"
    end = f"x.until / {level} * {level}"
    rolled = f"CASE WHEN mod(x.step, {level}) = 0 THEN coalesce(m.until_{level}, 0) ELSE {below} END"
    last = f"CASE WHEN {end} < {below} THEN (x.until + {level - 1}) / {level} * {level} ELSE {end} END"
    return f"(x.since + {level - 1}) / {level} * {level}", f"least({rolled}, {last})"


def _cuts() -> list[tuple[str, str, str]]:
    """(resolution, lo, hi): of each level what the next coarser leaves at its left and its right."""
    coarsest, finest = LEVELS[-1], LEVELS[0]
    found = [(str(coarsest), f"l.from_{coarsest}", f"l.to_{coarsest}")]
    for level, above in zip(LEVELS[-2::-1], LEVELS[:0:-1], strict=True):
        found.append((str(level), f"l.from_{level}", f"least(l.from_{above}, l.to_{level})"))
        found.append((str(level), f"greatest(l.to_{above}, l.from_{level})", f"l.to_{level}"))
    found.append((str(SLOT), "l.since", f"least(l.from_{finest}, l.until)"))
    found.append((str(SLOT), f"greatest(l.to_{finest}, l.since)", "l.until"))
    return found


def rows(outer: str, inner: str, match: str) -> str:
    """``SELECT outer`` over every piece and the rows of it: ``inner`` are columns of ``s``, ``match`` a condition that
    may name ``{period}``. What is selected of a piece is ``p``, of its rows ``s``.

    OFFSET 0 keeps each piece a look-up of its own: joined, thousands of pieces make the planner read the whole table.
    ``+ 0`` keeps an index out of the way, because the planner knows nothing of the bounds: pieces with a period are
    few rows of a long time, the others a short time of all periods.
    """
    arms = []
    for table, is_slot in (("telemetry_slot", True), ("telemetry_rollup", False)):
        for by_period in (False, True):
            period, at = ("s.period", "s.slot_at + 0") if by_period else ("s.period + 0", "s.slot_at")
            level = "" if is_slot else "AND s.resolution = p.resolution"
            arms.append(f"""
                SELECT {outer} FROM pieces p CROSS JOIN LATERAL (
                  SELECT {inner} FROM {table} s
                  WHERE s.endpoint = p.endpoint {level} AND {at} >= p.lo AND {at} < p.hi
                    AND {match.format(period=period)} OFFSET 0) s
                WHERE p.resolution {"=" if is_slot else ">"} {SLOT} AND {"" if by_period else "NOT "}p.by_period
                """)  # noqa: S608
    return " UNION ALL ".join(arms)
