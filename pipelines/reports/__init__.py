"""Pages that show what was measured: a generic page (page, figures), and the page of an evaluation (the others)."""

from pipelines.reports.evaluation import evaluation_report
from pipelines.reports.facts import Example, RunFacts
from pipelines.reports.page import Report, write_report

__all__ = ["Example", "Report", "RunFacts", "evaluation_report", "write_report"]
