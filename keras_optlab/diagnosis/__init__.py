"""What was measured in a run, and what it means: records, findings and the rules between them. Knows no callback, optimizer or model."""

from keras_optlab.diagnosis import rules
from keras_optlab.diagnosis.findings import Finding, GradientWarning, TrainingWarning
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import examine

__all__ = ["Finding", "GradientWarning", "Record", "TrainingWarning", "examine", "rules"]
