"""Runs other people's optimizers on the problem of problem.py and writes what they do to *.npz; README.md says which rule each follows.

    GOLDENS_AUTHORS=FOLDER python make.py [NAME ...]       e.g. `python make.py adamw lion`; without a name, all

Needs torch, pytorch_optimizer, optax, schedulefree, bitsandbytes, and for Prodigy, SOAP, Cautious and SAM clones of the
authors' repositories, by name, in FOLDER (README.md lists the commits).
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import optax
import problem
import pytorch_optimizer
import rules
import schedulefree
import torch

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)
HERE = Path(__file__).parent
AS_IS = contextlib.nullcontext


def authors(folder: str, module: str):
    """A module of an authors' repository, as a member of a package, so that its relative imports work."""
    root = Path(os.environ["GOLDENS_AUTHORS"], folder)
    package = "authors_" + folder.lower().replace("-", "_")
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(root)]
    return importlib.import_module(f"{package}.{module}")


def commit(folder: str) -> str:
    return subprocess.check_output(["git", "-C", Path(os.environ["GOLDENS_AUTHORS"], folder), "rev-parse", "HEAD"], text=True).strip()


class Torch:
    """One torch optimizer over the weights; `to` and `back` change the layout between ours and torch's where it matters."""

    def __init__(self, build, to=lambda n, x: x, back=lambda n, x: x, record=lambda self: {}):
        self.build, self.to, self.back, self.record = build, to, back, record

    def start(self, weights: dict, dtype: str):
        torch.set_default_dtype(getattr(torch, dtype))
        self.p = {n: torch.nn.Parameter(torch.tensor(self.to(n, p).copy())) for n, p in weights.items()}
        self.optimizer = self.build(list(self.p.values()))

    def weights(self) -> dict:
        return {n: self.back(n, p.detach().numpy()).copy() for n, p in self.p.items()}

    def set_gradient(self, gradient):
        for n, g in gradient(self.weights()).items():
            self.p[n].grad = torch.tensor(self.to(n, g).copy())

    def step(self, gradient):
        self.set_gradient(gradient)
        self.optimizer.step()

    def results(self) -> dict:
        return {f"p_{n}": p for n, p in self.weights().items()} | self.record(self)


class Sam(Torch):
    def step(self, gradient):
        self.set_gradient(gradient)
        self.optimizer.step(lambda: self.set_gradient(gradient))


class Soap(Torch):
    """The authors' code turns the bases when their step count is a multiple of the frequency; here it is told to at every n-th call, one call earlier."""

    def __init__(self, build, to, back, n):
        super().__init__(build, to, back)
        self.n = n

    def start(self, weights, dtype):
        super().start(weights, dtype)
        self.calls = 0

    def step(self, gradient):
        self.calls += 1
        for state in self.optimizer.state.values():
            state["precondition_frequency"] = 1 if self.calls % self.n == 0 else 10**9
        super().step(gradient)


class ScheduleFree(Torch):
    """Trains at y, rests at x: p_* is the averaged point x, z_* the fast one."""

    def start(self, weights, dtype):
        super().start(weights, dtype)
        self.optimizer.train()

    def results(self):
        self.optimizer.eval()
        found = {f"p_{n}": p for n, p in self.weights().items()} | {f"z_{n}": self.optimizer.state[p]["z"].numpy().copy() for n, p in self.p.items()}
        self.optimizer.train()
        return found


class Optax:
    def __init__(self, transform):
        self.transform = transform

    def start(self, weights: dict, dtype: str):
        self.p = jax.tree.map(jax.numpy.asarray, weights)
        self.state = self.transform.init(self.p)

    def step(self, gradient):
        g = gradient({n: np.asarray(p) for n, p in self.p.items()})
        update, self.state = self.transform.update(jax.tree.map(jax.numpy.asarray, g), self.state, self.p)
        self.p = optax.apply_updates(self.p, update)

    def results(self) -> dict:
        return {f"p_{n}": np.asarray(p) for n, p in self.p.items()}


class OptaxLookahead(Optax):
    """Records the fast point; after a synchronization the slow one equals it."""

    def start(self, weights, dtype):
        self.p = optax.LookaheadParams.init_synced(jax.tree.map(jax.numpy.asarray, weights))
        self.state = self.transform.init(self.p)

    def step(self, gradient):
        g = gradient({n: np.asarray(p) for n, p in self.p.fast.items()})
        update, self.state = self.transform.update(jax.tree.map(jax.numpy.asarray, g), self.state, self.p)
        self.p = optax.apply_updates(self.p, update)

    def results(self):
        return {f"p_{n}": np.asarray(p) for n, p in self.p.fast.items()}


def run(runner, data: dict, dtype: str, steps: int = problem.STEPS, around=AS_IS) -> dict:
    """What the optimizer's weights (and whatever else it records) are after each step, stacked over the steps."""
    with around(dtype):
        runner.start(problem.start(data, dtype), dtype)
        history = []
        for t in range(steps):
            runner.step(lambda weights, t=t: problem.gradient(data, weights, t))
            history.append(runner.results())
    return {key: np.stack([h[key] for h in history]) for key in history[0]}


def far(a: dict, b: dict, match="") -> float:
    return max(float(np.max(np.abs(a[key].astype("float64") - b[key]))) for key in b if key.startswith(match))


def save(name, oracle, variants, data=None, around=AS_IS, keep=slice(None), dtype="float64", extra=(), agree=1e-12, floor=1e-5):
    """Runs every variant (name: (hyperparameters, runner, rule)) in both precisions and against its rule, and writes the file.

    Args: `keep` the steps stored, `extra` further arrays, `agree` the largest allowed difference between oracle and rule, `floor` the smallest tolerance.
    """
    data = problem.make() if data is None else data
    meta = {"optimizer": name, "steps": [int(t) for t in np.arange(1, problem.STEPS + 1)[keep]], "run_in": dtype, "variants": {}}
    arrays = dict(data) | dict(extra)
    for variant, (hyper, runner, rule) in variants.items():
        exact, single = run(runner, data, dtype, around=around), run(runner, data, "float32", around=around)
        twin = rules.trajectory(rule, data, hyper)
        error, gap = far(single, exact, "p_"), far(twin, {k: exact[k] for k in twin})
        assert gap < agree, f"{name}/{variant}: the oracle and the rule in rules.py differ by {gap:.1e}"
        tolerance = float(f"{max(floor, 10 * error, 10 * gap):.0e}")
        meta["variants"][variant] = {"oracle": oracle, "hyperparameters": hyper, "tolerance": tolerance, "float32_error": error}
        arrays |= {f"{variant}/{key}": x[keep].astype("float32") for key, x in exact.items() if key[0] != "z" or variant == "warmup"}
        print(f"{name:18s}{variant:12s} float32 - {dtype} {error:.1e}   oracle - rule {gap:.1e}   tolerance {tolerance:.0e}", flush=True)
    np.savez_compressed(HERE / f"{name}.npz", meta=np.array(json.dumps(meta)), **arrays)


def adam(h: dict) -> dict:
    """Our hyperparameters as torch's optimizers name them."""
    return {"lr": h["learning_rate"], "betas": (h["beta_1"], h["beta_2"]), "eps": h["epsilon"], "weight_decay": h["weight_decay"]}


def torch_names(h: dict) -> dict:
    return {"lr" if n == "learning_rate" else n: value for n, value in h.items()}


def hypers(defaults: dict, **variants: dict) -> dict:
    return {name: defaults | changes for name, changes in variants.items()}


ADAM = dict(learning_rate=0.02, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0)


def adamw():
    table = hypers(ADAM, plain={}, decay=dict(weight_decay=0.2), epsilon=dict(beta_1=0.8, beta_2=0.95, epsilon=0.1, weight_decay=0.05))
    oracle = f"torch.optim.AdamW, torch {torch.__version__}"
    save("adamw", oracle, {v: (h, Torch(lambda p, h=h: torch.optim.AdamW(p, **adam(h))), rules.adamw) for v, h in table.items()})


def sgdw():
    defaults = dict(learning_rate=0.02, momentum=0.9, nesterov=False, weight_decay=0.2)
    table = hypers(defaults, plain=dict(momentum=0.0), momentum={}, nesterov=dict(nesterov=True))

    def build(h):
        return Torch(lambda p: pytorch_optimizer.SGDW(p, **torch_names(h)))

    save("sgdw", f"pytorch_optimizer.SGDW, pytorch_optimizer {version('pytorch_optimizer')}", {v: (h, build(h), rules.sgdw) for v, h in table.items()})


def nadamw():
    table = hypers(ADAM, plain={}, decay=dict(weight_decay=0.2), epsilon=dict(beta_1=0.8, beta_2=0.95, epsilon=0.1, weight_decay=0.05))

    def build(h):
        return Optax(optax.nadamw(h["learning_rate"], b1=h["beta_1"], b2=h["beta_2"], eps=h["epsilon"], weight_decay=h["weight_decay"]))

    save("nadamw", f"optax.nadamw, optax {optax.__version__}", {v: (h, build(h), rules.nadamw) for v, h in table.items()})


def lion():
    table = hypers(dict(learning_rate=0.02, beta_1=0.9, beta_2=0.99, weight_decay=0.0), plain={}, decay=dict(weight_decay=0.3, beta_1=0.7, beta_2=0.95))

    def build(h):
        return Optax(optax.lion(h["learning_rate"], b1=h["beta_1"], b2=h["beta_2"], weight_decay=h["weight_decay"]))

    save("lion", f"optax.lion, optax {optax.__version__}", {v: (h, build(h), rules.lion) for v, h in table.items()})


def lamb():
    table = hypers(ADAM | dict(epsilon=1e-6), plain={}, decay=dict(weight_decay=0.5), epsilon=dict(beta_1=0.8, beta_2=0.95, epsilon=0.1, weight_decay=0.05))

    def build(h):
        return Optax(optax.lamb(h["learning_rate"], b1=h["beta_1"], b2=h["beta_2"], eps=h["epsilon"], weight_decay=h["weight_decay"]))

    save("lamb", f"optax.lamb, optax {optax.__version__}", {v: (h, build(h), rules.lamb) for v, h in table.items()})


def schedulefreeadamw():
    epsilon = dict(warmup_steps=5, beta_1=0.95, beta_2=0.99, epsilon=0.1)
    table = hypers(ADAM | dict(warmup_steps=0), plain={}, warmup=dict(warmup_steps=10, weight_decay=0.2), epsilon=epsilon)

    def build(h):
        return ScheduleFree(lambda p: schedulefree.AdamWScheduleFree(p, **adam(h), warmup_steps=h["warmup_steps"]))

    oracle = f"schedulefree.AdamWScheduleFree, schedulefree {version('schedulefree')}"
    save("schedulefreeadamw", oracle, {v: (h, build(h), rules.schedulefreeadamw) for v, h in table.items()})


def prodigy():
    epsilon = dict(d0=1e-2, d_coef=2.0, beta_1=0.8, beta_2=0.99, epsilon=0.1)
    defaults = ADAM | dict(learning_rate=1.0, d0=1e-3, d_coef=1.0)
    table = hypers(defaults, plain=dict(d_coef=0.5), decay=dict(weight_decay=0.2, learning_rate=0.5), epsilon=epsilon)

    def record(self):
        return {"d": np.array(self.optimizer.param_groups[0]["d"])}

    def build(h):
        return Torch(lambda p: authors("prodigy", "prodigyopt.prodigy").Prodigy(p, **adam(h), d0=h["d0"], d_coef=h["d_coef"]), record=record)

    oracle = f"prodigyopt.Prodigy, github.com/konstmish/prodigy {commit('prodigy')}"
    save("prodigy", oracle, {v: (h, build(h), rules.prodigy) for v, h in table.items()})


@contextlib.contextmanager
def double_soap(dtype):
    """The authors compute bases in float32 whatever the weights are; in a float64 run, `float` means float64."""
    kept = torch.float, torch.Tensor.float
    if dtype == "float64":
        torch.float, torch.Tensor.float = torch.float64, torch.Tensor.double
    try:
        yield
    finally:
        torch.float, torch.Tensor.float = kept


def soap():
    defaults = dict(learning_rate=0.02, beta_1=0.95, beta_2=0.95, epsilon=1e-8, weight_decay=0.0, refresh_every=1, largest=5)
    epsilon = dict(refresh_every=3, beta_1=0.9, beta_2=0.8, epsilon=0.1)
    table = hypers(defaults, every1={}, every5=dict(refresh_every=5, weight_decay=0.2), epsilon=epsilon)
    data = problem.make({"kernel": (5, 5), "conv": (3, 1, 2, 3)})

    def to(n, x):
        return x.reshape(-1, x.shape[-1])

    def back(n, x):
        return x.reshape(data[f"p0_{n}"].shape)

    def more(h):
        return {"max_precond_dim": h["largest"]}

    def build(h):
        return Soap(lambda p: authors("SOAP", "soap").SOAP(p, **adam(h), **more(h)), to, back, h["refresh_every"])

    oracle = f"SOAP, github.com/nikhilvyas/SOAP {commit('SOAP')}"
    save("soap", oracle, {v: (h, build(h), rules.soap) for v, h in table.items()}, data, double_soap, agree=1e-9)


@contextlib.contextmanager
def full_precision_muon(dtype):
    """Newton-Schulz in the precision of the weights; the oracle rounds to bfloat16 first."""
    kept, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, torch.Tensor.clone
    try:
        yield
    finally:
        torch.Tensor.bfloat16 = kept


def muon():
    defaults = dict(learning_rate=0.02, momentum=0.95, nesterov=True, weight_decay=0.2)
    table = hypers(defaults, nesterov={}, plain=dict(nesterov=False, weight_decay=0.0, momentum=0.8))
    data = problem.make({"kernel": (6, 4), "wide": (4, 6), "conv": (3, 1, 2, 3)})

    def to(n, x):
        return x.reshape(-1, x.shape[-1]).T

    def back(n, x):
        return x.T.reshape(data[f"p0_{n}"].shape)

    def build(h):
        return Torch(lambda p: torch.optim.Muon(p, **torch_names(h), adjust_lr_fn="match_rms_adamw"), to, back)

    variants = {v: (h, build(h), rules.muon) for v, h in table.items()}
    save("muon", f"torch.optim.Muon(adjust_lr_fn='match_rms_adamw'), torch {torch.__version__}", variants, data, full_precision_muon, agree=1e-6)
    for v, (_, runner, _) in variants.items():
        rounded, full = run(runner, data, "float32"), run(runner, data, "float64", around=full_precision_muon)
        print(f"muon {v}: bfloat16 as the oracle has it moves the weights by {far(rounded, full):.1e}")


def lookahead():
    sgd = dict(learning_rate=0.02, momentum=0.9, nesterov=False, weight_decay=0.0, k=5, alpha=0.5)
    adam = ADAM | dict(weight_decay=0.2, k=3, alpha=0.8)
    inner = {
        "sgd": (sgd, optax.sgd(sgd["learning_rate"], momentum=sgd["momentum"]), rules.sgdw),
        "adamw": (adam, optax.adamw(adam["learning_rate"], weight_decay=adam["weight_decay"]), rules.adamw),
    }
    variants = {v: (h, OptaxLookahead(optax.lookahead(fast, h["k"], h["alpha"])), rules.lookahead(rule)) for v, (h, fast, rule) in inner.items()}
    save("lookahead", f"optax.lookahead, optax {optax.__version__}", variants)


def cautious():
    table = hypers(ADAM | dict(beta_2=0.95, epsilon=1e-12), adamw={}, adamw_decay=dict(weight_decay=0.2, learning_rate=0.05))

    def build(h):
        return Torch(lambda p: authors("C-Optim", "c_adamw").AdamW(p, **adam(h), foreach=False, no_deprecation_warning=True))

    oracle = f"c_adamw.AdamW(foreach=False), github.com/kyleliang919/C-Optim {commit('C-Optim')}"
    save("cautious", oracle, {v: (h, build(h), rules.cautious_adamw) for v, h in table.items()}, agree=1e-9)


def sam():
    sgd = dict(learning_rate=0.02, momentum=0.9, nesterov=False, weight_decay=0.0, rho=0.5)
    adam_sam = ADAM | dict(weight_decay=0.2, rho=0.2)

    def build(base, h, **more):
        return Sam(lambda p: authors("sam", "sam").SAM(p, base, rho=h["rho"], **more))

    variants = {
        "sgd": (sgd, build(torch.optim.SGD, sgd, lr=sgd["learning_rate"], momentum=sgd["momentum"]), rules.sam(rules.sgdw)),
        "adamw": (adam_sam, build(torch.optim.AdamW, adam_sam, **adam(adam_sam)), rules.sam(rules.adamw)),
    }
    save("sam", f"SAM, github.com/davda54/sam {commit('sam')}", variants)


@contextlib.contextmanager
def nearest_code(dtype):
    """bitsandbytes' own exact search for the nearest code instead of its table of 65536 cells, whose cell is 50 times the smallest code."""
    from bitsandbytes.backends.cpu import ops

    kept = ops._quant_blockwise_fp32_direct
    ops._quant_blockwise_fp32_direct = lambda x, code, *rest: kept(x.double(), code, *rest)
    try:
        yield
    finally:
        ops._quant_blockwise_fp32_direct = kept


def adam8bit():
    import bitsandbytes

    table = hypers(ADAM, plain={}, decay=dict(weight_decay=0.2, beta_2=0.99, epsilon=1e-3))
    data = problem.make({"kernel": (20, 16), "bias": (5,)})

    def build(h):
        return Torch(lambda p: bitsandbytes.optim.AdamW8bit(p, **adam(h), min_8bit_size=1))

    variants = {v: (h, build(h), rules.adam8bit) for v, h in table.items()}
    maps = {f"map_{name}": bitsandbytes.functional.create_dynamic_map(signed=name == "signed").numpy() for name in ("signed", "unsigned")}
    assert all(np.allclose(maps[f"map_{name}"], rules.dynamic_map(name == "signed"), rtol=1e-6, atol=0) for name in ("signed", "unsigned"))
    keep = [0, 1, 4, 9, 29]
    oracle = f"bitsandbytes.optim.AdamW8bit on the CPU, exact search, bitsandbytes {version('bitsandbytes')}"
    save("adam8bit", oracle, variants, data, nearest_code, keep, "float32", maps, agree=1e-2, floor=3e-5)
    for v, (h, runner, _) in variants.items():
        exact, full = run(runner, data, "float32", around=nearest_code), rules.trajectory(rules.adamw, data, h)
        print(f"adam8bit {v}: from the released table's {far(run(runner, data, 'float32'), exact):.1e}, from AdamW {far(full, exact):.1e}")


ALL = (adamw, sgdw, nadamw, lion, lamb, schedulefreeadamw, prodigy, soap, muon, lookahead, cautious, sam, adam8bit)

if __name__ == "__main__":
    table = {one.__name__: one for one in ALL}
    for name in sys.argv[1:] or table:
        table[name]()
