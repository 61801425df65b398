"""Every name under every law of keras_optlab.testing; on JAX and PyTorch the names that use the hooks, and of the others the formula."""

import pytest
from conftest import SLOW_HERE

from keras_optlab import optimizers, testing

FAST = {"learning_rate": 1e-2}
ARGUMENTS = {
    "adam8bit": FAST | {"smallest": 64},
    "adamw": FAST,
    "lamb": FAST,
    "lion": FAST,
    "muon": {"learning_rate": 5e-2},
    "nadamw": FAST,
    "prodigy": {"learning_rate": 1.0, "d0": 1e-3},
    "schedulefreeadamw": {"learning_rate": 5e-2},
    "sgdw": {"learning_rate": 1e-3},
    # longer sides would give factors without full rank, and a smaller epsilon would blow up rounding beyond what the laws allow: see the test below
    "soap": FAST | {"refresh_every": 3, "largest": 5, "epsilon": 1e-4},
    "cautious": FAST,
    "lookahead": {"learning_rate": 1e-1},
    "sam": FAST,
    "skipnonfinite": FAST,
}
INNER = {"cautious": optimizers.Lion, "lookahead": optimizers.Muon, "sam": optimizers.AdamW, "skipnonfinite": optimizers.AdamW}
MANY_HOOKS = ("soap", "prodigy", "schedulefreeadamw", "sam", "lookahead")


def maker(name):
    """make(**settings) for a name; settings of Keras go to the innermost optimizer."""

    def make(**settings):
        if name not in INNER:
            return optimizers.get(name, **ARGUMENTS[name] | settings)
        own = {n: x for n, x in settings.items() if n in optimizers.find(name).hypers and n != "learning_rate" or n == "no_such_argument"}
        inner = INNER[name](**ARGUMENTS[name] | {n: x for n, x in settings.items() if n not in own})
        return optimizers.get(name, inner=inner, **own)

    return make


TENSORFLOW = testing.BACKEND == "tensorflow"
LONG = ("execution_paths", "accumulation", "replicas")  # by default for one formula of few hooks
LARGE = ("soap", "lamb", "skipnonfinite", "sam")  # which take longest under the laws of `OFTEN`; the others show by default that those hold
OFTEN = ("clone", "dtypes", "keras_settings", "converges")


def cases():
    for name in optimizers.names():
        for law in testing.LAWS:
            if law != "new_process" and (TENSORFLOW or law == "pure_formula" or name in MANY_HOOKS and law != "replicas"):
                yield pytest.param(name, law, marks=SLOW_HERE if law in LONG and name != "adamw" or law in OFTEN and name in LARGE else [])


@pytest.mark.parametrize("name,law", list(cases()))
def test_law(name, law):
    testing.LAWS[law](maker(name))


@pytest.mark.parametrize("names", [pytest.param(optimizers.names(), id="all", marks=SLOW_HERE)])
def test_new_process(names):
    testing.new_process({name: maker(name) for name in names})


@pytest.mark.slow
@pytest.mark.skipif(not TENSORFLOW, reason="only TensorFlow has two compilers for one step")
def test_soap_at_its_defaults_hardly_depends_on_the_compiler():
    """Left to rounding, the null spaces of its factors (a softmax head has one) part the weights by 1.3e-2 within these six steps."""
    plain, jit = (testing.fit(optimizers.SOAP(), 1, jit_compile=compiled)[0] for compiled in (False, True))
    testing.same(testing.values(plain.trainable_variables), testing.values(jit.trainable_variables), 1e-3, "jit_compile=True against False")
