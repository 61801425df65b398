"""Hyperparameter search with KerasTuner's interface: better samplers, and nothing is ever lost."""

from keras_optlab.search.image_classifiers import ImageClassifier
from keras_optlab.search.optimizer_space import optimizer_space, schedule_space
from keras_optlab.search.oracle import Oracle
from keras_optlab.search.tuner import Tuner

__all__ = ["ImageClassifier", "Oracle", "Tuner", "optimizer_space", "schedule_space"]
