"""Pages that show what was measured: a generic page (page, figures), and the page of an evaluation (the others)."""

from pipelines.reports.evaluation import evaluation_report
from pipelines.reports.facts import Collected, Example, Place, RunFacts
from pipelines.reports.page import Report, write_report

__all__ = ["Collected", "Example", "Place", "Report", "RunFacts", "evaluation_report", "write_report"]
