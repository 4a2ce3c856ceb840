"""Pages that show what was measured, whatever it is: a generic page, its figures and its tables."""

from pipelines.reports.facts import RunFacts
from pipelines.reports.page import Report, write_report

__all__ = ["Report", "RunFacts", "write_report"]
