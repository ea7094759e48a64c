"""`jde demo`: render a small archive with ground truth, track it on a local Ray, and score it.

Also `python -m jobs.demo`. Needs no download and no GPU.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from jde_ray.jobs.console.flags import completion
from jde_ray.jobs.console.runner import main
from jde_ray.jobs.console.settings import refuse_missing
from jde_ray.models.cards import DEFAULT_WEIGHTS
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.video.synthetic import render_street

if TYPE_CHECKING:
    from jde_ray.models.metrics.tracking import SequenceScores
    from jde_ray.pipelines.config import ResourceConfig, TrackConfig
    from jde_ray.pipelines.live.tracker import Tracker
    from jde_ray.pipelines.output.summary import Summary
    from jde_ray.pipelines.tracking.components import Components

VISIBLE = 0.25  # people less visible than this count neither as hits nor as misses
SCENES = {"promenade": 14, "high_street": 25, "square": 24}  # seeds
_STREET = StreetScene(0, width=640, height=360, frames_per_second=20.0, num_people=8)
PICTURED = replace(_STREET, seed=SCENES["high_street"], num_frames=41)


@dataclass(frozen=True)
class DemoVideo:
    """One video of the demo.

    Attributes:
        name: Name of the scene and stem of the file.
        path: The rendered video.
        folder: Ground truth in MOTChallenge layout.
        scene: The scene that is rendered.
    """

    name: str
    path: Path
    folder: Path
    scene: StreetScene

    @property
    def truth(self) -> Path:
        """Ground truth file."""
        return self.folder / "gt" / "gt.txt"


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder of the demo; videos already rendered there are reused.")
    ] = Path("runs/demo"),
    weights: Annotated[
        str, typer.Option(help="Name of a shipped model, or path of a weight file.")
    ] = DEFAULT_WEIGHTS,
    seconds: Annotated[float, typer.Option(min=0.2, max=600, help="Length of each video.")] = 10.0,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda",
            help="Device that the network runs on.",
            autocompletion=completion(("auto", "cpu", "cuda")),
        ),
    ] = "auto",
    pictures: Annotated[
        Path | None,
        typer.Option(hidden=True, help="Only write the pictures of the README into this folder."),
    ] = None,
) -> int:
    """Render three street scenes, track the people and score the tracks against ground truth."""
    console = Console(width=None if os.isatty(1) else 110)
    refuse_missing({("detection", "weights"): weights})
    if pictures is not None:
        from jde_ray.pipelines.live.tracker import Tracker

        write_pictures(pictures, Tracker(weights, frames_per_second=PICTURED.frames_per_second))
        console.print(f"written to {pictures}", highlight=False, soft_wrap=True)
        return 0
    from jde_ray.pipelines.config import ResourceConfig, TrackConfig
    from jde_ray.pipelines.errors import ExitCode, RunError

    try:
        resources = ResourceConfig(device=device)  # type: ignore[arg-type]  # it checks the value
        console.print(
            f"renders three street scenes of {seconds:g} s into {out}, tracks the people, scores"
            " the tracks; takes a minute or two on an idle machine",
            highlight=False,
        )
        from jde_ray.pipelines.detection.settings import detection_for  # imports torch

        # before rendering: report a wrong path at once
        config = TrackConfig(detection=detection_for(weights))
        return run(out, config, resources, seconds, console)
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error


def run(
    out: Path,
    config: TrackConfig,
    resources: ResourceConfig,
    seconds: float,
    console: Console,
    components: Components | None = None,
) -> int:
    """Run the demo.

    Args:
        out: Folder in which `archive/` and `truth/` are rendered, `tracks/` and `videos/` written.
        config: Detection and tracking settings.
        resources: Device and pools.
        seconds: Length of each video.
        console: Receives progress and results.
        components: Functions that decode and detect; None for the real ones.

    Returns:
        Exit code of the run.

    Raises:
        RunError: If the run is refused or interrupted.
        ValueError: If the folder holds a demo of another length.
    """
    from jde_ray.jobs.console.progress import Display
    from jde_ray.pipelines.config import OutputConfig
    from jde_ray.pipelines.errors import ExitCode, RunError
    from jde_ray.pipelines.tracking.components import Components
    from jde_ray.pipelines.tracking.offline import track

    started = perf_counter()
    videos = plan_archive(out, seconds)
    for video in videos:
        if not is_rendered(video):
            console.print(f"rendering {video.path} ...", highlight=False)
            render_video(video)
    console.print("tracking on a local Ray ...", highlight=False)
    sources = [str(out / "archive")]
    with Display() as display:
        display.doing("loading Ray")
        summary = track(
            sources,
            str(out),
            config,
            resources=resources,
            outputs=OutputConfig(save_video=True),
            components=components or Components(),
            progress=display,
        )
    if summary.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        raise RunError("interrupted; run the same command to continue", summary.exit_code)
    scored = score_archive(videos, out)
    _report(console, videos, out, scored, summary)
    console.print(f"done in {perf_counter() - started:.0f} s", highlight=False)
    return int(summary.exit_code)


def write_pictures(folder: Path, tracker: Tracker, scene: StreetScene = PICTURED) -> None:
    """Write the README's pictures: tracked people in a street, and the drawing of the dataflow.

    Args:
        folder: Folder of `people.webp` and `dataflow.svg`.
        tracker: Tracks the people.
        scene: The street; its last frame is the picture.
    """
    import cv2
    import numpy as np

    from jde_ray.models.synthetic.render import render
    from jde_ray.pipelines.report.dataflow import dataflow_drawing
    from jde_ray.pipelines.video.drawing import TRAIL_S, Trails, draw_tracks

    folder.mkdir(parents=True, exist_ok=True)
    trails = Trails(round(TRAIL_S * scene.frames_per_second))
    for image, _ in render(scene):
        tracks = tracker.update(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8))
        points = trails.update(tracks.track_id, tracks.tlbr)
        drawn = draw_tracks(image, tracks.track_id, tracks.tlbr, tracks.score, points)
    picture = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / "people.webp"), picture, (cv2.IMWRITE_WEBP_QUALITY, 90))
    (folder / "dataflow.svg").write_text(dataflow_drawing(), encoding="utf-8")


def plan_archive(out: Path, seconds: float) -> list[DemoVideo]:
    """List the videos of the demo without writing anything."""
    num_frames = max(1, round(seconds * _STREET.frames_per_second))
    return [
        DemoVideo(
            name,
            out / "archive" / f"{name}.mp4",
            out / "truth" / name,
            replace(_STREET, seed=seed, num_frames=num_frames),
        )
        for name, seed in SCENES.items()
    ]


def is_rendered(video: DemoVideo) -> bool:
    """Whether an earlier demo has rendered the video.

    Raises:
        ValueError: If it has another length.
    """
    from jde_ray.pipelines.formats.sequence_info import read_sequence_info

    path = video.folder / "seqinfo.ini"
    if not (video.path.exists() and path.exists()):
        return False
    got, wanted = read_sequence_info(path).num_frames, video.scene.num_frames
    if got != wanted:
        seconds = got / video.scene.frames_per_second
        raise ValueError(
            f"seconds: {video.path} was rendered with --seconds {seconds:g}, "
            "expected the same or another --out"
        )
    return True


def render_video(video: DemoVideo) -> None:
    """Write a video of the archive, and its ground truth as MOTChallenge text."""
    render_street(video.scene, video.path, video.folder)


def tracks_path(video: DemoVideo, out: Path) -> Path:
    """Path of a video's tracks."""
    from jde_ray.pipelines.sources.discovery import find_videos

    found, _ = find_videos([str(video.path)])
    return out / "tracks" / f"{found[0].video_id}.parquet"


def score_archive(videos: list[DemoVideo], out: Path) -> dict[str, SequenceScores]:
    """Scores of the videos that have tracks, by name, and `OVERALL`."""
    from jde_ray.models.metrics.tracking import score_sequence, summarize
    from jde_ray.pipelines.formats.mot import read_ground_truth
    from jde_ray.pipelines.formats.tracks import read_tracks

    scores = {}
    for video in videos:
        path = tracks_path(video, out)
        if path.exists():
            truth = read_ground_truth(video.truth)
            seen = truth.visibility >= VISIBLE
            people, hidden = truth.people[seen], truth.people[~seen]
            scores[video.name] = score_sequence(people, read_tracks(path), hidden)
    return summarize(scores)


def annotated_path(video: DemoVideo, out: Path) -> Path:
    """Path of the annotated video."""
    return out / "videos" / f"{tracks_path(video, out).stem}.mp4"


def _report(
    console: Console,
    videos: list[DemoVideo],
    out: Path,
    scored: dict[str, SequenceScores],
    summary: Summary,
) -> None:
    from jde_ray.pipelines.formats.tracks import read_tracks

    speed = summary.frames_per_second.get("wall")
    title = "people tracked" + (
        f" and drawn at {speed:.1f} frames/s, start of Ray included" if speed else ""
    )
    table = Table(title=title, caption=f"people less than {VISIBLE:.0%} visible are left "
                  "out of the scores")  # fmt: skip
    table.add_column("video")
    for name in ("frames", "people", "tracks", "MOTA", "IDF1", "switches"):
        table.add_column(name, justify="right")
    tracks = 0
    for video in videos:
        if video.name not in scored:
            table.add_row(video.name, *["-"] * 6)
            continue
        number = len(set(read_tracks(tracks_path(video, out)).track_id.tolist()))
        tracks += number
        table.add_row(video.name, *_cells(scored[video.name], video.scene.num_frames, number))
    if scored:
        frames = sum(video.scene.num_frames for video in videos if video.name in scored)
        table.add_section()
        table.add_row("all", *_cells(scored["OVERALL"], frames, tracks))
    console.print(table)
    for error in [*summary.errors, *summary.picture_errors]:
        console.print(f"failed: {error['video']}: {error['reason']}: {error['detail']}")
    for video in videos:
        if video.name in scored:
            console.print(f"watch  {annotated_path(video, out)}", highlight=False, soft_wrap=True)
    console.print(f"rows   {out / 'tracks'}/*.parquet", highlight=False, soft_wrap=True)
    if summary.has_report:
        console.print(f"report {out / 'report.html'}", highlight=False, soft_wrap=True)


def _cells(scores: SequenceScores, num_frames: int, num_tracks: int) -> list[str]:
    clear = scores.clear
    counts = (str(num_frames), str(clear.num_ids), str(num_tracks))
    return [*counts, f"{clear.mota:.1%}", f"{scores.identity.idf1:.1%}", str(clear.num_switches)]


if __name__ == "__main__":
    main(demo, "demo")
