"""The peer of bench_live.py: the product's own web process, without what it keeps for all viewers of a page.

Every request renders its fragment, as pages do that nobody has told of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import harness  # noqa: F401  puts the checkout on the module path

from controlplane.asgi import application

__all__ = ["application"]

from apps.kernel.rendered import Rendered


def _anew(self: Rendered, place: Hashable, revision: Hashable, make: Callable[[], str]) -> str:
    return make()


Rendered.get = _anew  # type: ignore[method-assign]
