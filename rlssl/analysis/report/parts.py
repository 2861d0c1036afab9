"""What a section of a report consists of."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlssl.analysis.report.charts import Spec
from rlssl.analysis.report.tables import Table


@dataclass(frozen=True)
class Chart:
    """A chart with its words.

    Args:
        id: Its element on the page, and its file.
        title: Above it.
        spec: For Vega-Lite.
        alt: What it shows, for screen readers.
        note: Below it.
    """

    id: str
    title: str
    spec: Spec
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        id: Its anchor.
        title: Its heading.
        text: Its paragraphs.
        charts: Its charts.
        tables: Its tables.
        grid: Whether the charts stand side by side.
    """

    id: str
    title: str
    text: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    grid: bool = False
