"""`jde track --refine`: refines a run's tracks after it, and says what came of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jde_ray.jobs.console.messages import count_videos
from jde_ray.jobs.console.options import Settings
from jde_ray.jobs.console.progress import working
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.pipelines.refinement.second_look import SecondLook
    from jde_ray.pipelines.refinement.steps import RefineConfig


def check_before_run(out: str, settings: Settings) -> None:
    """Refuse a folder OUT/refined of other steps before any work.

    Raises:
        RunError: If it holds tracks refined by other steps, or cannot be read; if a second look is
            left to a refinement that was not asked for.
    """
    if not settings.outputs.refine:
        if settings.track.detection.reid_mode == "offline":
            raise RunError(
                "reid-mode: got offline, expected --refine with it (or `jde refine --reid` later)",
                ExitCode.REFUSED,
            )
        return
    from jde_ray.pipelines.refinement.records import check_refined
    from jde_ray.pipelines.refinement.run import refined_place

    try:
        check_refined(refined_place(out), _steps(settings)[0])
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error


def _steps(settings: Settings) -> tuple[RefineConfig, SecondLook | None]:
    """The usual steps, with the second look that the run left to them.

    Raises:
        ValueError: If the network cannot be read.
    """
    from jde_ray.pipelines.detection.weights import reid_fingerprint
    from jde_ray.pipelines.refinement.second_look import SecondLook
    from jde_ray.pipelines.refinement.steps import USUAL

    detection = settings.track.detection
    if not detection.second_look or detection.looks_again:
        return USUAL, None
    sha256 = detection.reid_sha256 or reid_fingerprint(detection.second_look)
    look = SecondLook(detection.second_look, threads=settings.resources.torch_threads)
    return replace(USUAL, reid_sha256=sha256), look


def refine_run(out: str, settings: Settings) -> tuple[list[str], list[str]]:
    """Refine the videos of OUT that are done and not refined yet.

    Returns:
        Lines about it, and a line for each video that could not be refined.

    Raises:
        RunError: If none can be refined. The tracks themselves are done.
    """
    from jde_ray.pipelines.output.layout import TRACKS_PREFIX
    from jde_ray.pipelines.refinement.run import refine, refined_place
    from jde_ray.pipelines.storage.stores import open_store

    if next(iter(open_store(out).list(TRACKS_PREFIX)), None) is None:
        return [], []  # every video failed
    address = settings.resources.address
    is_quiet = settings.console.quiet or settings.console.progress in ("json", "none")
    try:
        with working("refining", "videos", is_quiet=is_quiet):
            steps, look = _steps(settings)
            refined = refine(
                out, refined_place(out), steps, None if address == "local" else address, look
            )
    except (ValueError, OSError) as error:
        raise RunError(
            f"refined: {error}; the tracks in {out} are done", ExitCode.INTERNAL
        ) from error
    failed = [one for one in refined if one.error]
    new = [one for one in refined if one.is_new]
    num_before = len(refined) - len(new) - len(failed)
    before, after = (
        sum(getattr(one, name) for one in new) for name in ("tracks_before", "tracks_after")
    )
    lines = [
        f"refined into {refined_place(out)}: "
        f"{before} tracks of {count_videos(len(new))} became {after}"
        + (f", {num_before} done before" if num_before else "")
        + (f", {count_videos(len(failed))} failed" if failed else "")
    ]
    if crops := sum(one.num_crops for one in new):
        lines.append(f"second look: {crops} crops of {sum(one.rows_before for one in new)} boxes")
    if without := sum(not one.by_appearance for one in new):
        lines.append(
            f"{count_videos(without)} refined by motion alone: their tracks have no embeddings"
        )
    return lines, [f"jde: refined: {one.error}; its tracks are done" for one in failed]
