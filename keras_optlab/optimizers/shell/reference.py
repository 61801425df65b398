"""The simple twin of the pipeline: one plain loop over the hooks, without variables, backends or settings. The laws hold the shell against it."""

from types import SimpleNamespace

import numpy as np
from keras import ops

from keras_optlab.optimizers.shell.formula import overrides
from keras_optlab.optimizers.shell.state import resolve


def trajectory(optimizer, problem, steps: int) -> list[np.ndarray]:
    """The weights after `steps` updates of a formula whose hyperparameters are numbers, with decay but no other setting."""
    variables = problem.variables()
    rules = [resolve(optimizer, v, variables) for v in variables]
    P = [ops.convert_to_tensor(x) for x in problem.start.values()]
    S = [{n: first(slot, p) for n, slot in rule.slots.items()} for rule, p in zip(rules, P)]
    formulas = list(dict.fromkeys(f for rule in rules for f in rule.chain))
    C = {f: {n: ops.convert_to_tensor(x, "float32") for n, x in f.scalars().items()} for f in formulas}
    for t in range(1, steps + 1):
        ks = {f: know(f, optimizer, t, C[f]) for f in formulas}
        grad = lambda P, t=t: problem.gradient(P, t - 1)
        for f in formulas:
            if overrides(f, "gradient"):
                grad = lambda P, f=f, k=ks[f], outside=grad: f.gradient(SimpleNamespace(grad=outside), P, S, k.c, k)
        G = grad(P)
        for f in formulas:
            mine = [i for i, rule in enumerate(rules) if f in rule.chain]
            C[f], new, _ = f.shared([G[i] for i in mine], [P[i] for i in mine], [S[i] for i in mine], ks[f].c, ks[f])
            ks[f].c = C[f]
            for i, g in zip(mine, new):
                G[i] = g
        for i, rule in enumerate(rules):
            bound = [
                SimpleNamespace(**vars(ks[f]) | dict(lr=ks[f].lr * rule.lr, decay=ks[f].decay * rule.decay, plan=plan))
                for f, plan in zip(rule.chain, rule.plans)
            ]
            for f, k in zip(rule.chain, bound):
                if overrides(f, "refresh") and (t - 1) % f.refresh_every == 0:
                    S[i] = f.refresh(G[i], P[i], S[i], k)
            p = P[i] if rule.chain[-1].decay == "own" else (1 - bound[-1].lr * bound[-1].decay) * P[i]
            d, S[i] = rule.update(G[i], p, S[i], bound)
            P[i] = p - d
    return [ops.convert_to_numpy(p) for p in P]


def first(slot, p):
    if slot.start == "param":
        return p
    return ops.full(p.shape if slot.shape is None else slot.shape, 0 if slot.start == "zeros" else slot.start, slot.dtype)


def know(formula, optimizer, t, c):
    hypers = {n: getattr(formula, n) for n in formula.hypers if n != "learning_rate"}
    rate = ops.convert_to_tensor(optimizer.learning_rate, "float32")
    return SimpleNamespace(**hypers | dict(t=ops.convert_to_tensor(t, "float32"), lr=rate, decay=optimizer.weight_decay or 0.0, c=c))
