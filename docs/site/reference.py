"""The reference of commands and settings, written from the code that reads them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from typer.main import get_command

from jde_ray.jobs import cli
from jde_ray.jobs.console.options import SECTIONS
from jde_ray.jobs.console.run_flags import FLAGS
from jde_ray.jobs.console.runner import application
from jde_ray.models.tracking.registry import CONFIGS as ASSOCIATIONS
from jde_ray.pipelines.serving.config import Limits, ServeConfig
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.settings import Augmentation, TrainingConfig, ValidationConfig
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.training.track_settings import PieceConfig

# what typer and our own flags say at the end of a help text: default, limits
_REMARK = re.compile(r"\s*\\?\[((?:default: |[\d.]*<?=?x[<>]).*)\]$")
_FILLED_IN = ("weights_sha256", "reid_sha256", "build_model")  # by the program, not by a file
_NO_OPTIONS = ("install_completion", "show_completion")  # of typer; `jde` has its own


def commands() -> str:
    """Page of all verbs with their options."""
    parts = [
        "# Commands",
        "All that `jde VERB --help` shows. `jde track --config FILE.yaml` sets the same values "
        "from a file ([settings](settings.md)), and a flag overrides the file. "
        "[Exit codes](architecture.md#exit-codes) are the same for all verbs.",
    ]
    verbs = ", ".join(f"[{verb}](#jde-{verb})" for verb in cli.VERBS)
    parts.append(f"Verbs: {verbs}.")
    for verb, (module, name, _) in cli.VERBS.items():
        target = getattr(importlib.import_module(module), name)
        parts += _command(f"jde {verb}", get_command(application(target)), level=2)
    return "\n\n".join(parts) + "\n"


def settings() -> str:
    """Page of all settings that a YAML file can hold."""
    parts = [
        "# Settings",
        "The fields of the YAML files that `jde track`, `jde serve` and `jde train` read, with "
        "their defaults. A value that is out of range, or a name that does not exist, is refused. "
        "`null` is None: no value given.",
        "## jde track --config",
        "Sections of the file. A setting with a flag can also stand outside of its section, under "
        "the name of the flag: `conf: 0.4`.",
    ]
    flags = {(flag.config, flag.field): (name, flag.text) for name, flag in FLAGS.items()}
    for section, config in SECTIONS.items():
        if section == "tracking":
            continue
        parts += [f"### {section}", _summary(config), _fields(config, flags)]
    parts += [
        "## Trackers",
        "The section `tracking` of that file. `association: NAME` chooses the tracker, and each "
        "has settings of its own ([how they track](association.md)).",
    ]
    for name, config in ASSOCIATIONS.items():
        parts += [f"### tracking, association {name}", _fields(config, flags)]
    parts += ["## jde serve --config", "`args` of the file ([serving](serving.md))."]
    for title, config in (("args", ServeConfig), ("limits", Limits)):
        parts += [f"### {title}", _summary(config), _fields(config, {})]
    parts += ["## jde train --config", "A recipe ([training](training.md))."]
    recipe = {
        "recipe": Recipe,
        "sources": Source,
        "training": TrainingConfig,
        "augmentation": Augmentation,
        "validation": ValidationConfig,
        "pieces": PieceConfig,
    }
    for title, config in recipe.items():
        parts += [f"### {title}", _summary(config), _fields(config, {})]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any, level: int) -> Iterator[str]:
    """Usage, help and options of a verb, then its own verbs."""
    context = command.context_class(command, info_name=name)
    yield f"{'#' * level} {name}"
    yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```"
    if command.help:
        yield _plain(inspect.cleandoc(command.help))
    panels: dict[str, list[tuple[str, ...]]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if parameter.hidden or parameter.name in _NO_OPTIONS or record is None:
            continue
        is_option = record[0].startswith("-")
        panel = getattr(parameter, "rich_help_panel", None)
        panel = panel or ("Options" if is_option else "Arguments")
        panels.setdefault(panel, []).append(_option(*record))
    for panel, rows in panels.items():
        heads = ("argument" if panel == "Arguments" else "option", "meaning", "default")
        if len(panels) > 1:
            yield f"**{panel}**"
        shown = 3 if any(row[2] for row in rows) else 2  # some have no default at all
        yield _table(heads[:shown], [row[:shown] for row in rows])
    for inner, below in getattr(command, "commands", {}).items():
        yield from _command(f"{name} {inner}", below, level + 1)


def _option(declared: str, text: str) -> tuple[str, str, str]:
    """Cells of an option: how it is written, what it means, its default."""
    is_required = text.endswith("[required]")
    text = text.removesuffix("[required]").rstrip()
    default = "required" if is_required else ""
    if found := _REMARK.search(text.replace("]  [", "; ")):
        remarks = found[1].split("; ")
        limits = [one for one in remarks if re.search("<=?x|x[<>]", one)]
        text = " ".join([text[: found.start()], *(f"({_limit(one)})" for one in limits)])
        rest = "; ".join(one for one in remarks if one not in limits)
        default = rest.removeprefix("default: ") or default
    return f"`{declared}`", _plain(text), default


def _limit(text: str) -> str:
    """A limit as typer writes it, in words.

    >>> _limit("x>=1"), _limit("0.2<=x<=600")
    ('from 1', '0.2 to 600')
    """
    low, _, high = text.replace("x>=", "from ").partition("<=x<=")
    return f"{low} to {high}" if high else low


def _fields(config: type[Any], flags: dict[tuple[type[Any], str], tuple[str, str]]) -> str:
    """Table of a configuration's fields.

    Raises:
        ValueError: If a field is described nowhere.
    """
    described, hints = _attributes(config), get_type_hints(config)
    rows = []
    for field in dataclasses.fields(config):
        if field.name in _FILLED_IN or _is_section(hints[field.name]):
            continue
        flag, text = flags.get((config, field.name), ("", ""))
        text = described.get(field.name, text)
        if not text:
            raise ValueError(f"{config.__name__}.{field.name}: no description in the docstring")
        meaning = (
            f"{_plain(text)} ({shown})" if (shown := _choices(hints[field.name])) else _plain(text)
        )
        name = f"`{field.name}`" + (f", `--{flag.replace('_', '-')}`" if flag else "")
        rows.append((name, meaning, _default(field)))
    return _table(("setting", "meaning", "default"), rows)


def _attributes(config: type[Any]) -> dict[str, str]:
    """Texts of the section `Attributes` of a docstring, by field; also of its base classes."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__[:-1]):
        text = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        text = re.split(r"^\S", text, maxsplit=1, flags=re.MULTILINE)[0]
        entries = re.split(r"^    (?=\w[\w, ]*: )", text, flags=re.MULTILINE)
        for entry in entries[1:]:
            names, _, meaning = entry.partition(": ")
            found |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return found


def _summary(config: type[Any]) -> str:
    return _plain(inspect.cleandoc(config.__doc__ or "").partition("\n\n")[0])


def _is_section(hint: Any) -> bool:
    """Whether a field holds another configuration, which has a table of its own."""
    kinds = get_args(hint) or (hint,)
    return any(dataclasses.is_dataclass(kind) for kind in kinds)


def _choices(hint: Any) -> str:
    """The choices of a field, if its type names them."""
    if get_origin(hint) in (Union, types.UnionType):
        return "".join(_choices(kind) for kind in get_args(hint))
    if get_origin(hint) is Literal and len(get_args(hint)) > 1:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    return ""


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if value is dataclasses.MISSING:
        return "" if field.default_factory is not dataclasses.MISSING else "required"
    if value is None or value == "":
        return "`null`" if value is None else ""
    if isinstance(value, tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _plain(text: str) -> str:
    r"""Help text without the escapes of rich, in which Markdown sees no HTML."""
    text = text.replace("\\[", "[")
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([<>*_])", r"\\\1", part) for part in parts
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    lines += [
        " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows
    ]
    return "\n".join(f"| {line} |" for line in lines)
