"""Every optimizer against the reference trajectories of tests/goldens; its README says where each comes from and which rule it follows."""

import keras
import numpy as np
import pytest
from goldens import problem
from keras import ops

from keras_optlab import optimizers

MODIFIERS = {
    ("lookahead", "sgd"): ("sgdw", ("k", "alpha")),
    ("lookahead", "adamw"): ("adamw", ("k", "alpha")),
    ("cautious", "adamw"): ("adamw", ()),
    ("cautious", "adamw_decay"): ("adamw", ()),
    ("sam", "sgd"): ("sgdw", ("rho",)),
    ("sam", "adamw"): ("adamw", ("rho",)),
}
CASES = [(name, variant) for name in optimizers.names() if name != "skipnonfinite" for variant in problem.load(name)[1]["variants"]]


def make(name: str, variant: str, hyper: dict):
    if name == "adam8bit":
        hyper = hyper | {"smallest": 1}
    if (name, variant) not in MODIFIERS:
        return optimizers.get(name, **hyper)
    inner, own = MODIFIERS[name, variant]
    return optimizers.get(name, inner=optimizers.get(inner, **{n: x for n, x in hyper.items() if n not in own}), **{n: hyper[n] for n in own})


def variables(data: dict) -> dict:
    """Each weight in a layer of its own name, so that its path says what it is; Muon leaves the first and last kernel alone."""
    found = {}
    for name in ["first", *problem.names(data), "last"]:
        with keras.name_scope(name):
            value = data.get(f"p0_{name}", np.ones((2, 2), "float32"))
            found[name] = keras.Variable(value, name="bias" if name == "bias" else "kernel")
    return found


def trajectory(optimizer, data: dict, steps: int) -> list[dict]:
    weights = variables(data)
    optimizer.build(list(weights.values()))
    optimizer.attached = True
    history = []
    for t in range(steps):

        def gradient(P, t=t):
            at = {n: ops.convert_to_numpy(p) for n, p in zip(weights, P)}
            G = problem.gradient(data, {n: at[n] for n in problem.names(data)}, t)
            return [ops.convert_to_tensor(G.get(n, np.zeros((2, 2), "float32"))) for n in weights]

        optimizer.apply(optimizer.take_gradient(gradient), list(weights.values()))
        history.append({n: ops.convert_to_numpy(v) for n, v in weights.items()})
    return history


@pytest.mark.parametrize("name,variant", CASES)
def test_trajectory(name, variant):
    data, meta = problem.load(name)
    facts = meta["variants"][variant]
    history = trajectory(make(name, variant, facts["hyperparameters"]), data, max(meta["steps"]))
    for n in problem.names(data):
        ours = np.stack([history[t - 1][n] for t in meta["steps"]])
        np.testing.assert_allclose(ours, data[f"{variant}/p_{n}"], rtol=0, atol=facts["tolerance"], err_msg=f"{name}/{variant}: {n}, against {facts['oracle']}")


def test_dynamic_map_is_the_released_one():
    from keras_optlab.optimizers.adam_8bit import dynamic_map

    data, _ = problem.load("adam8bit")
    for name in ("signed", "unsigned"):
        np.testing.assert_allclose(dynamic_map(name == "signed"), data[f"map_{name}"], rtol=1e-6)
