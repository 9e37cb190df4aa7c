"""Results for people: one self-contained HTML page, and tables for the terminal."""

from secateur.reporting.comparison import Change, Latency, LayerChange, Report, latency, report
from secateur.reporting.page import page, write_page
from secateur.reporting.summary import print_summary

__all__ = ["Change", "Latency", "LayerChange", "Report", "latency", "page", "print_summary", "report", "write_page"]
