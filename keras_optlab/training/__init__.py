"""The only room that touches a model's training step."""

from keras_optlab.training.attach import Attach, attach

__all__ = ["Attach", "attach"]
