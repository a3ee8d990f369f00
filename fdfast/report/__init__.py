"""What was found, as data, text, JSON, HTML and pictures.

A report holds findings; a renderer takes a report. Nothing is computed here but what is shown.
"""

from __future__ import annotations

from fdfast.markup import Markup, Number, badge, bullets, drawn, escape, for_notebook, image, number, pairs, table
from fdfast.report.findings import input_report, weight_report
from fdfast.report.html import page
from fdfast.report.part import Part
from fdfast.report.plain import json_text, plain_dict, write
from fdfast.report.plot import VERDICT_COLOURS, adversarial_figure, blank_figure, styled
from fdfast.report.report import Report, WeightReport
from fdfast.report.text import render
from fdfast.report.whole import whole_report

__all__ = [
    "VERDICT_COLOURS",
    "Markup",
    "Number",
    "Part",
    "Report",
    "WeightReport",
    "adversarial_figure",
    "badge",
    "blank_figure",
    "bullets",
    "drawn",
    "escape",
    "for_notebook",
    "image",
    "input_report",
    "json_text",
    "number",
    "page",
    "pairs",
    "plain_dict",
    "render",
    "styled",
    "table",
    "weight_report",
    "whole_report",
    "write",
]
