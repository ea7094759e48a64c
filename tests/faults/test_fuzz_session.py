"""Sessions with shuffled and repeated chunks and restarts write the bytes of an undisturbed one.

Each case comes from a seed, which a failure names. A few cases run with the suite; with
`pytest -m slow -s` they run for `JDE_FUZZ_SECONDS` (180 by default) from a seed that is printed.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from recurrent_weights import needed

from jde_ray.models.structures import Detections
from jde_ray.models.tracking.registry import ASSOCIATIONS, build_config
from jde_ray.pipelines.config import DetectionConfig, OutputConfig, TrackConfig
from jde_ray.pipelines.output.checkpoints import Checkpoint, find_states
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import DetectionChunk, Video, VideoInfo, VideoOutcome
from jde_ray.pipelines.tracking.stages.session import Checkpointing, VideoSession

VIDEO = Video("/archive/v.mp4", "v")
CONFIGS = [*ASSOCIATIONS, "published"]


@dataclass
class Case:
    """A video's chunks in order, how they are tracked and what is written."""

    config: TrackConfig
    outputs: OutputConfig
    chunks: list[DetectionChunk]


def draw_case(dice: random.Random) -> Case:
    name = dice.choice(CONFIGS)
    ours = {"mode": name} if name == "published" else {"association": name}
    tracking = build_config(**ours, **needed(name))
    config = TrackConfig(
        detection=DetectionConfig(weights="f", weights_sha256="f" * 64),
        tracking=tracking,
        vid_stride=dice.choice((1, 1, 2, 5)),
        min_box_area=dice.choice((0.0, 200.0, 3000.0)),
    )
    outputs = OutputConfig(
        save_mot=dice.random() < 0.5,
        save_detections=dice.random() < 0.5,
        save_embeddings=dice.random() < 0.5,
    )
    frames, size, dim = dice.randrange(1, 60), dice.choice((1, 4, 16)), dice.choice((0, 8))
    info = VideoInfo(640, 480, dice.choice((7.0, 25.0, 29.97)))
    found = draw_people(np.random.default_rng(dice.getrandbits(32)), dice, frames, dim)
    steps = [dice.choice((1, 1, 1, 3, 0.01)) / info.frames_per_second for _ in range(frames)]
    times = np.cumsum(steps)
    chunks = []
    for number, start in enumerate(range(0, frames, size)):
        part = slice(start, min(start + size, frames))
        index = np.arange(part.start, part.stop) * config.vid_stride
        is_last = part.stop == frames
        capped = dice.randrange(3)
        chunks.append(
            DetectionChunk(
                VIDEO.video_id, 0, number, index, times[part], info, is_last, found[part],
                num_capped=capped,
            )
        )  # fmt: skip
    return Case(config, outputs, chunks)


def draw_people(
    rng: np.random.Generator, dice: random.Random, frames: int, dim: int
) -> list[Detections]:
    """Walkers who come and go, some boxes without area, frames of nobody."""
    people = dice.choice((0, 1, 6, 30))
    start, speed = rng.uniform(0, 400, (people, 2)), rng.normal(0, 3, (people, 2))
    sides, looks = rng.uniform(15, 120, (people, 2)), rng.normal(size=(people, dim))
    found = []
    for frame in range(frames):
        here = rng.random(people) < (0.0 if rng.random() < 0.1 else 0.8)
        corner = (start + speed * frame)[here]
        tlbr = np.concatenate([corner, corner + sides[here]], 1).astype(np.float32)
        flat = rng.random(len(tlbr)) < 0.05
        tlbr[flat, 2] = tlbr[flat, 0]
        vectors = looks[here] + rng.normal(0, 0.2, (len(tlbr), dim))
        scores = rng.uniform(0, 1, len(tlbr)).astype(np.float32)
        found.append(Detections(tlbr, scores, vectors.astype(np.float16)))
    return found


def open_session(
    case: Case, out: Path, spool: Path, attempt: int, every: int, window: int
) -> VideoSession:
    checkpoints = Checkpointing(f"p{attempt}", every) if every else None
    store = open_store(str(out))
    return VideoSession(
        VIDEO, attempt, case.config, case.outputs, store, {"model": "f"}, spool,
        checkpoints=checkpoints, window=window,
    )  # fmt: skip


def run_quietly(case: Case, folder: Path) -> VideoOutcome:
    session = open_session(case, folder / "out", folder / "spool", 0, 0, 8)
    for chunk in case.chunks:
        session.deliver(chunk)
    assert session.outcome is not None
    return session.outcome


def run_troubled(case: Case, folder: Path, dice: random.Random) -> VideoOutcome:
    """Chunks in any order, some twice, of old attempts too; ended and restored at any place."""
    every = dice.choice((1, 5, 30))
    for attempt in range(6):
        window = dice.choice((1, 2, 8))
        session = open_session(case, folder / "out", folder / str(attempt), attempt, every, window)
        store, first = open_store(str(folder / "out")), 0
        for key in find_states(store).get(VIDEO.video_id, [])[:1]:
            kept = Checkpoint.load(store.get(key))
            session.restore(kept)
            first = kept.next_chunk
        todo = [replace(chunk, attempt=attempt) for chunk in case.chunks[first:]]
        order = todo + dice.sample(todo, min(3, len(todo)))
        if dice.random() < 0.7:
            dice.shuffle(order)
        if attempt:
            order.insert(dice.randrange(len(order) + 1), replace(todo[0], attempt=attempt - 1))
        is_ended = attempt < 5 and dice.random() < 0.6
        for chunk in order[: dice.randrange(len(order)) if is_ended else None]:
            session.deliver(chunk)
        if session.outcome is not None:
            return session.outcome
        session.close()
    raise AssertionError("the last attempt was given all chunks and gave no outcome")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check(seed: int, folder: Path) -> None:
    dice = random.Random(seed)
    case = draw_case(dice)
    quiet = run_quietly(case, folder / "quiet")
    troubled = run_troubled(case, folder / "troubled", dice)
    said = f"seed {seed}: {case.config.tracking}"
    assert asdict(troubled.counts) == asdict(quiet.counts), said
    assert files_of(folder / "troubled" / "out") == files_of(folder / "quiet" / "out"), said
    assert not files_of(folder / "quiet" / "spool"), said


@pytest.mark.parametrize("seed", range(8))
def test_trouble_changes_no_byte(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.slow
def test_much_trouble_changes_no_byte(tmp_path: Path) -> None:
    seed, cases = random.SystemRandom().getrandbits(32), 0
    end = time.monotonic() + float(os.environ.get("JDE_FUZZ_SECONDS", "180"))
    sys.stderr.write(f"first seed {seed}\n")
    while time.monotonic() < end:
        check(seed + cases, tmp_path / "case")
        shutil.rmtree(tmp_path / "case")
        cases += 1
    sys.stderr.write(f"{cases} cases\n")
    assert cases > 0
