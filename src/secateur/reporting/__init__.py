"""Results for people: one self-contained HTML page, and tables for the terminal."""

from secateur.reporting.page import page, write_page
from secateur.reporting.summary import print_summary

__all__ = ["page", "print_summary", "write_page"]
