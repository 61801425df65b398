"""The problem of every reference trajectory: a separable quadratic whose minimum is pushed about by a fixed, step-dependent noise."""

import json
from pathlib import Path

import numpy as np

STEPS = 30
SHAPES = {"kernel": (6, 4), "conv": (3, 1, 2, 3), "bias": (5,)}


def make(shapes: dict = SHAPES, steps: int = STEPS) -> dict:
    """Start, curvature, target and noise of each weight, float32; the noise is a multiple of 1/16, so that it packs well."""
    rng = np.random.default_rng(2026)

    def uniform(low, high, shape):
        return rng.uniform(low, high, shape).astype("float32")

    data = {}
    for name, shape in shapes.items():
        data[f"p0_{name}"] = np.zeros(shape, "float32") if name == "bias" else uniform(-1, 1, shape)
        data[f"A_{name}"] = uniform(0.5, 2, shape)
        data[f"target_{name}"] = uniform(-2, 2, shape)
        data[f"noise_{name}"] = (np.round(rng.normal(0, 0.5, (steps, *shape)) * 16) / 16).astype("float32")
    return data


def names(data) -> list[str]:
    return [key[3:] for key in data if key.startswith("p0_")]


def start(data, dtype="float64") -> dict:
    return {n: data[f"p0_{n}"].astype(dtype) for n in names(data)}


def gradient(data, weights: dict, t: int) -> dict:
    """g = A * (p - target) + noise[t], t = 0 at the first step, in the precision of the weights."""
    return {n: data[f"A_{n}"].astype(p.dtype) * (p - data[f"target_{n}"].astype(p.dtype)) + data[f"noise_{n}"][t].astype(p.dtype) for n, p in weights.items()}


def load(optimizer: str) -> tuple[dict, dict]:
    """The arrays and the description of one file: `data, meta = load("adamw")`."""
    with np.load(Path(__file__).with_name(f"{optimizer}.npz"), allow_pickle=False) as file:
        data = dict(file)
    return data, json.loads(str(data.pop("meta")))
