"""Motion networks: the pieces they learn from, a whole training, and what it learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jde_ray.models.motion.network import MotionLoss, MotionNet
from jde_ray.models.structures import Detections
from jde_ray.models.tracking import autoregression, kalman, ran_weights
from jde_ray.models.tracking.autoregression import UNIT, to_input
from jde_ray.models.tracking.projection import unit
from jde_ray.pipelines.config import DetectionConfig, OutputConfig, TrackConfig
from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.formats.detections import SavedFrame
from jde_ray.pipelines.formats.label_files import LabelErrors
from jde_ray.pipelines.output.result_files import RowWriter
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.training.data.track_pieces import (
    PieceStream,
    TruePath,
    read_paths,
    read_piece_stream,
)
from jde_ray.pipelines.training.kinds.motion import PieceTrainee
from jde_ray.pipelines.training.kinds.registry import build_network, initialise
from jde_ray.pipelines.training.loop import fit
from jde_ray.pipelines.training.process_group import ProcessGroup
from jde_ray.pipelines.training.recipe_file import parse_recipe
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.track_settings import PieceConfig
from jde_ray.pipelines.training.trainer import train_share


def recipe(pieces=None, **training):
    return parse_recipe(
        {
            "network": "ran",
            "licence": "test only",
            "training": {
                **{"steps": 4, "batch": 8, "learning_rate": 1e-3, "precision": "fp32"},
                **{"weight_decay": 0, "warmup_steps": 2, "ema_steps": 0, **training},
            },
            "pieces": {"length": [4, 8], **(pieces or {})},
            "sources": [{"kind": "sequence", "path": "walk"}],
        }
    )


def save_run(out: Path, name="walk", width=6) -> None:
    """Detections of `write_sequence` as a run saves them: person 1 is not found in frame 5.

    Embeddings turn a little with every frame. Frame 3 has a second box over person 1, which fits
    less well.
    """
    config = TrackConfig(detection=DetectionConfig(weights="x/net.pt", weights_sha256="f" * 64))
    record = {"config_hash": config.hash(), "config": config.to_dict()}
    out.mkdir(parents=True)
    (out / "run.json").write_text(json.dumps(record))
    writer = RowWriter(
        out / "rows", Video(f"/x/{name}", name), width, OutputConfig(save_detections=True)
    )
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, width))
    for frame in range(1, 15):
        places = [10 + 2 * frame, 300 - frame]
        shown = [person for person in (0, 1) if not (person == 0 and frame in (5, 13, 14))]
        left = np.array([places[person] for person in shown] + [places[0] + 5] * (frame == 3)) - 1.0
        tlbr = np.stack([left, left * 0 + 19, left + 20, left * 0 + 69], axis=1)
        looks = [2 * base[person] + rng.normal(0, 0.2, width) for person in shown]
        looks += [rng.normal(size=width)] * (frame == 3)
        scores = np.full(len(tlbr), 0.9, np.float32)
        found = Detections(tlbr.astype(np.float32), scores, np.array(looks, np.float32))
        writer.write_detections(SavedFrame(frame - 1, frame / 10, found))
    writer.commit(open_store(str(out)), {"frames_per_second": "10"})


def write_sequence(root: Path, found: str = "") -> None:
    """Person 1 in frames 1 to 12, person 2 in frames 1 to 6 and 8 to 14; 3 is no pedestrian."""
    rows = [(frame, 1, 10 + 2 * frame, 1) for frame in range(1, 13)]
    rows += [(frame, 2, 300 - frame, 1) for frame in range(1, 15) if frame != 7]
    rows += [(frame, 3, 500, 7) for frame in range(1, 15)]
    lines = [f"{f},{i},{x},20,20,50,1,{kind},1\n" for f, i, x, kind in rows]
    (root / "walk" / "gt").mkdir(parents=True)
    (root / "walk" / "gt" / "gt.txt").write_text("".join(lines))
    (root / "walk" / "det").mkdir()
    if found:
        (root / "walk" / "det" / "det.txt").write_text(found)


def paths_of(root, config=PieceConfig()):  # noqa: B008 - frozen
    source = recipe().sources[0]
    problems = LabelErrors()
    paths = read_paths(root / "walk", source, 0, problems, config)
    problems.refuse()
    return paths


def test_people_are_read_as_often_as_they_are_seen_anew_and_as_they_were_detected(tmp_path):
    write_sequence(tmp_path, "2,-1,15,21,20,50,0.9,-1,-1,-1\n3,-1,90,20,20,50,0.9,-1,-1,-1\n")
    paths = paths_of(tmp_path)
    assert [len(path) for path in paths] == [12, 6, 7]
    assert paths[0].boxes[0].tolist() == [12 - 1 + 10, 20 - 1 + 25, 20, 50]
    assert paths[0].boxes[1].tolist() == [15 - 1 + 10, 21 - 1 + 25, 20, 50]  # the detection
    assert paths[0].detected.tolist() == [False, True] + [False] * 10
    plain = paths_of(tmp_path, PieceConfig(detections=False))
    assert plain[0].boxes[1].tolist() == [14 - 1 + 10, 20 - 1 + 25, 20, 50]


def test_a_batch_depends_on_seed_and_step_and_lies_in_one_run(tmp_path):
    write_sequence(tmp_path)
    config = PieceConfig(length=(4, 8), jitter=0.0)
    one, again = (PieceStream(paths_of(tmp_path), [1.0], config, batch=16) for _ in range(2))
    assert torch.equal(one.batch_at(3).steps, again.batch_at(3).steps)
    for step in range(6):
        steps = one.batch_at(step).steps
        assert 4 <= steps.shape[1] <= 8
        first = steps[:, :1]
        np.testing.assert_allclose(steps, first.expand_as(steps), rtol=1e-5)  # nobody jumps
        assert set(first[:, 0, 0].tolist()) <= {np.float32(2 / 2.5), np.float32(-1 / 2.5)}
    with pytest.raises(ValueError, match="got people seen for 11 steps or fewer, expected 20"):
        PieceStream(paths_of(tmp_path), [1.0], PieceConfig(), batch=16)


def whole_and_in_parts(folder, wanted, stream):
    """A training of four steps, then another that stops after two; with the batches of each go."""
    for name, parts in (("whole", (4,)), ("parts", (2, 2))):
        run = TrainingRun(
            recipe=wanted, root=folder, out=str(folder / name), num_identities=0,
            steps_per_epoch=stream.steps_per_epoch,
        )  # fmt: skip
        run.check()
        for number in parts:
            yield (
                run,
                lambda first, number=number: (
                    pair for pair, _ in zip(stream.from_step(first), range(number), strict=False)
                ),
            )


def test_a_resumed_training_equals_an_uninterrupted_one_and_its_file_tracks(tmp_path):
    torch.set_num_threads(1)
    write_sequence(tmp_path)
    wanted = recipe()
    stream = read_piece_stream(wanted, tmp_path, LabelErrors())
    for run, batches in whole_and_in_parts(tmp_path, wanted, stream):
        torch.manual_seed(0)
        fit(build_network(wanted), run, batches)
    whole, parts = (
        ran_weights.read(tmp_path / n / "weights.safetensors") for n in ("whole", "parts")
    )
    for name in autoregression.NAMES:
        np.testing.assert_array_equal(getattr(whole.motion, name), getattr(parts.motion, name))
    assert whole.motion.least < 0
    heading = (tmp_path / "whole" / "curves.csv").read_text().splitlines()[0]
    assert "loss_motion" in heading
    model = build_network(wanted)
    assert initialise(model, tmp_path / "whole" / "weights.safetensors") == 7


def test_the_embeddings_of_a_run_are_those_of_the_people_whom_its_boxes_show(tmp_path):
    write_sequence(tmp_path, "2,-1,15,21,20,50,0.9,-1,-1,-1\n")
    save_run(tmp_path / "run")
    stream = read_piece_stream(recipe({"embeddings": "run"}), tmp_path, LabelErrors())
    first, *_ = stream.paths
    assert first.detected.tolist() == [number != 4 for number in range(12)]  # not those of det.txt
    assert first.is_seen.tolist() == first.detected.tolist()
    assert first.boxes[2].tolist() == [10 + 6 - 1 + 10, 20 - 1 + 25, 20, 50]
    looks = first.embeddings[first.is_seen]
    np.testing.assert_allclose(np.linalg.norm(looks, axis=1), 1, atol=1e-3)
    assert (looks @ looks.T).min() > 0.8  # of one person
    projection = stream.projection
    assert (projection.embedder, projection.embedder_sha256) == ("net.pt", "f" * 64)
    batch = stream.batch_at(0)
    steps, embeddings, frames = batch.inputs(torch.device("cpu"))
    assert embeddings.shape == (8, steps.shape[1] + 1, 6)
    assert frames.shape == embeddings.shape[:2]
    for places, own in zip(frames, embeddings, strict=True):
        number = int((places >= 0).sum())
        assert (places[:number].diff() > 0).all()
        assert (places[number:] == -1).all()
        assert own[:number].any(dim=1).all()
        assert not own[number:].any()


def test_a_training_with_embeddings_resumes_and_its_file_has_appearance(tmp_path):
    torch.set_num_threads(1)
    write_sequence(tmp_path)
    save_run(tmp_path / "run")
    wanted = recipe({"embeddings": "run"})
    stream = read_piece_stream(wanted, tmp_path, LabelErrors())
    for run, batches in whole_and_in_parts(tmp_path, wanted, stream):
        train_share(run, batches, ProcessGroup("cpu"), prepare=stream.prepare)
    whole, parts = (
        ran_weights.read(tmp_path / n / "weights.safetensors").looks for n in ("whole", "parts")
    )
    for name in autoregression.NAMES:
        got, want = getattr(parts.regression, name), getattr(whole.regression, name)
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(parts.projection.matrix, whole.projection.matrix)
    assert whole.projection.embedder_sha256 == "f" * 64
    assert whole.regression.least < 0
    assert "loss_look" in (tmp_path / "whole" / "curves.csv").read_text().splitlines()[0]
    again = build_network(wanted)
    assert initialise(again, tmp_path / "whole" / "weights.safetensors") == 16
    stream.prepare(again)  # the same network: what was learned stays
    np.testing.assert_array_equal(again.looks.matrix, whole.projection.matrix.astype(np.float32))
    again.see(None)
    assert again.looks is None


def test_a_run_that_cannot_teach_appearance_is_refused(tmp_path):
    write_sequence(tmp_path)
    save_run(tmp_path / "other", name="elsewhere")
    save_run(tmp_path / "blind", width=0)
    for name, match in (
        ("other", "which has none of walk, expected all sequences"),
        ("blind", "got detections of walk without embeddings"),
        ("gone", "does not exist"),
    ):
        with pytest.raises((ValueError, RunError), match=match):
            read_piece_stream(recipe({"embeddings": name}), tmp_path, LabelErrors())


def test_training_makes_held_out_looks_likelier_than_without_a_memory():
    torch.manual_seed(0)
    rng, width, frames = np.random.default_rng(0), 6, 13
    people = rng.normal(size=(40, 1, width)).repeat(frames, axis=1)
    people += np.cumsum(rng.normal(0, 0.1, people.shape), axis=1) + rng.normal(0, 0.1, people.shape)
    looks = unit(people.reshape(-1, width)).reshape(people.shape).astype(np.float32)
    boxes = walks(0, 40, frames)
    paths = [
        TruePath(box, np.ones(frames, bool), 0, "walk", look)
        for box, look in zip(boxes, looks, strict=True)
    ]
    config = PieceConfig(length=(8, 12))
    stream = PieceStream(paths[:30], [1.0], config, batch=16, embedder=("small", ""))
    model = build_network(recipe())
    stream.prepare(model)
    held = torch.from_numpy(looks[30:])

    def density():
        with torch.no_grad():
            return float(model.looks.log_density(model.looks.components(held))[:, 1:].mean())

    before = density()
    trainee = PieceTrainee(model, MotionLoss(has_looks=True))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _, (_, batch) in zip(range(60), stream.from_step(0), strict=False):
        total, parts = trainee(*batch.inputs(torch.device("cpu")))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    number = stream.projection.num_components
    without_memory = -0.5 * number * (1 + np.log(2 * np.pi))
    assert before < density()
    assert density() > without_memory + 1
    assert set(parts) == {"motion", "look"}
    both = model.looks.least
    assert both < -sum(
        float(part.detach()) for part in parts.values()
    )  # 1 % of the true pairs lie below


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": [{"kind": "boxes", "path": "x"}]}, "source kind: got 'boxes' with ran"),
        ({"crops": {"sightings": 3}}, "crops: got it with ran, expected none, since it learns"),
        ({"network": "small"}, "pieces: got it with small, expected none, since only a motion"),
        ({"pieces": {"length": [8, 4]}}, r"pieces length: got \[8, 4\], expected \[fewest, most\]"),
        (
            {"pieces": {"embeddings": "run", "detections": False}},
            "pieces embeddings: got run, expected `detections: true`",
        ),
        ({"pieces": {"jitter": 2}}, "pieces jitter: got 2, expected 0 to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    usual = {
        "network": "ran",
        "training": {"steps": 1},
        "pieces": {"length": [4, 8]},
        "sources": [{"kind": "sequence", "path": "x"}],
    }
    with pytest.raises(ValueError, match=message):
        parse_recipe({**usual, **changes})


def walks(seed, number, frames=41):
    """`(number, frames, 4)` boxes of people who keep speeding up, slowing down and turning."""
    rng = np.random.default_rng(seed)
    heights = rng.uniform(60, 200, number)
    phase, pace = rng.uniform(0, 6.3, (2, number)), rng.uniform(0.3, 0.6, number)
    times = np.arange(frames)
    swing = np.sin(pace[:, None] * times + phase[0][:, None])
    drift = np.cos(pace[:, None] * times + phase[1][:, None])
    boxes = np.empty((number, frames, 4))
    boxes[..., 0] = 500 + heights[:, None] * np.cumsum(0.04 + 0.06 * swing, axis=1)
    boxes[..., 1] = 300 + heights[:, None] * np.cumsum(0.02 * drift, axis=1)
    boxes[..., 2], boxes[..., 3] = 0.4 * heights[:, None], heights[:, None]
    return boxes + rng.normal(0, 0.005, boxes.shape) * heights[:, None, None]


def kalman_errors(boxes):
    """Squared errors over variances, logarithms of variances `(4, N, T - 1)`, and heights."""
    xyah = boxes.transpose(2, 0, 1).copy()
    xyah[2] /= xyah[3]
    state = kalman.initiate(xyah[:, :, 0])
    errors, spreads = [], []
    for frame in range(1, boxes.shape[1]):
        kalman.predict(state)
        variance = kalman.innovation_variance(state)
        errors.append((xyah[:, :, frame] - state[:4]) ** 2 / variance)
        spreads.append(np.log(variance))
        kalman.correct(state, xyah[:, :, frame], variance)
    return np.stack(errors, 2), np.stack(spreads, 2), xyah[3, :, 1:]


def kalman_density(learned, held):
    """Mean log density of held-out boxes, after the filter's noise was fitted to others."""
    scale = kalman_errors(learned)[0].mean(axis=(1, 2), keepdims=True)
    errors, spreads, heights = kalman_errors(held)
    spreads = spreads + np.log(scale)
    total = -0.5 * (errors / scale + spreads + np.log(2 * np.pi)).sum(axis=0)
    return float((total - np.log(heights)).mean())  # of widths, not aspects


@pytest.mark.slow
def test_training_makes_held_out_walks_likelier_than_a_kalman_filter_does(tmp_path):
    torch.set_num_threads(1)
    learned, held = walks(0, 120), walks(1, 40)
    paths = [TruePath(one, np.ones(len(one), bool), 0, "walk") for one in learned]
    stream = PieceStream(paths, [1.0], PieceConfig(length=(20, 40)), batch=64)
    wanted = recipe(steps=300, learning_rate=5e-3)
    run = TrainingRun(
        recipe=wanted, root=tmp_path, out=str(tmp_path), num_identities=0, steps_per_epoch=10
    )
    inputs = to_input(held.T[:, :-1], held.T[:, 1:], 1.0).transpose(2, 1, 0)
    pixels = 4 * np.log(UNIT * held[:, :-1, 3])

    def density(model: MotionNet) -> float:
        with torch.no_grad():
            of_inputs = model.log_density(torch.from_numpy(inputs).float()).numpy()
        return float((of_inputs - pixels).mean())

    model = build_network(wanted)
    before = density(model)
    after = density(fit(model, run, stream.from_step))
    filtered = kalman_density(learned, held)
    assert before < filtered < after - 0.3
