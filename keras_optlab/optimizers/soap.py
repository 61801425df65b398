from keras import ops

from keras_optlab.optimizers.adamw import AdamW
from keras_optlab.optimizers.linalg import debias, lerp, matrix_shape
from keras_optlab.optimizers.shell import FormulaOptimizer, Slot, hyper, log

T = ops.transpose
RESOLUTION = 1e-5  # what is smaller than this share of the largest is rounding, in float32


def basis(columns, sizes):
    """Orthonormal columns. Those without size would be turned by rounding alone: as zeros, QR completes the others in one definite way."""
    return ops.linalg.qr(ops.where(sizes > RESOLUTION * ops.max(sizes), columns, 0.0))[0]


class SOAP(FormulaOptimizer):
    """Adam in the eigenbasis of Shampoo: m and v as in Adam, F0 = mean of g gT and F1 of gT g, with eigenvectors Q0, Q1 in descending order.

    As in the authors' code the first gradient only starts the factors, and the weights decay after its step. What is smaller than 1e-5 of the largest counts
    as rounding: such directions, which a factor without full rank always has, get no basis of their own and hardly move.

    Reference: [Vyas et al., 2024](https://arxiv.org/abs/2409.11321)
    """

    learning_rate: float = hyper(default=3e-3, within=(0, float("inf")), tune=log(3e-4, 3e-2), doc="Step size.")
    beta_1: float = hyper(default=0.95, within=(0, 1), doc="Decay of the mean.")
    beta_2: float = hyper(default=0.95, within=(0, 1), doc="Decay of the square and of the factors.")
    epsilon: float = hyper(default=1e-8, within=(0, float("inf")), doc="Added to the root of the square.")
    weight_decay: float = hyper(default=0.01, within=(0, float("inf")), tune=log(1e-4, 1e-1), doc="Decay per update, times the learning rate; `None` for none.")
    refresh_every: int = hyper(default=10, within=(1, 10**9), doc="Updates between two turns of the bases.")
    largest: int = hyper(default=2048, within=(1, 10**9), doc="A side longer than this keeps the identity as its basis.")
    fallback: FormulaOptimizer = hyper(default=AdamW, doc="The optimizer of biases, norms and embeddings; it uses our rate and settings.")
    fused = False
    decay = "own"

    def plan(self, v, variables):
        shape = matrix_shape(v)
        sides = [i for i in (0, 1) if shape and shape[i] <= self.largest]
        return {"shape": shape, "sides": sides} if sides else {"formula": self.fallback}

    def slots(self, plan):
        square = {f"{x}{i}": Slot((plan["shape"][i],) * 2) for i in plan["sides"] for x in "FQ"}
        return {"m": Slot(plan["shape"]), "v": Slot(plan["shape"])} | square

    def factors(self, g, s, k):
        return {f"F{i}": lerp(T(g) @ g if i else g @ T(g), s[f"F{i}"], k.beta_2) for i in k.plan["sides"]}

    def refresh(self, g, p, s, k):
        """At t = 1 the eigenvectors of the first factors; later one step of power iteration and QR, sorted by the present eigenvalues, v along with them."""
        start = self.factors(ops.reshape(g, k.plan["shape"]), s, k)
        new = dict(s)
        for i in k.plan["sides"]:
            F, Q = s[f"F{i}"], s[f"Q{i}"]
            sizes = ops.sum(Q * (F @ Q), axis=0)
            order = ops.argsort(-sizes)
            later = basis(F @ ops.take(Q, order, axis=1), ops.take(sizes, order))
            sizes, vectors = ops.linalg.eigh(start[f"F{i}"])
            first = basis(ops.flip(vectors, axis=1), ops.flip(sizes))
            new[f"Q{i}"] = ops.where(k.t == 1, first, later)
            new["v"] = ops.take(new["v"], order, axis=i)
        return new

    def rotate(self, x, s, k, back=False):
        for i in k.plan["sides"]:
            Q = T(s[f"Q{i}"]) if back else s[f"Q{i}"]
            x = x @ Q if i else T(Q) @ x
        return x

    def update(self, g, p, s, k):
        g, began = ops.reshape(g, k.plan["shape"]), k.t > 1
        turned, t = self.rotate(g, s, k), ops.maximum(k.t - 1, 1.0)
        m = ops.where(began, lerp(g, s["m"], k.beta_1), s["m"])
        v = ops.where(began, lerp(turned * turned, s["v"], k.beta_2), s["v"])
        rate = k.lr * ops.sqrt(debias(k.beta_2, t)) / debias(k.beta_1, t)
        root = ops.sqrt(v + RESOLUTION**2 * ops.max(v))
        u = self.rotate(self.rotate(m, s, k) / (root + k.epsilon), s, k, back=True)
        step = rate * ops.reshape(u, p.shape)
        step = step + k.lr * k.decay * (p - step)
        return ops.where(began, step, 0.0), s | {"m": m, "v": v} | self.factors(g, s, k)
