"""The report: plain records in, one self-contained page out."""

from keras_optlab.report.html import is_page, page, save
from keras_optlab.report.records import best_trial, ranked
from keras_optlab.report.terminal import findings_table

__all__ = ["best_trial", "findings_table", "is_page", "page", "ranked", "save"]
