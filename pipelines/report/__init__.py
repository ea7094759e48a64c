"""`report.html`: one page that shows a run, with nothing to load and nothing to install."""
