"""The folder that an image is built in, as files and as an archive that is the same byte for byte every time. Pure."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from apps.targets.images.dockerfile import dockerfile
from apps.targets.images.lock import OWN as OF_THE_SERVER
from apps.targets.images.lock import Locked, constraints_text, lock_text
from apps.targets.images.spec import ImageSpec, ModelFrom, server_config


def context_files(spec: ImageSpec, locked: Sequence[Locked], serving: Mapping[str, bytes]) -> dict[str, bytes]:
    """By path. ``serving`` are the server's own files (``http.py`` …), ``locked`` its packages.

    The model is not among them: the build fetches it, or whoever builds puts it into ``model/``.
    """
    model = [line for line in spec.requirements.lines if _name(line) not in OF_THE_SERVER]
    texts = {
        "Dockerfile": dockerfile(spec),
        ".dockerignore": "*\n!Dockerfile\n!requirements/\n!serving/\n!serving.json\n"
        + ("!model/\n" if spec.model_from is ModelFrom.FOLDER else ""),
        "serving.json": server_config(spec),
        "requirements/serving.lock": lock_text(locked),
        "requirements/model.txt": "".join(f"{line}\n" for line in model),
        "requirements/constraints.txt": constraints_text(locked, spec.requirements.pinned),
    }
    files = {path: text.encode() for path, text in texts.items()}
    files |= {f"serving/{name}": content for name, content in serving.items()}
    return dict(sorted(files.items()))


def archive(files: Mapping[str, bytes]) -> bytes:
    """A ``tar.gz`` without times and owners: equal files give equal bytes."""
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path, content in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _name(line: str) -> str:
    return canonicalize_name(Requirement(line).name)
