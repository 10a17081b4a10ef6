"""Files from a form into an upload area: single files, a folder, or a zip archive that is read, never unpacked to disk.

Each file goes to the artifact store piece by piece. Nothing is registered by it; an area that nobody registers from is
forgotten after some days.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

from django.core.files.uploadedfile import UploadedFile

from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput
from apps.registry.domain.archives import BadArchive, open_zip, path_problem
from apps.registry.domain.manifest import MAX_FILES, is_left_out
from apps.registry.domain.names import MAX_SOURCE
from apps.registry.models import UploadArea
from apps.registry.services.ingest import upload_put

MAX_BYTES = 2 * 1024**3
"""Of one form. Larger models come by the upload address, file by file."""
_ZIP = b"PK\x03\x04"
_DESCRIPTION = "MLmodel"


def area_of(actor: Actor, area: str) -> UploadArea | None:
    """This person's area of that name; None for anybody else's, and for one that was forgotten."""
    return UploadArea.objects.filter(pk=area, owner_kind=actor.kind, owner_id=actor.id).first() if area else None


def files_keep(actor: Actor, files: Sequence[UploadedFile[Any]], paths: Sequence[str]) -> str:
    """Keep what was chosen, below the folder that holds MLmodel; the name of the new area.

    ``paths`` are the relative paths of a chosen folder, in the order of ``files``; without them the names count.
    Raises InvalidInput at ``/files``.
    """
    with _opened(files, paths) as found:
        root = _root([path for path, _, _ in found])
        if sum(size for _, size, _ in found) > MAX_BYTES:
            raise _fault(
                f"This is more than {MAX_BYTES // 1024**3} GiB. Upload it file by file as an MLflow client does."
            )
        area = f"web-{secrets.token_hex(12)}"
        for path, _, stream in found:
            if path.startswith(root) and not is_left_out(path):
                upload_put(actor=actor, area=area, path=path[len(root) :], stream=stream)
    return area


@contextmanager
def _opened(files: Sequence[UploadedFile[Any]], paths: Sequence[str]) -> Iterator[list[tuple[str, int, BinaryIO]]]:
    """(path, size, stream) of every file that was chosen or stands in the archive."""
    if len(files) == 1 and _is_zip(files[0]):
        stream = cast(BinaryIO, files[0].file)
        try:
            archive = open_zip(stream, files[0].size or 0)
        except BadArchive as fault:
            raise _fault(f"{files[0].name}: {fault}") from fault
        with archive:
            yield [
                (one.filename, one.file_size, cast(BinaryIO, _Member(archive.open(one), files[0].name or "")))
                for one in archive.infolist()
                if not one.is_dir()
            ]
        return
    names = list(paths) if len(paths) == len(files) else [one.name or "" for one in files]
    for name in names:
        problem = path_problem(name[:MAX_SOURCE])
        if problem:
            raise _fault(f"The file {name[:200]!r} {problem}.")
    yield [(name, one.size or 0, cast(BinaryIO, one)) for name, one in zip(names, files, strict=True)]


class _Member:
    """One file of an archive; what is wrong with its bytes is said as a fault of the upload."""

    def __init__(self, stream: IO[bytes], archive: str) -> None:
        self._stream, self._archive = stream, archive

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except Exception as error:
            # zlib.error, BadZipFile, NotImplementedError, EOFError: zipfile has no common root
            raise _fault(f"{self._archive} is damaged ({type(error).__name__}).") from error


def _is_zip(file: UploadedFile[Any]) -> bool:
    head: bytes = file.read(4)
    file.seek(0)
    return head == _ZIP


def _root(paths: Sequence[str]) -> str:
    """The folder of the MLmodel that stands highest, with its slash; "" for the top. Raises InvalidInput."""
    if len(paths) > MAX_FILES:
        raise _fault(f"These are more than {MAX_FILES:,} files; pack them into fewer.")
    found = [path for path in paths if path.rpartition("/")[2] == _DESCRIPTION]
    if not found:
        raise _fault(
            f"There is no MLmodel file among these {len(paths):,} files. Choose the folder that mlflow saved the model "
            "to, or a zip of it."
        )
    highest = min(found, key=lambda path: path.count("/"))
    return highest[: -len(_DESCRIPTION)]


def _fault(detail: str) -> InvalidInput:
    return InvalidInput.at("/files", "bad_upload", detail)
