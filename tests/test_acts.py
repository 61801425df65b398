"""What a doctor does while a model trains: what helps stays, what does not is undone, all of it is told, and a healthy run is not touched."""

import copy
import warnings

import keras
import numpy as np
import pytest
from conftest import BACKEND, slow_here
from keras.optimizers import SGD, Adam
from monitor_cases import same, values
from test_diagnose import DIGITS, FOUR, PIXELS, TWO, X, net, of_digits

from keras_optlab import optimizers as ours
from keras_optlab.callbacks import EarlyStopping, GradientMonitor, TrainingDoctor
from keras_optlab.diagnosis import Finding, Record, TrainingWarning, examine
from keras_optlab.diagnosis.curves import pieces
from keras_optlab.schedules import Cosine, Scaled
from keras_optlab.testing.trainings import two_replicas
from keras_optlab.training import acts as module
from keras_optlab.training import probe, steering
from keras_optlab.training.acts import Acts
from keras_optlab.training.resume import State, resume, save_state

GUESS = float(np.log(4))
KERNEL = [{"path": "last/kernel", "layer": "last", "kind": "Dense", "shape": [8, 4], "activation": None}]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    for name in ("SECONDS", "LONGER"):
        monkeypatch.setattr(probe, name, np.inf)


def recorded(losses, steps=40, every=10, norm=1.0) -> Record:
    made = Record()
    for epoch, loss in enumerate(losses):
        for step in range(epoch * steps, (epoch + 1) * steps, every):
            made.add(step, [[norm, 3.0, 0.01, 0.0, 0.0]], KERNEL, 0.1, loss)
    made.logs, made.pace = {"loss": list(map(float, losses))}, [{"steps": steps, "seconds": 1.0} for _ in losses]
    made.facts |= {"guess": GUESS, "epochs": 20}
    return made


def add(record, loss):
    """One more epoch."""
    more = recorded([*record.logs["loss"], loss])
    facts = record.facts
    vars(record).update(vars(more))
    record.facts = more.facts | facts


def sick(code, severity="warning", first_step=0):
    return Finding(code, severity, None, first_step, first_step, {}, "It is sick.", "Try another one.")


class Run:
    """Epochs without a training: what is found is given, and weights are moved by hand."""

    def __init__(self, optimizer=None, losses=(), trials=None, ignore=()):
        self.model = net(optimizer=optimizer or SGD(0.1))
        self.acts, self.record, self.trials, self.epoch, self.asked = Acts(ignore), recorded(losses), trials, len(losses), []
        self.acts.begin(self.model)
        self.begun = values(self.model)

    def move(self, by):
        for weight in self.model.trainable_variables:
            weight.assign(weight + by)

    def over(self, loss, *findings, left=10, move=1.0):
        """An epoch ends."""
        self.move(move)
        add(self.record, loss)
        self.epoch += 1
        return self.acts.after_epoch(self.model, self.epoch - 1, left, 40 * self.epoch, self.record, list(findings), self.tried)

    def tried(self, factors, start):
        self.asked.append((factors, start))
        return None if self.trials is None else {factor: self.trials.get(factor, -1.0) for factor in factors}

    @property
    def outcomes(self):
        return [act.outcome for act in self.acts.made]

    @property
    def rate(self):
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    @property
    def clip(self):
        return self.model.optimizer.global_clipnorm


def weights(model):
    return [np.array(v) for v in model.get_weights()]


def test_what_is_judged_is_what_came_after_an_act():
    whole = recorded([3.0, 2.0, 1.0, 0.5])
    assert whole.present() is whole
    whole.facts["acted"] = {"step": 80, "epochs": 2}
    whole.looks = [{"step": 40}, {"step": 80}, {"step": 120}]
    since, alone = whole.present(), recorded([1.0, 0.5])
    assert since.steps == [step + 80 for step in alone.steps] and since.logs == alone.logs and since.loss == alone.loss
    assert since.facts["epochs"] == 18 and [look["step"] for look in since.looks] == [80, 120] and since.present() is since
    assert np.array_equal(pieces(since)[1], pieces(alone)[1]) and np.array_equal(pieces(since)[0], pieces(alone)[0] + 80)
    assert Record.from_dict(whole.to_dict()).present().loss == since.loss


def test_a_finding_of_before_an_act_is_not_found_again():
    lost = recorded([3.0, 3.0])
    lost.add(80, [[np.inf, np.inf, np.inf, 0.0, 1.0]], KERNEL, 0.1, np.inf)
    assert [f.code for f in examine(lost)] == ["non-finite"]
    lost.facts["acted"] = {"step": 81, "epochs": 2}
    assert examine(lost) == []


@pytest.mark.parametrize(
    "gains, factor",
    [
        ({10.0: -1.0, 3.0: 0.2, 1.0: 0.8, 0.3: 0.82, 0.1: 0.4}, 0.3 / module.MARGIN),
        ({100.0: -1.0, 10.0: 0.05, 1.0: 0.02}, None),
        ({module.MARGIN: 0.9, 1.0: 0.5}, 1.0),
        ({}, None),
    ],
)
def test_the_rate_that_trials_tell(gains, factor):
    assert module._best(gains, tuple(gains)) == (None if factor is None else pytest.approx(factor))
    assert module._best({3.0: -1.0, 1.0: 0.0}, module.DOWN) == pytest.approx(0.1**0.5)  # time was up


def test_a_rate_too_high_goes_back_to_the_start_and_down():
    run = Run(trials={1.0: -1.0, 0.1: 0.5})
    told = run.over(9.0, sick("learning-rate-too-high"))
    assert run.rate == pytest.approx(0.1 * 0.1 / module.MARGIN) and run.clip is None and same(values(run.model)[:5], run.begun[:5])
    assert told[0].startswith("It is sick. Done after epoch 1: back to the weights that it began with, learning rate 0.1 -> 0.00316.")
    assert run.record.facts["acted"] == {"step": 40, "epochs": 1} and len(run.record.present()) == 0
    assert run.over(1.3) == [] and run.outcomes == ["under observation"]  # it has not gained yet
    assert "it has helped: the loss is 0.9" in run.over(0.9)[0] and run.outcomes == ["helped"]
    assert run.over(0.8) == [] and run.rate == pytest.approx(0.00316, rel=1e-2)


def test_what_does_not_help_is_undone_and_tried_stronger_a_few_times():
    run = Run(trials={1.0: -1.0, 0.1: 0.5})
    run.over(9.0, sick("learning-rate-too-high"))
    rates = [run.rate]
    for _ in range(2):
        assert run.over(9.0) == []
        undone, done = run.over(9.0)
        assert "the loss is 9, which is no better, and so it is undone, with the weights that it began with" in undone and "learning rate 0.1 ->" in done
        rates.append(run.rate)
    assert rates == [pytest.approx(10**-k * 0.00316, rel=1e-2) for k in range(3)]
    run.over(9.0)
    assert len(run.over(9.0)) == 1 and run.outcomes == ["undone"] * 3
    assert run.rate == pytest.approx(0.1) and same(values(run.model), run.begun)
    assert run.over(9.0, sick("learning-rate-too-high")) == [] and len(run.asked) == 1  # not again


def test_an_explosion_of_what_has_learned_is_clipped_and_goes_back_to_the_best_epoch():
    run = Run(losses=[1.3], trials={})
    run.over(0.5)
    best = weights(run.model)
    run.over(0.7)
    run.over(99.0, sick("exploding-gradient", first_step=130))
    assert run.acts.made[0].what == "back to the weights of epoch 2, gradients clipped to a global norm of 1" and run.asked == []
    assert same(weights(run.model), best) and run.clip == 1.0 and run.rate == pytest.approx(0.1)
    run.over(99.0)
    run.over(98.9)
    assert run.outcomes == ["undone", "under observation"] and run.acts.made[1].what == "back to the weights of epoch 2, learning rate 0.1 -> 0.01, " + (
        "gradients clipped to a global norm of 1"
    )
    assert run.over(0.4) and run.outcomes == ["undone", "helped"]


def test_a_batch_that_is_learned_at_the_rate_that_is_there_tells_of_outliers():
    run = Run(trials={module.MARGIN: 0.9, 1.0: 0.6})
    run.over(99.0, sick("bad-input-range"))
    assert run.acts.made == []  # else it will come yet
    run.over(99.0, sick("exploding-gradient", first_step=30))
    assert run.clip == 1.0 and run.rate == pytest.approx(0.1)


def test_a_loss_that_still_falls_from_a_height_is_given_time():
    run = Run(losses=[170.0], trials={1.0: -1.0, 0.1: 0.5})
    run.over(800.0, sick("exploding-gradient"))
    for loss in (30.0, 3.0, 2.0, 1.7):
        assert run.over(loss) == []
    run.over(1.0)
    assert run.outcomes == ["helped"]


def test_the_first_batch_may_be_one_easy_example():
    run = Run(trials={1.0: -1.0, 0.1: 0.5})
    add(run.record, 9.0)
    run.record.loss[0] = 1e-6
    run.over(9.0, sick("learning-rate-too-high"))
    run.over(0.5)
    assert run.outcomes == ["helped"]


def test_one_example_does_not_hide_that_the_others_are_learned():
    run = Run(trials={1.0: 0.9})
    run.over(99.0, sick("exploding-gradient", first_step=30))
    add(run.record, 0.5)
    run.record.logs["loss"][-1] = 3000.0
    assert module._typical(run.record) == pytest.approx(0.5)


def test_a_rate_too_low_goes_up_from_where_it_is():
    run = Run(SGD(1e-6), losses=[1.4], trials={1.0: 0.0, 1e4: 0.5})
    run.over(1.39, sick("learning-rate-too-low"))
    moved = weights(run.model)
    assert run.rate == pytest.approx(1e-6 * 1e4 / module.MARGIN) and not same(moved, run.begun[: len(moved)]) and run.asked[0][1] is None
    for _ in range(2):
        run.over(2.0)
    assert run.outcomes == ["undone", "under observation"] and same(weights(run.model), moved) and run.rate == pytest.approx(1e-7 * 1e4 / module.MARGIN)
    run.over(1.2)
    assert run.outcomes == ["undone", "helped"]


def test_slow_but_in_time_is_left_alone():
    slow = [1.4, 1.35, 1.3, 1.25]
    for epochs, acts in ((100, 0), (8, 1)):
        run = Run(losses=slow, trials={100.0: 0.5})
        run.record.facts["epochs"] = epochs
        run.over(1.2, sick("slow-convergence"))
        assert len(run.acts.made) == acts


@pytest.mark.parametrize("trials, rate", [(None, 0.01), ({1.0: 0.0, 0.1: 0.05}, 0.1)])
def test_without_a_trial_it_is_a_tenth_and_without_a_rate_that_learns_nothing(trials, rate):
    run = Run(trials=trials)
    run.over(9.0, sick("dead-units"))
    assert run.rate == pytest.approx(rate)


def test_lost_weights_that_nothing_helps_end_the_run():
    run = Run(SGD(0.1, clipnorm=1.0), trials={1.0: -1.0})
    told = run.over(np.nan, sick("non-finite", "error"), move=np.nan)
    assert run.model.stop_training and run.outcomes == ["stopped"] and same(values(run.model), run.begun)
    assert "Try another one. The run is stopped, back to the weights that it began with" in told[0] and "repair(model, doctor.findings)" in told[0]
    run = Run(trials={1.0: -1.0}, ignore=["non-finite"])
    run.model.stop_training = False
    assert run.over(np.nan, move=np.nan) == [] and not run.model.stop_training


def test_an_outlier_in_the_batch_that_is_tried_does_not_hide_that_clipping_may_help():
    run = Run(trials={1.0: -1.0})
    run.over(np.nan, sick("non-finite", "error", first_step=30), move=np.nan)
    assert run.clip == 1.0 and run.rate == pytest.approx(0.1) and same(weights(run.model), run.begun[:4])
    run.over(np.nan, move=np.nan)
    assert run.outcomes == ["undone", "under observation"] and run.rate == pytest.approx(0.01)
    for _ in range(2):
        run.over(np.nan, move=np.nan)
    assert run.outcomes == ["undone"] * 3 + ["stopped"] and run.rate == pytest.approx(0.1) and run.clip is None and run.model.stop_training


def test_a_run_that_improves_is_left_alone_and_five_acts_are_all():
    run = Run(trials={1.0: -1.0, 0.1: 0.5})
    assert run.over(0.9, sick("dead-units")) == [] and run.acts.made == []
    for i, code in enumerate(("dead-units", "exploding-gradient", "clipped-loss", "oscillating-loss", "bad-input-range", "learning-rate-too-high")):
        run.over(9.0, sick(code))
        run.over(0.8 - 0.01 * i)
    assert run.outcomes == ["helped"] * module.MOST


def test_a_schedule_is_scaled_and_a_function_is_left_alone():
    run = Run(SGD(Cosine(0.1, 100)), trials={1.0: -1.0, 0.1: 0.5})
    run.over(9.0, sick("learning-rate-too-high"))
    schedule = run.model.optimizer.get_config()["learning_rate"]
    assert schedule["class_name"] == "Scaled" and schedule["config"]["factor"] == pytest.approx(0.1 / module.MARGIN)
    run.over(9.0)
    run.over(9.0, left=0)
    assert run.model.optimizer.get_config()["learning_rate"]["class_name"] == "Cosine" and run.outcomes == ["undone"]
    run = Run(SGD(lambda: 0.1))
    run.over(9.0, sick("exploding-gradient"))
    assert "learning rate" not in run.acts.made[0].what and run.clip == 1.0
    assert Run(SGD(lambda: 1e-9)).over(9.0, sick("learning-rate-too-low")) == []


def test_what_others_have_set_is_multiplied():
    run = Run(trials={1.0: -1.0, 0.1: 0.5})
    run.over(9.0, sick("learning-rate-too-high"))
    run.model.optimizer.learning_rate = run.rate / 2
    run.over(9.0)
    run.over(9.0, left=0)
    assert run.rate == pytest.approx(0.05)


class At(keras.callbacks.Callback):
    def __init__(self, **settings):
        super().__init__()
        self.settings, self.weights = settings, []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(weights(self.model))
        steering.set_to(self.model, self.settings.get(f"after_{epoch}", {}))


OPTIMIZERS = [
    SGD,
    pytest.param(lambda rate: keras.optimizers.LossScaleOptimizer(SGD(rate)), marks=pytest.mark.slow),
    pytest.param(lambda rate: ours.Cautious(ours.SGDW(rate, momentum=0.0)), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_clipping_and_schedules_take_effect_in_the_next_epoch(make):
    model = net(optimizer=make(Cosine(0.1, 1000)))
    monitor, at = GradientMonitor(every=1), At(after_0={"scale": 0.0}, after_1={"scale": 1.0, "clip": 1e-12}, after_2={"clip": None})
    model.fit(X, FOUR, epochs=4, batch_size=64, verbose=0, callbacks=[monitor, at])
    moved = [max(float(np.abs(a - b).max()) for a, b in zip(*pair)) for pair in zip(at.weights, at.weights[1:])]
    assert moved[0] == 0 and moved[1] < 1e-9 and moved[2] > 1e-4
    assert len(monitor.record) == 16 and np.isfinite(monitor.record.grad_norm).all() and monitor.record.total()[8:12].min() > 0.01


def fitted(model, x=PIXELS, y=DIGITS, doctor=None, epochs=15, callbacks=(), **arguments):
    """The doctor, the losses, and what was told of acts."""
    doctor = doctor or TrainingDoctor(act=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        history = model.fit(x, y, epochs=epochs, batch_size=32, verbose=0, callbacks=[doctor, *callbacks], **arguments).history
    return doctor, history, [str(w.message) for w in told if issubclass(w.category, TrainingWarning) and "act=False" in str(w.message)]


def healed(doctor, history, told, *codes):
    assert [act.outcome for act in doctor.acts] == ["helped"] and doctor.acts[0].code in codes and len(told) == 2
    assert history["acts"][0] == 0 and history["acts"][-1] == 1 and history["alarms"][-1] == 0 and history["loss"][-1] < 0.5
    assert doctor.record.facts["acts"][0]["what"] == doctor.acts[0].what and doctor.record.steps == sorted(set(doctor.record.steps))


def test_a_rate_300_times_too_high_is_mended():
    healed(*fitted(of_digits(SGD(15.0, momentum=0.9)), epochs=6), "learning-rate-too-high", "exploding-gradient")


@slow_here
@pytest.mark.parametrize(
    "make, code",
    [
        (lambda: of_digits(SGD(5e-6, momentum=0.9)), "learning-rate-too-low"),
        (lambda: of_digits(SGD(5e-4, momentum=0.9)), "slow-convergence"),
        (lambda: of_digits(Adam(keras.optimizers.schedules.CosineDecay(1e-7, 500))), "learning-rate-too-low"),
    ],
)
def test_a_rate_too_low_is_mended(make, code):
    healed(*fitted(make(), PIXELS[:1000], DIGITS[:1000], epochs=14), code)


@slow_here
def test_weights_that_were_lost_come_back():
    model = net(1, None, "mse", SGD(10.0))
    doctor, history, told = fitted(model, X, X[:, 0], epochs=12)
    assert np.isnan(history["loss"][0]) and [act.outcome for act in doctor.acts] == ["helped"] and doctor.acts[0].code == "non-finite"
    assert history["loss"][-1] < 0.2 and np.isfinite(weights(model)[0]).all() and doctor.findings == []


def test_a_head_that_does_not_fit_stops_the_run():
    model = net(1, "softmax", "binary_crossentropy")
    doctor, history, told = fitted(model, X, TWO)
    assert len(history["loss"]) == len(told) == 1 and [(act.code, act.outcome) for act in doctor.acts] == [("wrong-head", "stopped")]
    assert "A softmax over one unit is 1 for every input" in told[0] and "`keras_optlab.training.repair(model, doctor.findings)`" in told[0]
    assert len(fitted(model, X, TWO, TrainingDoctor(act=True, ignore=["wrong-head"]), epochs=2)[1]["loss"]) == 2


@slow_here
def test_a_healthy_run_is_what_it_is_without():
    def ended(doctor):
        model = of_digits(dropout=0.2)
        history = model.fit(PIXELS, DIGITS, epochs=5, verbose=0, validation_split=0.2, callbacks=[doctor]).history
        return values(model), {name: numbers for name, numbers in history.items() if name != "acts"}

    acting = TrainingDoctor(act=True)
    with_, without = ended(acting), ended(TrainingDoctor())
    assert acting.acts == [] and same(with_[0], without[0]) and with_[1] == without[1]


@slow_here
def test_a_run_that_goes_on_has_the_schedule_and_what_was_kept(tmp_path):
    make = lambda: of_digits(SGD(Cosine(15.0, 10**6)))

    class Saves(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                save_state(tmp_path / "state.npz", self.model, 3, [doctor])

    model, doctor = make(), TrainingDoctor(act=True)
    fitted(model, doctor=doctor, epochs=5, shuffle=False, callbacks=[Saves()])
    again, other = make(), TrainingDoctor(act=True)
    epoch = resume(again, tmp_path / "state.npz")
    State(tmp_path / "state.npz").into_callbacks([other])
    fitted(again, doctor=other, epochs=5, shuffle=False, initial_epoch=epoch)
    assert same(values(model), values(again)) and other.acts == doctor.acts and len(doctor.acts) == 1
    assert steering.settings(again) == steering.settings(model) and steering.settings(model)["scale"] < 0.1
    assert copy.deepcopy(other.get_state())["acts"]["settings"] == doctor.get_state()["acts"]["settings"]


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="what only TensorFlow has")
def test_replicas():
    with two_replicas().scope():
        model = of_digits(SGD(15.0, momentum=0.9))
    doctor, history, told = fitted(model)
    assert "other rates" not in str(doctor.record.facts.get("unreadable")) and doctor.acts and told
    assert doctor.acts[-1].outcome == "helped" and history["loss"][-1] < 1.0


@slow_here
def test_others_beside_it():
    stopping, other = EarlyStopping("loss", patience=3, restore_best_weights=True), TrainingDoctor(act=True)
    doctor, history, _ = fitted(of_digits(SGD(15.0, momentum=0.9)), epochs=8, callbacks=[stopping, other])
    assert history["loss"][-1] < 0.5 and stopping.best < 0.5 and doctor.acts and other.acts == []  # of two doctors the first one acts


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"TrainingDoctor\(act=\.\.\.\): `act` must be `True` or `False`\. Received: act='yes'"):
        TrainingDoctor(act="yes")
    assert TrainingDoctor().acts == []


def test_acts_are_in_the_report(tmp_path):
    doctor = TrainingDoctor(act=True)
    doctor._record.facts["acts"] = [{"epoch": 0, "step": 36, "code": "<b>dead</b>", "what": "learning rate 15 -> 0.0474", "outcome": "helped"}]
    assert doctor.report(tmp_path / "run.html").splitlines() == [
        "No findings.",
        "Done after epoch 1 for <b>dead</b>: learning rate 15 -> 0.0474 (helped).",
    ]
    page = (tmp_path / "run.html").read_text()
    assert "Done while training" in page and "&lt;b&gt;dead" in page and "<b>dead" not in page and "0.0474" in page


def test_scaled():
    schedule = Scaled(Cosine(0.2, 100), 0.5)
    assert float(schedule(50)) == pytest.approx(0.05) and schedule.get_config()["factor"] == 0.5
    with pytest.raises(ValueError, match="must be a schedule; a number can be multiplied. Received: learning_rate=0.1"):
        Scaled(0.1, 0.5)


@pytest.mark.parametrize("optimizer", [Adam(1e-2), Adam(Cosine(1e-2, 100))])
def test_what_cannot_be_made_anew_stays_as_it_is(optimizer, monkeypatch):
    run = Run(optimizer, losses=[2.0], trials=None)
    run.model.make_train_function = lambda: None  # of the user's own, which cannot be forced
    run.move(1.0)
    before, rate = weights(run.model), run.rate
    with pytest.raises(TypeError):
        run.over(9.0, sick("exploding-gradient"), move=0.0)
    assert all(np.array_equal(a, b) for a, b in zip(weights(run.model), before)) and (run.rate, run.clip, run.acts.made) == (rate, None, [])
