"""A report: one self-contained HTML page of words, tables and figures, made from plain data.

The page needs no script and no network: style, plots and images are inside it. Every figure in a table carries its
exact value and its key (``data-value``, ``data-key``), so that a page can be checked against the files beside it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from data_prep import replace_file

# Colours of the series on a light and on a dark page (after Okabe and Ito, safe for the colour-blind), and their marks.
COLOURS = (
    ("#0072b2", "#4ea5dc"),
    ("#c98500", "#e9ae3c"),
    ("#00825f", "#2cbf94"),
    ("#d55e00", "#f08a4b"),
    ("#b5548b", "#dd8fbb"),
    ("#6b6b6b", "#a9a9a9"),
)
GLYPHS = "●■▲◆▼✚"


@dataclass(frozen=True)
class Series:
    """What a colour and a mark stand for; the same for every figure and table of a page.

    Attributes:
        name: as shown.
        number: from 0; the first 36 differ in colour or mark.
    """

    name: str
    number: int

    @property
    def colour(self) -> int:
        """Which of COLOURS."""
        return self.number % len(COLOURS)

    @property
    def glyph(self) -> str:
        """Its mark, as text."""
        return GLYPHS[mark(self.number)]


def mark(number: int) -> int:
    """Which of the marks a series has: the same as its colour, until the colours repeat."""
    return (number + number // len(COLOURS)) % len(GLYPHS)


@dataclass(frozen=True)
class Number:
    """A figure: how it reads, what it is exactly, and where the same value stands in the files beside the page.

    Raises:
        ValueError: nan or inf, which no page may show.
    """

    text: str
    value: float
    key: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.key} is {self.value}: leave it out, or say in words what happened")


@dataclass(frozen=True)
class Cell:
    """One cell: words, or numbers with words between them.

    Attributes:
        parts: text and numbers, in order.
        best: whether to mark it as the best of those it is compared with.
        series: a colour and mark to show before it.
    """

    parts: tuple[str | Number, ...]
    best: bool = False
    series: Series | None = None

    @classmethod
    def of(cls, *parts: str | Number, best: bool = False) -> Cell:
        """A cell of these parts."""
        return cls(parts, best)

    @classmethod
    def named(cls, series: Series) -> Cell:
        """The name of a series behind its mark."""
        return cls((series.name,), series=series)


@dataclass(frozen=True)
class Table:
    """Rows of cells under their columns' names; it scrolls by itself where it is wider than the page.

    Attributes:
        columns: their names.
        rows: each as long as ``columns``; the first cell names the row.
        caption: what it shows.
        n_words: how many of the first columns are words, to the left; numbers are to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    caption: str = ""
    n_words: int = 1


@dataclass(frozen=True)
class Image:
    """A picture in the page.

    Attributes:
        content: SVG, as :mod:`pipelines.reports.figures` draws it (inserted as it is), or the bytes of a PNG.
        alt: what can be seen, for those who cannot see it.
        label: a short text below.
    """

    content: str | bytes
    alt: str
    label: str = ""

    @property
    def source(self) -> str:
        """The PNG as a data URI."""
        assert isinstance(self.content, bytes)
        return "data:image/png;base64," + base64.b64encode(self.content).decode()


@dataclass(frozen=True)
class Panel:
    """Images below each other, under a title or the name of a series."""

    images: Sequence[Image]
    title: str = ""
    series: Series | None = None


@dataclass(frozen=True)
class Figure:
    """Panels side by side, as many as the page is wide for.

    Attributes:
        panels: what is compared.
        caption: what it shows.
        legend: what the colours stand for.
        scales: colour bars that go for all panels.
        size: "plot", "map" (small and square), "picture" or "wide" (scrolls where the page is narrow).
    """

    panels: Sequence[Panel]
    caption: str = ""
    legend: Sequence[Series] = ()
    scales: Sequence[Image] = ()
    size: str = "plot"


@dataclass(frozen=True)
class Facts:
    """Terms and what is to be said of each."""

    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Words:
    """Paragraphs; or, as code, a text whose lines and spaces stay."""

    paragraphs: Sequence[str]
    code: bool = False


@dataclass(frozen=True)
class Details:
    """Blocks that stay folded until asked for."""

    summary: str
    blocks: Sequence[Block]


Block = Table | Figure | Facts | Words | Details


@dataclass(frozen=True)
class Section:
    """A part of the report, named in the table of contents."""

    title: str
    text: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: its name.
        subtitle: on what data; lines.
        answer: what was found, in sentences, before anything else.
        sections: what it rests on.
    """

    title: str
    subtitle: Sequence[str]
    answer: Sequence[str]
    sections: Sequence[Section]


def render_report(report: Report) -> str:
    """The page as HTML; a function of its argument alone."""
    environment = Environment(
        loader=PackageLoader("pipelines.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["exact"] = repr
    environment.tests["words"] = lambda part: isinstance(part, str)
    return environment.get_template("report.html").render(report=report, colours=COLOURS)


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(render_report(report), encoding="utf-8", errors="backslashreplace")
