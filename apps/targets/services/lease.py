"""Who may act on an endpoint, for how long, by the database's clock."""

from __future__ import annotations

from django.db import connection

_TAKE = """
    UPDATE targets_endpoint
       SET lease_epoch = CASE WHEN lease_holder = %(holder)s AND lease_until > clock_timestamp() AND NOT %(steal)s
                              THEN lease_epoch ELSE lease_epoch + 1 END,
           lease_holder = %(holder)s,
           lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
     WHERE id = %(id)s
       AND (%(steal)s OR lease_until IS NULL OR lease_until <= clock_timestamp() OR lease_holder IN ('', %(holder)s))
 RETURNING lease_epoch
"""
_RELEASE = """
    UPDATE targets_endpoint SET lease_holder = '', lease_until = NULL
     WHERE id = %s AND lease_holder = %s AND lease_epoch = %s
"""


def lease_take(endpoint_id: str, *, holder: str, seconds: float = 5.0, steal: bool = False) -> int | None:
    """Take or prolong the lease; returns its epoch, or None when another holder has it (or there is no such endpoint).

    The live holder that asks again keeps its epoch; every other success raises it, an expired lease of the same holder
    too: in between somebody may have looked and acted. ``holder`` names one attempt (worker and task), not a machine.

    ``steal`` takes it from a live holder. That is safe because the epoch always grows and is checked at the target:
    what the former holder still sends is refused there. Use it for what must not wait (roll back, abort).

    clock_timestamp(), not now(): the UPDATE may have waited for a row lock, a lease is judged when it is taken.
    """
    if not holder:
        raise ValueError("a lease needs a holder")
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"id": endpoint_id, "holder": holder, "seconds": seconds, "steal": steal})
        row = cursor.fetchone()
    return None if row is None else int(row[0])


def lease_release(endpoint_id: str, *, holder: str, epoch: int) -> bool:
    """Give the lease back early; False when it had already changed hands. The epoch stays as it is."""
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, [endpoint_id, holder, epoch])
        return bool(cursor.rowcount == 1)
