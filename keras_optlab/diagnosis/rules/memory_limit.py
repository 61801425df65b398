"""A training for which there may not be the memory.

Needs: an estimate of what gradients, the optimizer's state and the outputs of all layers for a batch will take, and how much memory is free.
Thresholds: NEAR of the free memory, which is an info, for what trainings take on TensorFlow lies within a factor of 1.6 of the estimate, mostly below
it (`tests/test_memory.py` measures); a warning where gradients and the optimizer's state alone are more than is free, whatever the batch. Estimates below
256 MiB are not held against anything.
Not to be confused with: data that do not fit; a model spread over several devices, of which nothing is estimated.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "memory-limit"
NEAR = 0.8


def find(record: Record) -> list[Finding]:
    memory = record.facts.get("memory")
    if not memory or memory["needed"] <= NEAR * memory["free"]:
        return []
    evidence = {"needed": float(memory["needed"]), "free": float(memory["free"]), "threshold": NEAR * memory["free"]}
    gib = {name: f"{memory[name] / 2**30:.3g} GiB" for name in ("needed", "fixed", "free")}
    if memory["fixed"] > memory["free"]:
        message = f"Gradients and the optimizer's state alone will take some {gib['fixed']}, and {gib['free']} of memory are free."
        advice = 'Take fewer units, or an optimizer that keeps less: `model.compile(optimizer="sgd", ...)`, `keras_optlab.optimizers.Adam8bit()`.'
        return [Finding(CODE, "warning", None, 0, 0, evidence, message, advice)]
    message = f"In batches of {memory['batch']} training may take some {gib['needed']}, and {gib['free']} of memory are free."
    advice = f"Smaller batches take less: `model.fit(..., batch_size={max(1, memory['batch'] // 4)})`."
    return [Finding(CODE, "info", None, 0, 0, evidence, message, advice)]
