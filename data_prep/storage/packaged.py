"""Files that come with the installed packages, and what they are recognised by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

CT_PHYSICS = (
    *(f"recon/physics/{name}.py" for name in ("ct", "fan_beam", "geometry", "photons")),
    *(f"recon/kernels/{name}.py" for name in ("switches", "runner")),
    *(f"recon/kernels/{kind}_{form}.py" for kind in ("tomography", "fan") for form in ("reference", "cpu")),
)
"""The code of the ray transform and its inverse."""


def packaged_file(name: str) -> Traversable:
    """Return a file by package and path, for instance data_prep/samples/ct_chest.h5."""
    package, _, rest = name.partition("/")
    return files(package).joinpath(rest)


def packaged_hash(names: Iterable[str]) -> str:
    """Return 12 hexadecimal digits that change with the content of these files.

    Derived data that carry it are never used after the code or the data they were made from have changed.
    """
    digest = hashlib.sha256()
    for name in names:
        digest.update(packaged_file(name).read_bytes())
    return digest.hexdigest()[:12]
