import csv
import math
import threading
from dataclasses import replace
from itertools import count, repeat
from types import SimpleNamespace

import cv2
import pytest
import torch
from published_checkpoint import build_state

from jde_ray.models.jde import weights
from jde_ray.models.jde.config import CONFIGURATIONS, SMALL_SHUFFLENET
from jde_ray.models.jde.losses.anchor_free import JointLoss
from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.jde.network import JDE
from jde_ray.pipelines.detection import precision
from jde_ray.pipelines.training import loop
from jde_ray.pipelines.training.data.batches import Batch
from jde_ray.pipelines.training.kinds.registry import initialise
from jde_ray.pipelines.training.loop import NonFiniteLossError, fit
from jde_ray.pipelines.training.process_group import ProcessGroup
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.schedule import Schedule
from jde_ray.pipelines.training.settings import TrainerConfig, TrainingConfig, ValidationConfig
from jde_ray.pipelines.training.source import Source


@pytest.fixture(autouse=True)
def _a_row_every_second_step(monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 2)
    monkeypatch.setattr(loop, "LOG_SECONDS", math.inf)
    monkeypatch.setattr(loop, "EVERY_STEP", 0)


def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (2, 64, 96, 3), dtype=torch.uint8, generator=generator)
    labels = Labels(
        image=torch.tensor([0, 1]),
        tlbr=torch.tensor([[20.0, 10.0, 50.0, 60.0], [40.0, 5.0, 70.0, 60.0]]),
        identity=torch.tensor([0, 1]),
        ignore=torch.zeros(2, dtype=torch.bool),
        appearance=torch.zeros(2, SMALL_SHUFFLENET.embedding_dim),
        learns_detection=torch.ones(2, dtype=torch.bool),
    )
    return Batch(images, labels, ("a.jpg", "b.jpg"))


def some(number):
    """So many batches, numbered from the step that is asked for."""
    return lambda first: zip(count(first), repeat(batch(), number), strict=False)


def network():
    torch.manual_seed(0)
    return JDE(SMALL_SHUFFLENET)


def run(out, validation=None, **changes):
    settings = {"minutes": 1000.0, "warmup_steps": 5, "precision": "fp32", **changes}
    recipe = Recipe(
        network="small-shufflenet",
        sources=(Source(kind="boxes", path="park"),),
        training=TrainingConfig(**settings),
        validation=validation,
        licence="test only",
    )
    return TrainingRun(recipe=recipe, root=out, out=str(out), num_identities=2, steps_per_epoch=4)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_writes_weights_curves_and_goes_on_from_its_checkpoint(tmp_path):
    lines = []
    fit(network(), run(tmp_path), some(2), show=lines.append)
    assert weights.metadata(tmp_path / "weights.safetensors")["licence"] == "test only"
    first = rows(tmp_path / "curves.csv")
    assert [row["step"] for row in first] == ["1", "2"]
    assert len(lines) == 4  # what is trained, a head and two lines
    assert lines[0] == "training 1000 minutes on cpu (one trainer, fp32); an epoch has 4 steps"
    fit(network(), run(tmp_path), some(4), show=lines.append)
    both = rows(tmp_path / "curves.csv")
    assert [row["step"] for row in both] == ["1", "2", "3", "4", "6"]
    assert float(both[4]["total"]) < float(both[0]["total"])
    assert float(both[0]["weight_identity"]) == pytest.approx(math.exp(-2) / 2, rel=0.05)
    assert any("continuing after step 2" in line for line in lines)


def test_each_of_the_first_steps_has_a_row_but_no_line(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "EVERY_STEP", 5)
    lines = []
    fit(network(), run(tmp_path), some(8), show=lines.append)
    curves = rows(tmp_path / "curves.csv")
    assert [row["step"] for row in curves] == ["1", "2", "3", "4", "5", "6", "8"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "4", "6", "8"]
    (both,) = (float(line.split()[3]) for line in lines if line.split()[0] == "4")
    assert both == pytest.approx(sum(float(curves[row]["total"]) for row in (2, 3)) / 2, abs=1e-3)


def test_a_budget_may_be_steps(tmp_path):
    learning = run(tmp_path, minutes=None, steps=3)
    assert learning.schedule.budget == "3 steps"
    fit(network(), learning, some(100))
    assert torch.load(tmp_path / "latest.pt", weights_only=True)["step"] == 3


def test_curves_of_steps_that_are_done_again_are_not_there_twice(tmp_path):
    fit(network(), run(tmp_path), some(2))
    text = (tmp_path / "curves.csv").read_text()
    extra = text.splitlines()[2].replace("2,", "4,", 1)
    (tmp_path / "curves.csv").write_text(text + extra + "\n")  # written, then died
    fit(network(), run(tmp_path), some(4))
    assert [row["step"] for row in rows(tmp_path / "curves.csv")] == ["1", "2", "3", "4", "6"]


def test_epochs_end_training_and_its_rate_falls_at_the_given_ones(tmp_path):
    learning = run(
        tmp_path,
        minutes=None,
        epochs=30,
        optimiser="sgd",
        schedule="steps",
        decay_epochs=(15, 23),
        learning_rate=0.01,
        warmup_steps=1000,
        warmup_power=4,
    )
    schedule = learning.schedule
    rates = [schedule.lr(step, schedule.fraction(step, 0.0)) for step in range(4 * 30)]
    # warm-up lasts an epoch of four steps at most, to the fourth power
    assert rates[:5] == pytest.approx([0.01 * (i / 4) ** 4 for i in (1, 2, 3, 4)] + [0.01])
    assert [rates[4 * e] for e in (14, 15, 22, 23, 29)] == pytest.approx(
        [0.01, 0.001, 0.001, 0.0001, 0.0001]
    )
    short = run(tmp_path, minutes=None, epochs=2, optimiser="sgd", ema_steps=0.0)
    fit(network(), short, some(100))
    state = torch.load(tmp_path / "latest.pt", weights_only=True)
    assert state["step"] == 8
    for name, value in state["model"].items():  # no moving average: the weights themselves
        torch.testing.assert_close(state["average"][name], value)


def test_training_ends_with_its_time_budget(tmp_path):
    result = fit(network(), run(tmp_path, minutes=1e-9), some(1000))
    assert isinstance(result, JDE)
    assert torch.load(tmp_path / "latest.pt", weights_only=True)["step"] == 1


def test_a_loss_that_is_not_finite_stops_training_and_names_the_files(tmp_path):
    model = network()
    with torch.no_grad():
        model.heads[0].box.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"loss is nan at step 0; the batch: a.jpg, b.jpg"):
        fit(model, run(tmp_path), some(1))


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_spoilt(tmp_path):
    model = network()
    model.heads[0].box.weight.register_hook(lambda g: g * float("inf"))
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(NonFiniteLossError, match=r"gradient is .* at step 0; .* a.jpg, b.jpg"):
        fit(model, run(tmp_path), some(1))
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, before[name])


def test_frozen_norms_keep_scale_and_shift(tmp_path):
    model = network()
    norm = model.neck.trunks[0][0][1]
    fit(model, run(tmp_path, freeze_norms=True), some(3))
    torch.testing.assert_close(norm.weight.detach(), torch.ones_like(norm.weight))
    assert norm.running_mean.abs().sum() > 0


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    fit(network(), run(tmp_path), some(1))
    other = replace(run(tmp_path), num_identities=9)
    with pytest.raises(ValueError, match=r"latest.pt was written by another configuration"):
        fit(network(), other, some(1))
    replace(other, trainers=TrainerConfig(resume=False)).begin()
    fit(network(), other, some(1))


def test_checkpoints_from_before_the_weightings_are_read(tmp_path):
    fit(network(), run(tmp_path), some(2))
    state = torch.load(tmp_path / "latest.pt", weights_only=True)
    old = {"identity.classifier": "classifier", "weighting.s": "uncertainty"}
    for new, name in old.items():
        state["loss"] = {key.replace(new, name): value for key, value in state["loss"].items()}
    del state["best"], state["validated"]
    assert "uncertainty.score" in state["loss"]
    torch.save(state, tmp_path / "latest.pt")
    fit(network(), run(tmp_path), some(1))
    assert torch.load(tmp_path / "latest.pt", weights_only=True)["step"] == 3


class Reporting(ProcessGroup):
    """A group whose figures are kept."""

    def __init__(self):
        super().__init__()
        self.reported = []

    def report(self, figures):
        self.reported.append(dict(figures))


def test_validation_is_asked_each_epoch_and_the_best_weights_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_STEPS", 6)
    ranks = Reporting()
    answers = iter([0.3, 0.5, 0.4])

    def validate(model):
        assert not model.training
        value = next(answers)
        return {"SEQ": {"ap": value}, "OVERALL": {"ap": value}}

    config = ValidationConfig(sequences=("SEQ",), every_epochs=1, keep_best="ap")
    lines = []
    fit(
        network(),
        run(tmp_path, validation=config, minutes=None, epochs=3),
        some(100),
        ranks=ranks,
        validate=validate,
        show=lines.append,
    )
    # the last figures at the time, and those of the last validation at the end
    seen = [(figures["step"], figures.get("validation_ap")) for figures in ranks.reported]
    assert seen == [(6, 0.3), (12, 0.5), (12, 0.4)]
    assert {"total", "loss_identity", "weight_identity", "rate"} <= set(ranks.reported[0])
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    found = [r for r in rows(tmp_path / "validation.csv") if r["sequence"] == "OVERALL"]
    assert [(r["step"], r["ap"]) for r in found] == [("4", "0.3"), ("8", "0.5"), ("12", "0.4")]
    assert sum("validation after step" in line for line in lines) == 3
    assert lines.index("validating after step 4") + 1 == next(
        number for number, line in enumerate(lines) if "validation after step 4: ap 30.0" in line
    )
    best = weights.load(tmp_path / "best.safetensors").state_dict()
    last = weights.load(tmp_path / "weights.safetensors").state_dict()
    assert any(not torch.equal(best[key], last[key]) for key in best)


def test_a_score_that_is_no_number_keeps_nothing_and_says_so(tmp_path):
    config = ValidationConfig(sequences=("SEQ",), every_epochs=1, keep_best="ap")
    lines = []
    fit(
        network(),
        run(tmp_path, validation=config),
        some(1),
        validate=lambda model: {"OVERALL": {"ap": math.nan}},
        show=lines.append,
    )
    assert "best.safetensors is not written: no data to measure ap on" in lines
    assert not (tmp_path / "best.safetensors").exists()


def test_a_training_shorter_than_a_row_has_curves_too(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 20)
    lines = []
    fit(network(), run(tmp_path), some(1), show=lines.append)
    assert [row["step"] for row in rows(tmp_path / "curves.csv")] == ["1"]
    assert lines[-1].split()[0] == "1"


def test_the_end_is_drawn_and_a_training_that_is_stopped_says_what_is_kept(tmp_path):
    lines = []
    fit(network(), run(tmp_path), some(3), show=lines.append)
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert (picture < 128).any()

    def stopped(first):
        yield from some(2)(first)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(), run(tmp_path), stopped, show=lines.append)
    assert lines[-1] == "saved step 5"


def test_slow_steps_are_shown_before_twenty_of_them_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 20)
    monkeypatch.setattr(loop, "LOG_SECONDS", 0.0)
    lines = []
    fit(network(), run(tmp_path), some(2), show=lines.append)
    assert [line.split()[0] for line in lines[2:]] == ["1", "2"]


@pytest.mark.parametrize("found", ["fp32", "bf16"])
def test_precision_is_by_default_what_tracking_takes(tmp_path, monkeypatch, found):
    monkeypatch.setattr(loop, "quick_precision", lambda device: found)
    lines = []
    learning = run(tmp_path, precision="auto")
    assert TrainingConfig(epochs=1).precision == "auto"
    fit(network(), learning, some(1), show=lines.append)
    assert f"one trainer, {found}" in lines[0]


class Together(ProcessGroup):
    """One of two trainers in threads of this process, who meet where processes would."""

    def __init__(self, rank, barrier, values):
        super().__init__()
        self.rank, self.count = rank, 2
        self.barrier, self.values = barrier, values

    def gather(self, value):
        self.values[self.rank] = value
        self.barrier.wait(60)
        values = list(self.values)
        self.barrier.wait(60)
        return values

    def any(self, *flags):
        return [any(column) for column in zip(*self.gather(flags), strict=True)]


def test_trainers_follow_one_clock_while_the_first_validates(tmp_path, monkeypatch):
    """Each by its own clock they would differ by the seconds of the validations."""
    barrier, values = threading.Barrier(2), [None, None]
    rates = {0: [], 1: []}
    taken = Schedule.lr

    def lr(self, step, fraction):
        value = taken(self, step, fraction)
        rates[int(threading.current_thread().name)].append(value)
        return value

    monkeypatch.setattr(Schedule, "lr", lr)
    clocks = {"0": 0.0, "1": 100.0}  # of each trainer; the second's is slower

    def monotonic():
        name = threading.current_thread().name
        clocks[name] += 0.02 / (1 + int(name))
        return clocks[name]

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=monotonic))
    num_validations = 0

    def validate(model):
        nonlocal num_validations
        num_validations += 1
        clocks["0"] += 0.3
        return {"OVERALL": {"ap": 0.5}}

    config = ValidationConfig(sequences=("SEQ",), every_minutes=0.2 / 60)
    learning = run(tmp_path, config, minutes=0.6 / 60)

    def train(rank):
        fit(
            network(),
            learning,
            some(1000),
            ranks=Together(rank, barrier, values),
            validate=validate,
        )

    threads = [threading.Thread(target=train, args=(rank,), name=str(rank)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert num_validations > 1
    assert len(rates[0]) > 2
    assert rates[0] == rates[1]


def test_a_detectors_backbone_is_taken_over_with_its_colours_turned(tmp_path):
    donor = network().backbone.state_dict()
    torch.save({f"backbone.{key}": value for key, value in donor.items()}, tmp_path / "d.pth")
    model = network()
    assert initialise(model, tmp_path / "d.pth") == len(donor)
    mine = model.backbone.state_dict()["first_conv.0.weight"]
    torch.testing.assert_close(mine, donor["first_conv.0.weight"].flip(1))


def test_initial_weights_that_lack_a_tensor_are_refused(tmp_path):
    donor = network().backbone.state_dict()
    del donor["stage2.0.branch_main.0.weight"]
    torch.save(donor, tmp_path / "d.pth")
    with pytest.raises(ValueError, match=r"stage2\.0\.branch_main\.0\.weight"):
        initialise(network(), tmp_path / "d.pth")


def test_a_whole_network_can_be_the_start(tmp_path):
    donor, model = JDE(SMALL_SHUFFLENET), network()
    weights.save(donor, tmp_path / "d.safetensors")
    assert initialise(model, tmp_path / "d.safetensors") == len(donor.state_dict())
    torch.testing.assert_close(model.heads[0].box.weight, donor.heads[0].box.weight)
    with pytest.raises(ValueError, match=r"none.pth is missing"):
        initialise(model, tmp_path / "none.pth")


def test_a_published_checkpoint_can_be_the_start(published_file, tmp_path):
    with torch.device("meta"):
        model = JDE(CONFIGURATIONS["darknet53-864x480"])
    model.to_empty(device="cpu")
    assert initialise(model, published_file) == len(model.state_dict())
    first = build_state()["module_list.0.conv_0.weight"]
    assert torch.equal(model.backbone.stem[0].weight, first)
    (tmp_path / "bad.pt").write_bytes(b"PK no weights")
    with pytest.raises(ValueError, match=r"bad.pt is not a complete PyTorch file"):
        initialise(model, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad.pt is not a complete PyTorch file"):
        initialise(network(), tmp_path / "bad.pt")


def test_the_identity_loss_can_start_with_a_classifier(tmp_path, monkeypatch):
    start = {"weight": torch.randn(2, SMALL_SHUFFLENET.embedding_dim), "bias": torch.randn(2)}
    monkeypatch.setattr(TrainingRun, "classifier", lambda self: start)
    fit(network(), run(tmp_path, learning_rate=1e-9, warmup_steps=1), some(1))
    loss = torch.load(tmp_path / "latest.pt", weights_only=True)["loss"]
    for leaf, value in start.items():
        torch.testing.assert_close(loss[f"identity.classifier.{leaf}"], value)


def test_the_loss_of_the_small_network_has_the_names_that_curves_show():
    assert JointLoss(SMALL_SHUFFLENET, 2).weighting.tasks == (
        "score",
        "box",
        "identity",
        "appearance",
    )


def test_a_precision_that_is_emulated_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(precision, "quick_precision", lambda _: "fp32")
    fit(network(), run(tmp_path, precision="bf16"), some(1), show=lambda _: None)
    assert "emulates bf16" in caplog.text
