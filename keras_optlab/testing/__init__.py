"""The laws of this toolkit, for our classes and for a user's own: `check_optimizer(MyOptimizer)`, `check_schedule(make)`, `check_sampler(MySampler)`."""

from keras_optlab.testing.optimizers import LAWS, check_optimizer, new_process, resume
from keras_optlab.testing.samplers import check_sampler
from keras_optlab.testing.schedules import check_schedule
from keras_optlab.testing.trainings import BACKEND, fit, policy, same, stepper, train, two_replicas, values

__all__ = ["BACKEND", "LAWS", "check_optimizer", "check_sampler", "check_schedule"]
__all__ += ["fit", "new_process", "policy", "resume", "same", "stepper", "train", "two_replicas", "values"]  # what a test of an optimizer is made of
