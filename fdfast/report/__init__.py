"""What was found, as data, text, JSON, HTML and pictures.

A report holds findings; a renderer takes a report. Nothing is computed here but what is shown.
"""

from __future__ import annotations

from fdfast.report.plot import adversarial_figure
from fdfast.report.report import MAPS, Report
from fdfast.report.weight_findings import report_of
from fdfast.report.weights import WeightReport

__all__ = ["MAPS", "Report", "WeightReport", "adversarial_figure", "report_of"]
