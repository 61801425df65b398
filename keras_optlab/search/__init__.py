"""Hyperparameter search with KerasTuner's interface: better samplers, and nothing is ever lost."""

from keras_optlab.search.image_classifiers import ImageClassifier
from keras_optlab.search.memory import Infeasible, check_memory
from keras_optlab.search.optimizer_space import optimizer_space, schedule_space
from keras_optlab.search.oracle import Oracle
from keras_optlab.search.population import PopulationBasedTuner
from keras_optlab.search.tuner import Tuner
from keras_optlab.training.memory import available_memory, estimated_memory

__all__ = [
    "ImageClassifier",
    "Infeasible",
    "Oracle",
    "PopulationBasedTuner",
    "Tuner",
    "available_memory",
    "check_memory",
    "estimated_memory",
    "optimizer_space",
    "schedule_space",
]
