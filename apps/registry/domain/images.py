"""References of container images. Pure.

A recorded image is named by its digest: a tag may point at other bytes tomorrow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from apps.kernel.errors import InvalidInput

MAX_LENGTH = 512
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """``registry/name[:tag][@sha256:…]``, as registries and engines read it."""

    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str, pointer: str = "/image") -> ImageReference:
        """Raises InvalidInput at ``pointer``.

        >>> ImageReference.parse("registry.example.com:5000/models/a:1.0")
        ImageReference(name='registry.example.com:5000/models/a', tag='1.0', digest='')
        """
        found = _REFERENCE.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if found is None:
            detail = f"{text[:80]!r} is no image: say registry.example.com/name:tag, or …/name@sha256:…"
            raise InvalidInput.at(pointer, "bad_image", detail)
        return cls(found["name"], found["tag"] or "", found["digest"] or "")

    @property
    def is_exact(self) -> bool:
        """Named by its digest."""
        return bool(self.digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def exact_image(text: str, pointer: str = "/image") -> str:
    """A reference by digest, its tag left out: the digest alone decides. Raises InvalidInput at ``pointer``.

    >>> exact_image("example.com/a:1@sha256:" + "0" * 64)[-20:]
    '00000000000000000000'
    """
    found = ImageReference.parse(text.strip(), pointer)
    if not found.is_exact:
        raise InvalidInput.at(
            pointer,
            "digest_missing",
            f"{text[:80]!r} names no digest, so it may be other bytes tomorrow; say {found.name}@sha256:… as the push "
            "printed it.",
        )
    return f"{found.name}@{found.digest}"
