"""The rules of README.md in NumPy, float64.

`rule(p, f, h)` is a generator: p the weights by name, f(p, t) their gradients at step t = 1, 2, ..., h the hyperparameters;
it yields what is recorded after each step.
"""

import numpy as np
import problem


def trajectory(rule, data: dict, h: dict, steps: int = problem.STEPS) -> dict:
    calls = rule(problem.start(data), lambda p, t: problem.gradient(data, p, t - 1), h)
    history = [next(calls) for _ in range(steps)]
    return {key: np.stack([step[key] for step in history]) for key in history[0]}


def points(p: dict, prefix="p_") -> dict:
    return {prefix + n: x for n, x in p.items()}


def zeros(p: dict) -> dict:
    return {n: np.zeros_like(x) for n, x in p.items()}


def lerp(new, old, keep):
    return keep * old + (1 - keep) * new


def moments(g, m, v, h):
    return lerp(g, m, h["beta_1"]), lerp(g * g, v, h["beta_2"])


def adamw(p, f, h):
    lr, m, v, t = h["learning_rate"], zeros(p), zeros(p), 0
    while True:
        t, g = t + 1, f(p, t + 1)
        for n in p:
            m[n], v[n] = moments(g[n], m[n], v[n], h)
            u = m[n] / (1 - h["beta_1"] ** t) / (np.sqrt(v[n] / (1 - h["beta_2"] ** t)) + h["epsilon"])
            p[n] = (1 - lr * h["weight_decay"]) * p[n] - lr * u
        yield points(p)


def sgdw(p, f, h):
    lr, m, t = h["learning_rate"], zeros(p), 0
    while True:
        t, g = t + 1, f(p, t + 1)
        for n in p:
            m[n] = h["momentum"] * m[n] + g[n]
            u = g[n] + h["momentum"] * m[n] if h["nesterov"] else m[n]
            p[n] = (1 - lr * h["weight_decay"]) * p[n] - lr * u
        yield points(p)


def nadamw(p, f, h):
    lr, m, v, t, b = h["learning_rate"], zeros(p), zeros(p), 0, h["beta_1"]
    while True:
        t, g = t + 1, f(p, t + 1)
        for n in p:
            m[n], v[n] = moments(g[n], m[n], v[n], h)
            ahead = b * m[n] / (1 - b ** (t + 1)) + (1 - b) * g[n] / (1 - b**t)
            p[n] = (1 - lr * h["weight_decay"]) * p[n] - lr * ahead / (np.sqrt(v[n] / (1 - h["beta_2"] ** t)) + h["epsilon"])
        yield points(p)


def lion(p, f, h):
    lr, m, t = h["learning_rate"], zeros(p), 0
    while True:
        t, g = t + 1, f(p, t + 1)
        for n in p:
            p[n] = (1 - lr * h["weight_decay"]) * p[n] - lr * np.sign(lerp(g[n], m[n], h["beta_1"]))
            m[n] = lerp(g[n], m[n], h["beta_2"])
        yield points(p)


def lamb(p, f, h):
    lr, m, v, t = h["learning_rate"], zeros(p), zeros(p), 0

    def norm(x):
        return np.sqrt(np.sum(x * x))

    while True:
        t, g = t + 1, f(p, t + 1)
        for n in p:
            m[n], v[n] = moments(g[n], m[n], v[n], h)
            u = m[n] / (1 - h["beta_1"] ** t) / (np.sqrt(v[n] / (1 - h["beta_2"] ** t)) + h["epsilon"]) + h["weight_decay"] * p[n]
            ratio = norm(p[n]) / norm(u) if norm(p[n]) > 0 and norm(u) > 0 else 1.0
            p[n] = p[n] - lr * ratio * u
        yield points(p)


def schedulefreeadamw(p, f, h):
    x, z, v, t, total, largest, b = p, dict(p), zeros(p), 0, 0.0, 0.0, h["beta_1"]
    while True:
        t += 1
        lr = h["learning_rate"] * min(1.0, t / h["warmup_steps"] if h["warmup_steps"] else 1.0)
        largest = max(largest, lr)
        weight = largest**2
        total += weight
        y = {n: (1 - b) * z[n] + b * x[n] for n in p}
        g = f(y, t)
        for n in p:
            v[n] = lerp(g[n] * g[n], v[n], h["beta_2"])
            z[n] = z[n] - lr * (g[n] / (np.sqrt(v[n] / (1 - h["beta_2"] ** t)) + h["epsilon"]) + h["weight_decay"] * y[n])
            x[n] = x[n] + weight / total * (z[n] - x[n])
        yield points(x) | points(z, "z_")


def prodigy(p, f, h):
    m, v, r, start, lr, b1, b2 = zeros(p), zeros(p), zeros(p), dict(p), h["learning_rate"], h["beta_1"], h["beta_2"]
    b3, d, numerator, t = b2**0.5, h["d0"], 0.0, 0
    while True:
        t, g, step = t + 1, f(p, t + 1), d * lr
        numerator = b3 * numerator + d / h["d0"] * step * sum(np.sum(g[n] * (start[n] - p[n])) for n in p)
        for n in p:
            m[n], v[n] = b1 * m[n] + (1 - b1) * d * g[n], b2 * v[n] + (1 - b2) * d * d * g[n] ** 2
            r[n] = b3 * r[n] + d / h["d0"] * step * g[n]
        d = max(d, h["d_coef"] * numerator / sum(np.sum(np.abs(r[n])) for n in p))
        for n in p:
            p[n] = (1 - step * h["weight_decay"]) * p[n] - step * m[n] / (np.sqrt(v[n]) + d * h["epsilon"])
        yield points(p) | {"d": d}


class Bases:
    """SOAP's factors and bases of one matrix; a side longer than `limit` keeps the identity, a vector has no sides."""

    def __init__(self, g, h):
        self.h, self.sides = h, [i for i in range(g.ndim) if g.ndim > 1 and g.shape[i] <= h["largest"]]
        self.F = {i: np.zeros((g.shape[i],) * 2) for i in self.sides}
        self.add(g)
        self.Q = {i: np.linalg.eigh(self.F[i])[1][:, ::-1] for i in self.sides}

    def add(self, g):
        for i in self.sides:
            self.F[i] = lerp(g @ g.T if i == 0 else g.T @ g, self.F[i], self.h["beta_2"])

    def turn(self, x, back=False):
        for i in self.sides:
            q = self.Q[i].T if back else self.Q[i]
            x = q.T @ x if i == 0 else x @ q
        return x

    def refresh(self, v):
        for i in self.sides:
            order = np.argsort(-np.diag(self.Q[i].T @ self.F[i] @ self.Q[i]), kind="stable")
            v = np.take(v, order, axis=i)
            self.Q[i] = np.linalg.qr(self.F[i] @ self.Q[i][:, order])[0]
        return v


def soap(p, f, h):
    def flat(x):
        return x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x

    m, v, lr, b1, b2 = zeros(p), {n: flat(x) for n, x in zeros(p).items()}, h["learning_rate"], h["beta_1"], h["beta_2"]
    bases = {n: Bases(flat(g), h) for n, g in f(p, 1).items()}
    yield points(p)
    t = 0
    while True:
        t, g = t + 1, f(p, t + 2)
        for n, basis in bases.items():
            m[n] = lerp(g[n], m[n], b1)
            v[n] = lerp(basis.turn(flat(g[n])) ** 2, v[n], b2)
            u = basis.turn(basis.turn(flat(m[n])) / (np.sqrt(v[n]) + h["epsilon"]), back=True).reshape(p[n].shape)
            p[n] = (1 - lr * h["weight_decay"]) * (p[n] - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * u)
            basis.add(flat(g[n]))
            if (t + 1) % h["refresh_every"] == 0:
                v[n] = basis.refresh(v[n])
        yield points(p)


def orthogonalize(x, steps=5, a=3.4445, b=-4.7750, c=2.0315):
    x = x / (np.sqrt(np.sum(x * x)) + 1e-7)
    for _ in range(steps):
        x = a * x + (b * np.eye(len(x)) + c * x @ x.T) @ (x @ x.T) @ x
    return x


def muon(p, f, h):
    m, lr, b, t = zeros(p), h["learning_rate"], h["momentum"], 0
    while True:
        t, g = t + 1, f(p, t + 1)
        for n in p:
            m[n] = lerp(g[n], m[n], b)
            u = (lerp(g[n], m[n], b) if h["nesterov"] else m[n]).reshape(-1, p[n].shape[-1])
            rows, columns = u.shape
            scale = 0.2 * max(rows, columns) ** 0.5
            p[n] = (1 - lr * h["weight_decay"]) * p[n] - lr * scale * orthogonalize(u).reshape(p[n].shape)
        yield points(p)


def lookahead(inner):
    def rule(p, f, h):
        slow = dict(p)
        for t, _ in enumerate(inner(p, f, h), 1):
            if t % h["k"] == 0:
                for n in p:
                    p[n] = slow[n] = slow[n] + h["alpha"] * (p[n] - slow[n])
            yield points(p)

    return rule


def cautious_adamw(p, f, h):
    lr, m, v, t = h["learning_rate"], zeros(p), zeros(p), 0
    while True:
        t, g = t + 1, f(p, t + 1)
        for n in p:
            m[n], v[n] = moments(g[n], m[n], v[n], h)
            u = m[n] / (1 - h["beta_1"] ** t) / (np.sqrt(v[n] / (1 - h["beta_2"] ** t)) + h["epsilon"])
            mask = (u * g[n] > 0).astype("float64")
            p[n] = (1 - lr * h["weight_decay"]) * p[n] - lr * u * mask / max(mask.mean(), 1e-3)
        yield points(p)


def sam(inner):
    def rule(p, f, h):
        def worst(p, t):
            g = f(p, t)
            norm = np.sqrt(sum(np.sum(x * x) for x in g.values())) + 1e-12
            return f({n: p[n] + h["rho"] * g[n] / norm for n in p}, t)

        return inner(p, worst, h)

    return rule


def dynamic_map(signed: bool):
    """Dynamic tree quantization: decade i = 0..6 is cut into 2^i (unsigned 2^(i+1)) equal parts, whose middles are the codes; and 0 and 1."""
    codes = [0.0, 1.0]
    for i in range(7):
        edges = np.linspace(0.1, 1, 2 ** (i if signed else i + 1) + 1)
        middles = 10.0 ** (i - 6) * (edges[:-1] + edges[1:]) / 2
        codes += [*middles, *(-middles if signed else [])]
    return np.sort(codes)


def stored(x, codes):
    """What is left of x after 8 bits: per block of 256 in C order the nearest code times the block's largest magnitude."""
    flat = x.ravel().copy()
    for block in np.split(flat, range(256, flat.size, 256)):
        scale = np.max(np.abs(block))
        block[:] = scale * codes[np.argmin(np.abs(block[:, None] / scale - codes), axis=1)]
    return flat.reshape(x.shape)


def adam8bit(p, f, h):
    lr, m, v, t, signed, unsigned = h["learning_rate"], zeros(p), zeros(p), 0, dynamic_map(True), dynamic_map(False)
    while True:
        t, g = t + 1, f(p, t + 1)
        for n in p:
            m[n], v[n] = moments(g[n], m[n], v[n], h)
            u = m[n] / (1 - h["beta_1"] ** t) / (np.sqrt(v[n] / (1 - h["beta_2"] ** t)) + h["epsilon"])
            p[n] = (1 - lr * h["weight_decay"]) * p[n] - lr * u
            m[n], v[n] = stored(m[n], signed), stored(v[n], unsigned)
        yield points(p)
