"""Every name under every law of keras_optlab.testing; on JAX and PyTorch the names that use the hooks, and of the others the formula."""

import pytest

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
    # longer sides would give factors without full rank, and a smaller epsilon would blow up what rounding leaves in their null spaces
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
LONG = ("accumulation", "clone", "converges", "dtypes", "execution_paths")  # of the plainer formulas only `pytest -m slow` holds them against these


def cases():
    for name in optimizers.names():
        for law in testing.LAWS:
            if law != "new_process" and (TENSORFLOW or law == "pure_formula" or name in MANY_HOOKS and law != "replicas"):
                yield pytest.param(name, law, marks=[pytest.mark.slow] if law in LONG and name not in MANY_HOOKS else [])


@pytest.mark.parametrize("name,law", list(cases()))
def test_law(name, law):
    testing.LAWS[law](maker(name))


def test_new_process():
    testing.new_process({name: maker(name) for name in MANY_HOOKS})


@pytest.mark.slow
@pytest.mark.skipif(not TENSORFLOW, reason="on other backends the names that use the hooks stand for all")
def test_new_process_of_the_plainer_formulas():
    testing.new_process({name: maker(name) for name in optimizers.names() if name not in MANY_HOOKS})
