"""The report: plain records in, one self-contained page out."""

from keras_optlab.report.html import page, save

__all__ = ["page", "save"]
