"""Under noise the best score seen is partly luck: which configuration a model of all scores holds for the best."""

from keras_optlab.search.pruning import plain
from keras_optlab.search.samplers.gp import GaussianProcess
from keras_optlab.search.space import Space, declarations


def best_mean(search: dict) -> dict | None:
    """The completed trial with the best posterior mean under a Gaussian process, whatever sampler has suggested it.

    Args:
        search: what `store.read` returns: "space", "seed", "direction" and "trials" of it.

    Returns:
        `{"trial_id", "mean", "deviation"}`: what it would score on average, and how uncertain that is, in the objective's units; `None` before there
        are four completed trials or one keeps the constraints, for several objectives, and for a population, whose scores depend on more than a configuration.
    """
    done = [record for record in search["trials"] if record["status"] == "COMPLETED"]
    eligible = [i for i, record in enumerate(done) if not record.get("excess")]
    if len(done) < GaussianProcess.initial or not eligible or isinstance(search["direction"], list) or any("schedule" in record for record in done):
        return None
    space = Space(declarations(search["space"]).space)
    sampler, sign = GaussianProcess(space, search["seed"]), 1 if search["direction"] == "max" else -1
    for record in done:
        sampler.tell(plain(record["values"]), sign * record["score"])
    means, deviations = sampler.posterior()
    best = max(eligible, key=lambda i: means[i])
    return {"trial_id": done[best]["trial_id"], "mean": sign * float(means[best]), "deviation": float(deviations[best])}
