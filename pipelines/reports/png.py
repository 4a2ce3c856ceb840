"""Pictures as PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from data_prep import replace_file


def save_figure(path: Path, figure: Figure) -> None:
    """Write a PNG, whole or not at all; bytes of names that are not UTF-8 are shown as escapes."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(readable(text.get_text()))
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def readable(name: str) -> str:
    """A name with escapes for what cannot be drawn."""
    return name.encode("utf-8", "backslashreplace").decode()
