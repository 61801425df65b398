"""The input sets the pace, not the model: more than half of the time of each step is waiting.

Needs: steps and seconds of each epoch; where the processor does the computing, its seconds too ("cpu", all threads of this process); what a forward pass over
a batch takes, the batch size, the optimizer, and that the loss is Keras' own.
Thresholds: in the fastest epoch after the first (which holds compilation) of at least STEPS steps, a step takes more than twice what computing explains at
most; or more than it explains, while the processor works for less than IDLE of the time. At most: PASSES forward passes, called eagerly, which is slower than
any compiled one, and OVERHEAD seconds; a step is three passes for the gradient and an update that is elementwise. With optimizers that do more, or a loss of
a model's own, nothing is told.
Not to be confused with: arrays in memory, which nothing waits for; callbacks that take long at each batch, which look the same from here; a slow first epoch; a
small net at full speed; a machine that is shared with others (it takes four of them to make a processor so idle).
"""

import math

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "input-bound"
STEPS, PASSES, OVERHEAD, IDLE = 5, 4, 2.5e-3, 0.25
ELEMENTWISE = ("SGD", "RMSprop", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion", "Ftrl", "SGDW", "NadamW")


def fastest(record: Record) -> tuple[float, int]:
    """Seconds of a step in the fastest epoch after the first, and which one that is; infinity where there is none of enough steps."""
    return min(((epoch["seconds"] / epoch["steps"], i) for i, epoch in enumerate(record.pace) if i and epoch["steps"] >= STEPS), default=(math.inf, 0))


def find(record: Record) -> list[Finding]:
    (pace, epoch), optimizer, losses = fastest(record), record.facts.get("optimizer"), record.facts.get("losses") or [None]
    data = record.facts.get("data", {})
    if data.get("whole", False) or math.isinf(pace) or not record.looks or not optimizer or optimizer["name"] not in ELEMENTWISE or None in losses:
        return []
    look = min(record.looks, key=lambda one: one["seconds"])
    scale = max(1.0, data.get("examples", 0) / max(look["examples"], 1))
    explained = PASSES * look["seconds"] * scale + OVERHEAD
    busy = min(record.pace[epoch].get("cpu", math.inf) / record.pace[epoch]["seconds"], 1.0)
    if pace <= explained * (1 if busy < IDLE else 2):
        return []
    waiting = 1 - min(busy, explained / pace)
    evidence = {"seconds": pace, "computing": explained, "waiting": waiting, "threshold": 0.5}
    message = f"A step takes {1000 * pace:.3g} ms, and {waiting:.0%} of it is waiting for the next batch."
    advice = (
        "Prepare batches beside the training: `dataset.cache().prefetch(tf.data.AUTOTUNE)`, `map(..., num_parallel_calls=tf.data.AUTOTUNE)`, "
        "a `keras.utils.PyDataset(workers=4, use_multiprocessing=True)`."
    )
    steps = [sum(one["steps"] for one in record.pace[:i]) for i in (epoch, epoch + 1)]
    return [Finding(CODE, "warning", None, steps[0], steps[1], evidence, message, advice)]
