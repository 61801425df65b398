"""The only room that touches a model's training step."""

from keras_optlab.training.attach import Attach, attach
from keras_optlab.training.diagnose import diagnose
from keras_optlab.training.repair import Change, repair
from keras_optlab.training.resume import resume

__all__ = ["Attach", "Change", "attach", "diagnose", "repair", "resume"]
