"""One step whose gradient, or whose loss, is far above those around it.

Needs: gradient norms; the loss between the measured steps, where it is known how many steps an epoch has.
Thresholds: past the first WARM_UP steps, with AROUND values before it and AFTER behind it: TIMES the median of the AROUND before it and half as much above
each of them, while those behind it are down again, too. A warning where at the end of the run the loss is at least STAYS of what it was before, and NO_BETTER
of that of guessing by the spread of the targets; else an info.
Not to be confused with: gradients that grow and stay large (`exploding-gradient`), a step that loss scaling skips, the first steps and warm-up.
"""

import numpy as np

from keras_optlab.diagnosis.curves import pieces
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import needed, over
from keras_optlab.diagnosis.record import Record

CODE = "gradient-spike"
AROUND, AFTER, WARM_UP, TIMES, STAYS, NO_BETTER = 3, 2, 10, 100.0, 0.95, 0.9


def find(record: Record) -> list[Finding]:
    applied = record.applied()
    if len(applied) <= AROUND + AFTER:
        return []
    ends, losses = pieces(record)
    for name, steps, values in (("gradient", np.array(record.steps)[applied], record.total()[applied]), ("loss", ends, np.abs(losses))):
        risen = values[AROUND:-AFTER] >= TIMES / 2 * values[AROUND - 1 : -AFTER - 1]  # this is asked at each measured step: the rest only where it may be true
        for i in AROUND + np.flatnonzero(risen):
            before, after = values[i - AROUND : i], values[i + 1 :]
            usual = float(np.median(before))
            if steps[i] <= record.steps[0] + WARM_UP or not np.isfinite([*before, values[i]]).all() or not usual > 0:
                continue
            if values[i] >= TIMES * usual and values[i] >= TIMES / 2 * before.max() and np.median(after) <= values[i] / TIMES * 2:
                was, now = float(np.median(losses[ends < steps[i]][-AROUND:])), float(np.median(losses[ends > steps[i]][-AROUND:]))
                return [_told(record, name, int(steps[i]), float(values[i]), usual, was, now)]
    return []


def _told(record: Record, name: str, step: int, value: float, usual: float, was: float, now: float) -> Finding:
    lost = over(record) and now >= STAYS * was and now >= NO_BETTER * (needed(record) or 0)
    message = f"At step {step} the {name} was {value:.3g}, {value / usual:.3g} times what is usual in this run (threshold {TIMES:g})"
    return Finding(
        CODE,
        "warning" if lost else "info",
        None,
        step,
        max(step, record.steps[-1]) if lost else step,
        {"step": float(step), name: value, "usual": usual, "threshold": TIMES, "loss_before": was, "loss_after": now},
        f"{message}, and the loss has not come back since: it was {was:.3g} and is {now:.3g}." if lost else f"{message}; the loss has recovered.",
        "Clip the gradient, `optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)`, and look for outliers in the data: "
        "`np.abs(x).reshape(len(x), -1).max(1).argsort()[-5:]`.",
    )
