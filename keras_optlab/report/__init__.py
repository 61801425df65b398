"""The report: plain records in, one self-contained page out."""

from keras_optlab.report.html import is_page, page, save

__all__ = ["is_page", "page", "save"]
