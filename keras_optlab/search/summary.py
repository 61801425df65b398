"""How a search stands, in words."""

import shutil
import textwrap
from collections import Counter

from keras_optlab import report
from keras_optlab.report.text import clip, duration, finite, percent, plural, score, setting
from keras_optlab.search.importance import importance

CAUSES, NAMES = 3, 6  # most errors and hyperparameters named


def summary(search: dict, num_trials: int = 10) -> str:
    """The best trials of a search, what mattered and what failed, as lines of text.

    Args:
        search: what `store.read` returns.
        num_trials: how many trials to show.

    Example:

        print(summary(keras_optlab.search.store.read("digits_search")))
    """
    if not search["trials"]:
        return f"{search['name']}: no trial was run yet."
    goals = [search["objective"]] if isinstance(search["objective"], str) else list(search["objective"])
    counts = Counter(trial["status"] for trial in search["trials"])
    ended = [f"{counts[status]} {word}" for status, word in (("FAILED", "failed"), ("STOPPED", "stopped early"), ("RUNNING", "running")) if counts[status]]
    lines = [f"{search['name']}: {', '.join([plural(len(search['trials']), 'trial'), *ended])}; {duration(search['elapsed'] or 0)} so far."]
    ranked = report.ranked(search)
    for place, trial in enumerate(ranked[:num_trials], 1):
        scores = trial.get("scores") or {goals[0]: trial["score"]}
        reached = ", ".join(f"{goal} {score(scores.get(goal), goal)}" for goal in goals)
        lines.append(f"{place:3d}. {reached}, trial {trial['trial_id']}, {duration(trial['seconds'])}")
        lines.append("     " + ", ".join(f"{clip(n, 60)}={clip(setting(v), 60)}" for n, v in trial["values"].items() if not n.startswith("tuner/")))
    if not ranked and (over := [trial["excess"] for trial in search["trials"] if trial.get("excess")]):
        lines.append(f"None of {plural(len(over), 'finished trial')} keeps the constraints: the nearest one breaks them by {percent(min(over), 0)}.")
    if len(ranked) > num_trials:
        lines.append(f"     and {plural(len(ranked) - num_trials, 'finished trial')} more.")
    if (mean := search.get("best_mean")) and finite(mean["mean"]) is not None:
        lines.append(f"Best expected score, noise apart: {score(mean['mean'], goals[0])} ± {score(mean['deviation'], goals[0])}, trial {mean['trial_id']}.")
    mattered = importance(search)
    shares = ", ".join(f"{clip(name, 60)} {percent(share, 0)}" for name, share in list(mattered["values"].items())[:NAMES])
    lines.append("What mattered: " + (f"{shares}. " if shares else "") + mattered["note"])
    errors = Counter(clip(trial["error"], 100) for trial in search["trials"] if trial["error"])
    lines += [f"Failed {plural(number, 'time')}: {error}" for error, number in errors.most_common(CAUSES)]
    width = max(40, min(120, shutil.get_terminal_size((100, 24)).columns))
    indented = (textwrap.fill(line, width, subsequent_indent=" " * 5, drop_whitespace=True) for line in lines)
    return "\n".join(indented).replace("\u00a0", " ")
