"""Which hyperparameters mattered in a search."""

import warnings

import optuna

from keras_optlab.report.text import finite
from keras_optlab.search.space import Space, declarations
from keras_optlab.search.store import quiet

FEW, ROUGH, BEST = 10, 40, 5


def importance(search: dict) -> dict:
    """The share of each hyperparameter in reaching the best tenth of the finished trials, and at least the five best, by PED-ANOVA.

    Conditional hyperparameters count where they are active. A tenth of few trials would be one or two, whose values are chance. fANOVA finds more from
    some 40 trials on, but less with fewer, and knows no conditions.

    Args:
        search: as `keras_optlab.search.store.read` returns it: "objective", "direction", "space" and "trials" are used.

    Returns:
        `{"values": {name: share}, "note": remark}`, the largest share first; no values where there are too few trials to tell.

    Reference: [Watanabe et al., 2023](https://arxiv.org/abs/2304.10255)

    Example:

        print(importance(keras_optlab.search.store.read("digits_search"))["values"])
    """
    goals, directions = ([x] if isinstance(x, str) else list(x or ["score"]) for x in (search.get("objective"), search.get("direction")))
    space = Space(declarations(search["space"] or []).space)
    rows = []
    for trial in search["trials"]:
        known = trial.get("scores") or {goals[0]: trial.get("score")}
        scores = [finite(known.get(goal)) for goal in goals]
        if trial.get("status") == "COMPLETED" and None not in scores:
            rows.append((trial["values"], scores))
    if len(rows) < FEW:
        return {"values": {}, "note": f"There are too few finished trials to tell: {len(rows)}, and {FEW} are needed."}
    if all(scores == rows[0][1] for _, scores in rows):
        return {"values": {}, "note": "All finished trials have the same score: nothing can be told from them."}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on branches that few trials have taken
        study = optuna.create_study(directions=["maximize" if direction == "max" else "minimize" for direction in directions])
        for values, scores in rows:
            # one name under different conditions is two to Optuna
            found = [p for p in space.for_optuna(values) if not p[0].startswith("tuner/")]
            named = [(name if len(space.columns[name]) == 1 else longer, value, kind) for name, longer, value, kind in found]
            params, kinds = {name: value for name, value, _ in named}, {name: kind for name, _, kind in named}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, values=scores))
        share = min(0.5, max(0.1, BEST / len(rows)))
        values = optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share))
    note = f"Share in reaching the best {100 * share:.0f} % of {len(rows)} finished trials (PED-ANOVA)."
    return {"values": {name: float(value) for name, value in values.items()}, "note": note + (" With so few, a rough hint." if len(rows) < ROUGH else "")}
