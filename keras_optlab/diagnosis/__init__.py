"""What was measured in a run, and what it means: records, findings and the rules between them. Knows no callback, optimizer or model."""

from keras_optlab.diagnosis import rules
from keras_optlab.diagnosis.findings import DataWarning, Finding, GradientWarning, ModelWarning, TrainingWarning
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import examine

__all__ = ["DataWarning", "Finding", "GradientWarning", "ModelWarning", "Record", "TrainingWarning", "examine", "rules"]
