"""Pruned searches at an equal budget of epochs: 540, that is 20 whole trainings of 27, on the learning curves of LCBench's surrogate.

    python benchmarks/search_pruning.py [--seeds 10] [--out pruning.jsonl] [--data ../shared/data/search] [--tune] [--methods gp+asha,random]

Only epochs that are really trained count: a training that is taken up again pays for what it adds. The value of a search is the validation
accuracy (best epoch) of the best configuration that it has trained to the end. Needs onnxruntime. Each run is a line of JSON; what `--out`
holds already is not run again.

The four report tasks were named before anything was run on them; whatever was chosen, was chosen on the others (`--tune`).
Expected, written down before the first run on the report tasks, after some hundred runs on the others: gp+asha 4 points (standard error 1.5)
above the better of Optuna's TPE with successive halving and KerasTuner's Hyperband, both within 3 points of random search; gp alone between.
"""

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_tuner
import numpy as np
import optuna
from keras_tuner.errors import FatalError

from keras_optlab.search import pruners, samplers
from keras_optlab.search.pruners.forecast import forecast
from keras_optlab.search.space import Space

REPORT = ("189908", "7593", "167168", "126026")
TUNE = ("189862", "167184", "168910", "167201", "126029", "189909", "168331", "167152")
EPOCHS, BUDGET = 27, 540
PEERS = ("optuna tpe+sha", "optuna tpe+hyperband", "kerastuner hyperband")


def declare(hp) -> dict:
    return {
        "batch_size": hp.Int("batch_size", 16, 512, sampling="log"),
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-1, sampling="log"),
        "momentum": hp.Float("momentum", 0.1, 0.99),
        "weight_decay": hp.Float("weight_decay", 1e-5, 0.1),
        "num_layers": hp.Int("num_layers", 1, 5),
        "max_units": hp.Int("max_units", 64, 1024, sampling="log"),
        "max_dropout": hp.Float("max_dropout", 0.0, 1.0),
    }


class OverBudget(FatalError):
    """Ends KerasTuner's search."""


class Budget:
    """The trainings of one search: it hands out epochs as long as there are some, and remembers what was trained to the end.

    Args:
        session: the surrogate.
        code: its code of the task.
    """

    def __init__(self, session, code: int):
        self.session, self.code, self.left, self.whole, self.begun = session, code, BUDGET, [], 0

    def curve(self, values: dict) -> np.ndarray:
        """The validation accuracy after each epoch of a new training."""
        self.begun += 1
        rows = np.array([[epoch, *(values[name] for name in declare(keras_tuner.HyperParameters()))] for epoch in range(1, EPOCHS + 1)], np.float32)
        return self.session.run(None, {"x_cat": np.full((EPOCHS, 1), self.code, np.int32), "x_cont": rows})[0][:, 1].astype(float)

    def train(self, curve: np.ndarray, start: int, end: int) -> np.ndarray:
        """What the epochs `start` to `end` report."""
        if end - start > self.left:
            self.left = 0
            raise OverBudget("The epochs are used up.")
        self.left -= end - start
        if end == EPOCHS:
            self.whole.append(float(curve.max()))
        return curve[start:end]


def ours(budget: Budget, seed: int, sampler: str, pruner: pruners.Pruner | None) -> None:
    hp = keras_tuner.HyperParameters()
    declare(hp)
    space, configurations, full, curves = Space(hp.space), {}, {}, {}
    while True:
        trial_id = pruner.promote(curves) if pruner else None
        if trial_id is None:
            suggest, scores = samplers.get(sampler)(space, seed), forecast(curves)
            for told, values in configurations.items():
                suggest.tell(values, scores[told])
            trial_id = str(len(curves))
            configurations[trial_id] = suggest.ask()
            full[trial_id], curves[trial_id] = budget.curve(configurations[trial_id]), pruners.Curve([], EPOCHS)
        while (epoch := len(curves[trial_id].values)) < EPOCHS:
            budget.train(full[trial_id], epoch, epoch + 1)
            curves[trial_id] = pruners.Curve(full[trial_id][: epoch + 1], EPOCHS)
            if pruner and epoch + 1 < EPOCHS and not pruner.goes_on(trial_id, curves):
                curves[trial_id] = pruners.Curve(curves[trial_id].values, EPOCHS, paused=True)
                break


def with_optuna(budget: Budget, seed: int, pruner: optuna.pruners.BasePruner) -> None:
    """Optuna's loop as its documentation has it; its first rung is ours, because the order after its own, one epoch, says little."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)

    class Ask:
        def __init__(self, trial):
            self.trial = trial

        def Int(self, name, low, high, sampling="linear"):
            return self.trial.suggest_int(name, low, high, log=sampling == "log")

        def Float(self, name, low, high, sampling="linear"):
            return self.trial.suggest_float(name, low, high, log=sampling == "log")

    def objective(trial):
        curve = budget.curve(declare(Ask(trial)))
        for epoch in range(EPOCHS):
            trial.report(budget.train(curve, epoch, epoch + 1)[0], epoch + 1)
            if epoch + 1 < EPOCHS and trial.should_prune():
                raise optuna.TrialPruned
        return curve.max()

    study.optimize(objective)


def with_kerastuner(budget: Budget, seed: int) -> None:
    curves = {}

    class Search(keras_tuner.Hyperband):
        def run_trial(self, trial, *args, **kwargs):
            values = declare(trial.hyperparameters)
            of, key = trial.hyperparameters.values, json.dumps(values, sort_keys=True)
            if key not in curves:
                curves[key] = budget.curve(values)
            return {"val_accuracy": budget.train(curves[key], of["tuner/initial_epoch"], of["tuner/epochs"]).max()}

        def load_model(self, trial):
            return None

    hp = keras_tuner.HyperParameters()
    declare(hp)
    with tempfile.TemporaryDirectory() as directory:
        objective = keras_tuner.Objective("val_accuracy", "max")
        settings = {"max_epochs": EPOCHS, "factor": 3, "hyperband_iterations": 100, "seed": seed + 1, "hyperparameters": hp}
        Search(lambda hp: None, objective=objective, directory=directory, project_name="p", **settings).search(verbose=0)


def run(session, code: int, method: str, seed: int) -> dict:
    budget, start = Budget(session, code), time.process_time()
    try:
        if method.startswith("optuna"):
            with_optuna(budget, seed, optuna.pruners.SuccessiveHalvingPruner(3, 3) if method.endswith("sha") else optuna.pruners.HyperbandPruner(3, EPOCHS, 3))
        elif method.startswith("kerastuner"):
            with_kerastuner(budget, seed)
        else:
            sampler, _, pruner = method.partition("+")
            ours(budget, seed, sampler, pruners.get(pruner or None))
    except OverBudget:
        pass
    value = max(budget.whole, default=math.nan)
    return {"value": value, "whole": len(budget.whole), "begun": budget.begun, "seconds": round(time.process_time() - start, 1)}


def table(lines: list[dict], tasks, methods) -> None:
    """Means over the tasks; the standard error is that of the mean over seeds, the tasks being given. Below, the paired differences to gp+asha."""
    values = {m: {(x["task"], x["seed"]): x["value"] for x in lines if x["method"] == m and x["task"] in tasks} for m in methods}

    def summary(of: dict) -> str:
        grouped = [np.array([v for (task, _), v in of.items() if task == t]) for t in tasks]
        error = math.sqrt(sum(g.var(ddof=1) / len(g) for g in grouped)) / len(tasks)
        return f"{np.mean([g.mean() for g in grouped]):9.2f} +- {error:.2f}" + "".join(f"{g.mean():9.2f}" for g in grouped)

    print(f"{'method':24}{'mean':>9}{'':8}" + "".join(f"{t:>9}" for t in tasks) + f"{'begun':>8}{'whole':>8}{'runs':>6}")
    for method in methods:
        if len(values[method]) >= 2 * len(tasks):
            own = [x for x in lines if x["method"] == method and x["task"] in tasks]
            print(f"{method:24}{summary(values[method])}{np.mean([x['begun'] for x in own]):8.0f}{np.mean([x['whole'] for x in own]):8.1f}{len(own):6}")
    for method in methods:
        both = values[method].keys() & values.get("gp+asha", {}).keys()
        if method != "gp+asha" and len(both) >= 2 * len(tasks):
            print(f"gp+asha minus {method:24}{summary({key: values['gp+asha'][key] - values[method][key] for key in sorted(both)})}")


def main() -> None:
    import onnxruntime

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", default="pruning.jsonl")
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data" / "search"))
    parser.add_argument("--tune", action="store_true", help="on the tasks for choosing instead of those for reporting")
    parser.add_argument("--methods", default=",".join(("random", *PEERS, "gp", "gp+asha", "gp+hyperband", "gp+median", "tpe+asha")))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(Path(arguments.data, "lcbench.model.onnx")), options)
    codes = json.loads(Path(arguments.data, "lcbench.encoding.json").read_text())["OpenML_task_id"]
    out, tasks, methods = Path(arguments.out), TUNE if arguments.tune else REPORT, arguments.methods.split(",")
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(line["method"], line["task"], line["seed"]) for line in lines}
    for seed in range(arguments.seeds):
        for task in tasks:
            for method in methods:
                if (method, task, seed) not in done:
                    lines.append({"method": method, "task": task, "seed": seed, **run(session, codes[task], method, seed)})
                    with out.open("a") as file:
                        file.write(json.dumps(lines[-1]) + "\n")
    table(lines, tasks, methods)


if __name__ == "__main__":
    main()
