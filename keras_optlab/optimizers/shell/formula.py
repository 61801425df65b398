"""The hooks of a formula: tensors in, tensors out. An ordinary formula writes `slots` and `update`; everything else has a default."""

from typing import Any


class Formula:
    """What an optimizer file may write.

    Of one weight: g the gradient, p the weight, s its slots. Of all weights of this formula: G, P, S in one order. c are the formula's scalars and
    `k` is what is known at a step: `k.t` (float32, 1.0 in the first real update), `k.lr` and `k.decay` of the weight, `k.plan`, `k.c` and every
    hyperparameter at t, which is a tensor where the user gave a schedule: facts that Python code branches on belong to `self` or the plan.

    fused: False for matrix products and decompositions, which stay outside the compiled clusters.
    weight_first: True where the step is made from the old slots alone, not from the new ones: the compiled cluster is faster for knowing it.
    decay: "decoupled": the shell decays the weight before `update`; "own": the formula reads `k.decay`.
    slots: names (zeros, float32, the weight's shape), or a method `slots(plan) -> {name: Slot}`.
    """

    fused = True
    weight_first = False
    decay = "decoupled"
    slots: Any = ()

    def plan(self, v, variables) -> dict:
        """Static JSON facts of one weight, from its shape and the last two parts of its path. Reserved: "formula", "lr", "decay"."""
        return {}

    def scalars(self) -> dict[str, float]:
        """Saved scalars of this formula: {name: start}."""
        return {}

    def shared(self, G, P, S, c, k):
        """Once per real update, over this formula's weights that have a gradient -> scalars, gradients, whether to update at all."""
        return c, G, True

    def refresh(self, g, p, s, k) -> dict:
        """At real updates 1, 1 + n, 1 + 2n, ... (n = the hyperparameter `refresh_every`), before `update` -> slots."""
        return s

    def update(self, g, p, s, k):
        """-> d, slots. The weight becomes p - d: the learning rate is in d, and p is decayed already unless `decay = "own"`."""
        raise NotImplementedError(f"`{type(self).__name__}` must define `update(self, g, p, s, k)`.")

    def gradient(self, evaluate, P, S, c, k):
        """Where the gradient is taken: `evaluate.grad(P) -> G` on this batch with the same seeds, as often as wanted. Needs an attached model."""
        return evaluate.grad(P)


def overrides(formula: Formula, hook: str) -> bool:
    return getattr(type(formula), hook) is not getattr(Formula, hook)
