"""What an optimizer file needs."""

from keras_optlab.optimizers.shell.hyper import choice, hyper, linear, log
from keras_optlab.optimizers.shell.optimizer import FormulaOptimizer, Modifier
from keras_optlab.optimizers.shell.state import Slot

__all__ = ["FormulaOptimizer", "Modifier", "Slot", "choice", "hyper", "linear", "log"]
