"""`jde track --refine`: refines a run's tracks after it, and says what came of it."""

from __future__ import annotations

from jde_ray.jobs.console.messages import count_videos
from jde_ray.jobs.console.options import Settings
from jde_ray.jobs.console.progress import working
from jde_ray.pipelines.errors import ExitCode, RunError


def check_before_run(out: str) -> None:
    """Refuse a folder OUT/refined of other steps before any work.

    Raises:
        RunError: If it holds tracks refined by other steps, or cannot be read.
    """
    from jde_ray.pipelines.refinement import USUAL, check_refined, refined_place

    try:
        check_refined(refined_place(out), USUAL)
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error


def refine_run(out: str, settings: Settings) -> list[str]:
    """Refine the videos of OUT that are done and not refined yet; lines about it.

    Raises:
        RunError: If they cannot be refined. The tracks themselves are done.
    """
    from jde_ray.pipelines.output.layout import TRACKS_PREFIX
    from jde_ray.pipelines.refinement import USUAL, refine, refined_place
    from jde_ray.pipelines.storage.stores import open_store

    if next(iter(open_store(out).list(TRACKS_PREFIX)), None) is None:
        return []  # every video failed
    address = settings.resources.address
    is_quiet = settings.console.quiet or settings.console.progress in ("json", "none")
    try:
        with working("refining", "videos", is_quiet=is_quiet):
            refined = refine(
                out, refined_place(out), USUAL, None if address == "local" else address
            )
    except (ValueError, OSError) as error:
        raise RunError(
            f"refined: {error}; the tracks in {out} are done", ExitCode.INTERNAL
        ) from error
    new = [one for one in refined if one.is_new]
    before, after = (
        sum(getattr(one, name) for one in new) for name in ("tracks_before", "tracks_after")
    )
    lines = [
        f"refined into {refined_place(out)}: "
        f"{before} tracks of {count_videos(len(new))} became {after}"
        + (f", {len(refined) - len(new)} done before" if len(new) < len(refined) else "")
    ]
    if without := sum(not one.by_appearance for one in new):
        lines.append(
            f"{count_videos(without)} refined by motion alone; "
            "--save-embeddings lets appearance help"
        )
    return lines
