"""Find footage that a recipe learns from and that it, or a benchmark, is scored on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jde_ray.pipelines.data_sets.published import BENCHMARKS, footage, sequence_of
from jde_ray.pipelines.formats.label_files import LabelErrors, read_lines
from jde_ray.pipelines.training.data.labelled_image import ListedImage, TrainingImage
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.source import Source

VALIDATION = "validation"


@dataclass(frozen=True)
class Overlap:
    """A sequence that is learned from and scored on.

    Attributes:
        scored: `VALIDATION`, a list or sequence of `--test`, or a part of a benchmark.
        sequence: Name of the sequence there.
        source: Path of the source that shows it.
        known_as: Its name in the source.
        is_wrong: Whether the recipe itself, or the user, says that it is for validation or tests.
    """

    scored: str
    sequence: str
    source: str
    known_as: str
    is_wrong: bool


def find_overlaps(
    recipe: Recipe, root: Path, groups: Sequence[Sequence[TrainingImage]], tests: Sequence[str] = ()
) -> list[Overlap]:
    """Overlaps of the sources with validation, tests and benchmarks, by sequence.

    Sequences are those of paths, of listed pictures and of `scene`. All names of one piece of
    footage are known for MOT15, MOT16, MOT17 and ETH (`data_sets.published.SHARED_FOOTAGE`).

    Args:
        recipe: The recipe.
        root: Folder to which paths are relative.
        groups: Images of each source.
        tests: Lists or sequence folders below the root that are for tests, or names of sequences.

    Raises:
        ValueError: If a list cannot be read.
    """
    scored: list[tuple[str, str, bool]] = []
    if recipe.validation is not None:
        scored += [(VALIDATION, Path(p).name, True) for p in recipe.validation.sequences]
    for test in tests:
        scored += [(test, name, True) for name in _test_sequences(root, test)]
    scored += [(part, name, False) for part, names in BENCHMARKS.items() for name in names]
    shown: dict[str, list[tuple[str, str]]] = {}
    for source, images in zip(recipe.sources, groups, strict=True):
        for name in _sequences(source, root, images):
            shown.setdefault(footage(name), []).append((source.path, name))
    found: dict[tuple[str, str, str], Overlap] = {}
    for where, sequence, is_wrong in scored:
        for path, name in shown.get(footage(sequence), ()):
            overlap = Overlap(where, sequence, path, name, is_wrong)
            found.setdefault((where, sequence, path), overlap)
    return list(found.values())


def _test_sequences(root: Path, test: str) -> list[str]:
    path = root / test
    if not path.is_file():
        return [Path(test).name]
    problems = LabelErrors()
    names = [sequence_of(line) for _, line in read_lines(path, problems)]
    problems.refuse()
    return list(dict.fromkeys(names))


def _sequences(source: Source, root: Path, images: Iterable[TrainingImage]) -> list[str]:
    """Names of what a source shows."""
    if source.kind != "list":
        own = [] if source.kind == "synthetic" else [source.name]
        return list(dict.fromkeys([*own, *source.scenes]))
    listed = (image.path for image in images if isinstance(image, ListedImage))
    names = [sequence_of(path.relative_to(root).as_posix()) for path in listed]
    return list(dict.fromkeys([*names, *source.scenes]))
