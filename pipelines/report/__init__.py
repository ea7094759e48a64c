"""`report.html`: one page that shows a run, with nothing to load and nothing to install."""

from pipelines.report.page import REPORT_KEY, write_report

__all__ = ["REPORT_KEY", "write_report"]
