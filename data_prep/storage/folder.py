"""Where derived files are kept. Of the standard library alone: recon-X --help runs this file without the package."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for derived files: $RECON_CACHE, else $XDG_CACHE_HOME/recon, else ~/.cache/recon.

    The folder need not exist yet.
    """
    if os.environ.get("RECON_CACHE"):
        return Path(os.environ["RECON_CACHE"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]).expanduser() / "recon"
    try:
        return Path.home() / ".cache" / "recon"
    except RuntimeError:  # no home folder is known, as in some containers
        return Path(os.path.abspath(".cache")) / "recon"
