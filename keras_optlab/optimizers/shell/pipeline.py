"""One `apply`: unscale, reduce, accumulate, clip, shared, refresh, decay, formula, constraint, average."""

import math
import warnings
from types import SimpleNamespace

from keras import ops

from keras_optlab.optimizers.shell import keras_seams as seams
from keras_optlab.optimizers.shell import run
from keras_optlab.optimizers.shell.formula import overrides
from keras_optlab.optimizers.shell.hyper import Schedule
from keras_optlab.optimizers.shell.state import complete, overwritten, path

# Smaller weights gain nothing from XLA and cost compile time: they are stacked instead.
SMALL = 2**14
# A larger cluster's temporary memory is one slab that is page-faulted anew at every step.
LARGEST_CLUSTER = 4_000_000


def apply(optimizer, gradients: dict) -> None:
    """`gradients`: {index: gradient or None}."""
    variables = seams.all_variables(optimizer)
    given = {i: run.dense(g, variables[i]) for i, g in gradients.items() if g is not None}
    missing = [path(variables[i]) for i, g in gradients.items() if g is None]
    if wrong := [f"{path(variables[i])} {tuple(variables[i].shape)}: {tuple(gradients[i].shape)}" for i, g in given.items() if g is None]:
        raise ValueError(f"A gradient of `{type(optimizer).__name__}.apply` must have its weight's shape. Received: {', '.join(wrong)}")
    if not given:
        raise ValueError(f"No gradients provided for any variable of `{type(optimizer).__name__}`: does the loss depend on {missing[:3]}?")
    if missing:
        warnings.warn(f"Gradients do not exist for variables {missing} when minimizing the loss: they are left as they are.", stacklevel=3)
    with run.without_gradients():
        run.on_each_replica(lambda *reduced: accumulate(optimizer, dict(zip(given, reduced))), list(given.values()), seams.micro_steps(optimizer))


def accumulate(optimizer, G: dict) -> None:
    steps, n = seams.micro_steps(optimizer), optimizer.gradient_accumulation_steps or 1
    if optimizer.loss_scale_factor:
        G = {i: g if overwritten(seams.all_variables(optimizer)[i]) else g / optimizer.loss_scale_factor for i, g in G.items()}
    if n == 1:
        Update(optimizer).run(G)
        return
    sums = optimizer.state.sums
    keeps_largest = [i for i in G if overwritten(seams.all_variables(optimizer)[i])]
    totals = {i: ops.maximum(sums[i], g) if i in keeps_largest else run.read(sums[i]) + g for i, g in G.items()}

    def update():
        Update(optimizer).run({i: x if i in keeps_largest else x / n for i, x in totals.items()})
        for i in totals:
            sums[i].assign(ops.zeros(sums[i].shape))

    def wait():
        for i, total in totals.items():
            sums[i].assign(total)
        steps.assign(steps + 1)

    run.branch((steps + 1) % n == 0, update, wait, everything(optimizer))


def everything(optimizer) -> list:
    return [*seams.all_variables(optimizer), *optimizer.variables]


def take_gradient(optimizer, grad) -> list:
    """Folds the formulas' `gradient` hooks, outermost first: what a formula evaluates is the gradient that those outside it define."""
    update = Update(optimizer)
    everywhere = range(len(update.variables))
    for formula, k in zip(update.state.formulas, update.known):
        if overrides(formula, "gradient"):
            mine = [i for i in everywhere if formula in update.state.rules[i].chain]
            grad = _bound(formula, mine, [update.slots(i) for i in mine], k, grad)
    return grad([update.weight(i) for i in everywhere])


def _bound(formula, mine, S, k, outside):
    def grad(P):
        G = []

        def evaluate(Q):
            """The gradients of this formula's weights, with them at Q and all others at P."""
            at = dict(zip(mine, Q))
            G[:] = outside([at.get(i, p) for i, p in enumerate(P)])
            return [G[i] for i in mine]

        new = dict(zip(mine, formula.gradient(SimpleNamespace(grad=evaluate), [P[i] for i in mine], S, k.c, k)))
        return [new.get(i, g) for i, g in enumerate(G)]

    return grad


def is_zero(x) -> bool:
    return isinstance(x, (int, float)) and x == 0


class Update:
    """One real update. `known[j]` is the k of formula j before it is bound to a weight."""

    def __init__(self, optimizer):
        self.optimizer, self.state, self.variables = optimizer, optimizer.state, seams.all_variables(optimizer)
        count, rate = optimizer.iterations, ops.cast(optimizer.learning_rate, "float32")
        self.t = ops.cast(count, "float32") + 1
        at = lambda x: ops.cast(x(count), "float32") if isinstance(x, Schedule) else x
        self.decay = at(optimizer.weight_decay)
        self.known = [
            SimpleNamespace(
                **{n: at(getattr(f, n)) for n in f.hypers if n != "learning_rate"} | dict(t=self.t, lr=rate, c={n: run.read(x) for n, x in c.items()})
            )
            for f, c in zip(self.state.formulas, self.state.scalars)
        ]

    def run(self, G: dict) -> None:
        for i in [i for i in G if overwritten(self.variables[i])]:
            v = self.variables[i]
            v.assign(ops.cast(G.pop(i), v.dtype))
        G, go = self.share(self.clip(G))
        steps, n = seams.micro_steps(self.optimizer), self.optimizer.gradient_accumulation_steps or 1
        if go:  # an update that is refused is not counted: its window starts again
            run.branch(ops.all(ops.stack(go)), lambda: self.step(G), lambda: steps.assign(steps + 1 - n), everything(self.optimizer))
        else:
            self.step(G)

    def step(self, G: dict) -> None:
        for k, scalars in zip(self.known, self.state.scalars):
            for name, variable in scalars.items():
                variable.assign(k.c[name])
        self.refresh(G)
        plain, clusters = self.divide(list(G))
        for cluster in clusters:
            run.compiled(lambda: [self.move(i, G[i], run.weight_first if self.state.rules[i].weight_first else list) for i in cluster])
        for group in self.alike(plain) if run.stacks() else [[i] for i in plain]:
            one = lambda *values: self.moved(group[0], *values)
            if len(group) == 1 or not run.stacked(one, [G[i] for i in group], [self.own(i) for i in group]):
                for i in group:
                    self.state.kinds[i] = i
                    self.move(i, G[i])
        self.start_idle(G)
        steps = seams.micro_steps(self.optimizer)
        steps.assign(steps + 1)

    def clip(self, G: dict) -> dict:
        o = self.optimizer
        norm = lambda x: ops.sqrt(ops.sum(x * x))
        if o.clipnorm:
            return {i: g * (o.clipnorm / ops.maximum(norm(g), o.clipnorm)) for i, g in G.items()}
        if o.global_clipnorm:
            scale = o.global_clipnorm / ops.maximum(ops.sqrt(sum(ops.sum(g * g) for g in G.values())), o.global_clipnorm)
            return {i: g * scale for i, g in G.items()}
        if o.clipvalue:
            clipped = {i: ops.clip(g, -o.clipvalue, o.clipvalue) for i, g in G.items()}
            if any(overrides(f, "shared") for f in self.state.formulas):  # what may refuse the update must see an infinity
                return {i: ops.where(ops.isfinite(g), clipped[i], g) for i, g in G.items()}
            return clipped
        return G

    def share(self, G: dict) -> tuple[dict, list]:
        go = []
        for formula, k in zip(self.state.formulas, self.known):
            mine = [i for i in G if formula in self.state.rules[i].chain]
            if mine and overrides(formula, "shared"):
                k.c, new, goes = formula.shared([G[i] for i in mine], [self.weight(i) for i in mine], [self.slots(i) for i in mine], k.c, k)
                G = G | dict(zip(mine, new))
                go += [] if goes is True else [goes]
        return G, go

    def refresh(self, G: dict) -> None:
        periods: dict = {}
        for i in G:
            for depth, formula in enumerate(self.state.rules[i].chain):
                if overrides(formula, "refresh"):
                    periods.setdefault(formula.refresh_every, []).append((i, depth))
        for every, places in periods.items():

            def refresh():
                for i, depth in places:
                    formula, slots = self.state.rules[i].chain[depth], self.slots(i)
                    self.keep(i, complete(formula, "refresh", formula.refresh(G[i], self.weight(i), slots, self.bound(i)[depth]), slots))

            run.branch((self.t - 1) % every == 0, refresh, lambda: None, everything(self.optimizer))

    def divide(self, indices: list[int]) -> tuple[list[int], list[list[int]]]:
        """The weights that move as plain code, and the clusters that are worth compiling."""
        plain, clusters, size = [], [], math.inf
        for i in indices:
            n = math.prod(self.variables[i].shape)
            if n < SMALL or not self.state.rules[i].fused or not run.compiles():
                plain.append(i)
                continue
            if size + n > LARGEST_CLUSTER:
                clusters.append([])
                size = 0
            clusters[-1].append(i)
            size += n
        return plain, clusters

    def alike(self, indices: list[int]) -> list[list[int]]:
        """Small weights of one kind stand together."""
        groups: dict = {}
        for i in indices:
            groups.setdefault(self.state.kinds[i] if math.prod(self.variables[i].shape) < SMALL else i, []).append(i)
        return list(groups.values())

    def own(self, i: int) -> list:
        """The weight, its slots, and its average if it has one."""
        return [self.variables[i], *self.state.slots[i].values(), *([self.state.average[i]] if i in self.state.average else [])]

    def move(self, i: int, g, ordered=list) -> None:
        new = self.moved(i, g, *[run.read(v) for v in self.own(i)])
        run.assign(self.own(i), ordered(new))

    def moved(self, i: int, g, p, *state) -> list:
        """What `own` is after this step by the rule of weight i, from the values before it."""
        o, v, rule, ks, names = self.optimizer, self.variables[i], self.state.rules[i], self.bound(i), list(self.state.slots[i])
        p, average = ops.cast(p, "float32"), list(state[len(names) :])
        s = self.begun(i, p, dict(zip(names, state)))
        if rule.chain[-1].decay == "decoupled" and not is_zero(ks[-1].decay):
            p = p - ks[-1].lr * ks[-1].decay * p
        d, new = rule.update(g, p, s, ks)
        p = p - d
        if v.constraint is not None:
            p = v.constraint(p)
        if average:
            average = [ops.where(self.t == 1, p, o.ema_momentum * average[0] + (1 - o.ema_momentum) * p)]
            if o.ema_overwrite_frequency:
                p = ops.where(self.t % o.ema_overwrite_frequency == 0, average[0], p)
        return [ops.cast(p, v.dtype), *[new[n] for n in names], *average]

    def start_idle(self, G: dict) -> None:
        """Weights without a gradient still start at the first update: they may be unfrozen later."""
        for i in set(range(len(self.variables))) - G.keys():
            starting = [self.state.slots[i][n] for n, spec in self.state.specs[i].items() if spec.start == "param"]
            for variable in starting + [average for j, average in self.state.average.items() if j == i]:
                variable.assign(ops.where(self.t == 1, self.weight(i), run.read(variable)))

    def keep(self, i: int, new: dict) -> None:
        slots = self.state.slots[i]
        run.assign(slots.values(), [new[name] for name in slots])

    def weight(self, i: int):
        return ops.cast(run.read(self.variables[i]), "float32")

    def slots(self, i: int) -> dict:
        return self.begun(i, self.weight(i), {n: run.read(x) for n, x in self.state.slots[i].items()})

    def begun(self, i: int, p, values: dict) -> dict:
        """A "param" slot is the weight itself until the first update, because weights may be loaded after `build`."""
        return {n: ops.where(self.t == 1, p, x) if self.state.specs[i][n].start == "param" else x for n, x in values.items()}

    def bound(self, i: int) -> list:
        """k for every formula around weight i, outermost first."""
        rule = self.state.rules[i]
        decay = 0.0 if self.decay is None else self.decay * rule.decay
        known = [self.known[self.state.formulas.index(f)] for f in rule.chain]
        return [SimpleNamespace(**vars(k) | dict(lr=k.lr * rule.lr, decay=decay, plan=plan)) for k, plan in zip(known, rule.plans)]
