"""For every law a bug that it must find, in an optimizer that is otherwise right."""

import itertools

import pytest
from keras import ops

from keras_optlab import testing
from keras_optlab.optimizers import FormulaOptimizer, hyper
from keras_optlab.optimizers.linalg import lerp
from keras_optlab.optimizers.shell import Slot


class Momentum(FormulaOptimizer, package="keras_optlab_tests"):
    """A right one."""

    beta: float = hyper(default=0.9, within=(0, 1), doc="Decay of the momentum.")
    slots = ("m",)

    def update(self, g, p, s, k):
        m = lerp(g, s["m"], k.beta)
        return k.lr * m, {"m": m}


class config(Momentum):
    def get_config(self):
        return {n: x for n, x in super().get_config().items() if n != "weight_decay"}


class documented(Momentum):
    gamma: float = hyper(default=0.9)


class refuses(Momentum):
    @classmethod
    def _values(cls, args, kwargs):
        rate = kwargs.pop("learning_rate", 1e-2)
        return super()._values(args, kwargs) | {"learning_rate": abs(rate) if isinstance(rate, float) else 1.0}


class pure_formula(Momentum):
    def apply(self, grads, trainable_variables=None):
        super().apply([None if g is None else 0.9 * g for g in grads], trainable_variables)


class zero_gradient(Momentum):
    def update(self, g, p, s, k):
        return k.lr * g / ops.sqrt(ops.sum(g * g)), s


class converges(Momentum):
    def update(self, g, p, s, k):
        d, s = super().update(g, p, s, k)
        return -d, s


class dtypes(Momentum):
    def slots(self, plan):
        return {"m": Slot(dtype="bfloat16")}

    def update(self, g, p, s, k):
        m = lerp(g, ops.cast(s["m"], "float32"), k.beta)
        return k.lr * m, {"m": ops.cast(m, "bfloat16")}


class execution_paths(Momentum):
    def update(self, g, p, s, k):
        self.calls = getattr(self, "calls", itertools.count(1))
        return k.lr * g / next(self.calls), s


class accumulation(Momentum):
    def update(self, g, p, s, k):
        return k.lr * g / ops.cast(self._iterations + 1, "float32"), s


class keras_settings(Momentum):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.clipvalue = None


class partial_gradients(Momentum):
    def apply(self, grads, trainable_variables=None):
        super().apply([ops.ones(v.shape) if g is None else g for g, v in zip(grads, trainable_variables)], trainable_variables)


class permutation(Momentum):
    def plan(self, v, variables):
        return {"lr": 1.0 + next(i for i, x in enumerate(variables) if x is v)}


class new_process(Momentum):
    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.state.slots[0]["m"].assign(ops.zeros(self.state.slots[0]["m"].shape))


class clone(Momentum):
    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(name=config["name"])


class replicas(Momentum):
    def apply(self, grads, trainable_variables=None):
        super().apply([ops.clip(g, -0.1, 0.1) for g in grads], trainable_variables)


def settings(cls):
    return lambda **settings: cls(**{"learning_rate": 1e-2} | settings)


@pytest.mark.parametrize("law", [pytest.param(law, marks=[pytest.mark.slow] if law == "new_process" else []) for law in testing.LAWS])
def test_law_finds_its_bug(law):
    broken = globals()[law]
    if law == "replicas" and testing.BACKEND != "tensorflow":
        pytest.skip("strategies are TensorFlow's")
    with pytest.raises(AssertionError):
        if law == "new_process":
            testing.new_process({law: settings(broken)}, ("keras_optlab", "test_laws_find_bugs"))
        else:
            testing.LAWS[law](settings(broken))


@pytest.mark.slow
def test_a_users_own_optimizer_passes():
    testing.check_optimizer(settings(Momentum), skip=("new_process", "converges"))


def test_check_optimizer_says_which_law_is_broken():
    with pytest.raises(AssertionError, match="pure_formula breaks the law `pure_formula`"):
        testing.check_optimizer(settings(pure_formula), skip=[law for law in testing.LAWS if law != "pure_formula"])
    with pytest.raises(ValueError, match="no_such_law"):
        testing.check_optimizer(Momentum, skip=("no_such_law",))
    with pytest.raises(ValueError, match="FormulaOptimizer"):
        testing.check_optimizer(lambda: "adam")
