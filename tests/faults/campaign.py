"""Random kills of all processes of a run, and an oracle that checks the output.

A story is one OUT: runs of the same command are disturbed until one of them succeeds; then the
oracle checks all promises. In some stories OUT already holds tracks of older videos, and the
command has `--overwrite`. Only descendants of the campaign's own drivers are killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import fakes
from conftest import ROOT, WORKER_PATH
from fakes import Script
from oracle import command_of, committed, differences, left_behind, summary_errors
from run_kills import OUTPUTS

from jde_ray.pipelines import processes
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.tracking import reference

NUM_VIDEOS, NUM_FRAMES, FRAME_S = 5, 240, 0.012
END_S = 600.0  # a run that takes longer hangs

# what its processes go by
WORKERS = {
    "detector": "DetectorStage",
    "association": "AssociationShard",
    "decoder": "decode_rows",
}
RAYS = {"raylet": "raylet", "gcs": "gcs_server"}
# how a run may end beside well, and whether a line has to say so
ENDS = {
    "raylet": {ExitCode.INTERNAL},
    "gcs": {ExitCode.INTERNAL},
    "driver": {-signal.SIGKILL},
    "SIGTERM": {ExitCode.TERMINATED},
    "SIGINT": {ExitCode.INTERRUPTED},
}
KINDS = (
    ["detector"] * 6 + ["association"] * 4 + ["decoder"] * 4 + ["driver"] * 3 + ["raylet"] * 2
    + ["gcs", "SIGTERM", "SIGINT", "SIGSTOP"]
)  # fmt: skip


@dataclass
class Findings:
    """What was done, and what was not as promised."""

    kills: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Campaign:
    """Kills by a seed, in a folder of its own.

    Args:
        folder: For the archive and the outputs.
        seed: Of who dies when.
        environment: Beside that of the process, for the runs.
    """

    def __init__(self, folder: Path, seed: int, environment: dict[str, str] | None = None) -> None:
        self._folder, self._random = folder, random.Random(seed)
        self._environment = environment or {}
        self.log: Callable[[str], object] = lambda line: None
        self.found = Findings()
        self._source = folder / "in"
        self._older, self._older_bytes, _ = self._track_plainly("older", seed=100, frame_s=0.0)
        self.plain, self._bytes, summary = self._track_plainly("plain", seed=0, frame_s=FRAME_S)
        self._expected = {row.video_id: row for row in summary.videos}
        self._family: set[processes.Process] = set()
        self._inodes: dict[str, int] = {}

    def _track_plainly(
        self, name: str, *, seed: int, frame_s: float
    ) -> tuple[Path, dict[str, bytes], Summary]:
        """Write the videos anew, and track them with the loop that nobody disturbs."""
        scripts = {
            f"v{i}": Script(NUM_FRAMES + 24 * i, seed=seed + i, frame_s=frame_s)
            for i in range(NUM_VIDEOS)
        }
        fakes.archive(self._source, **scripts)
        out = self._folder / name
        summary = reference.track(
            [str(self._source)],
            str(out),
            fakes.CONFIG,
            components=fakes.COMPONENTS,
            outputs=OUTPUTS,
            resources=ResourceConfig(chunk_frames=8),
        )
        (out / "summary.json").write_text(summary.to_json())
        return out, committed(out), summary

    def kill(self, num_kills: int, kinds: list[str] = KINDS, cluster_every: int = 8) -> Findings:
        """Stories until so many kills have hit somebody."""
        story = 0
        while sum(self.found.kills.values()) < num_kills and story < 2 * num_kills:
            address = "cluster" if story % cluster_every == cluster_every - 1 else "local"
            self.story(f"story-{story}", kinds, address=address, overwrite=story % 4 == 2)
            story += 1
        return self.found

    def story(
        self,
        name: str,
        kinds: list[str],
        *,
        address: str = "local",
        twins: int = 1,
        overwrite: bool = False,
    ) -> None:
        """One OUT: at most three disturbed runs, and one that is left alone."""
        out = self._folder / name
        if overwrite:
            shutil.copytree(self._older, out)
            name = f"{name} (overwrite)"
        spools = Path(tempfile.mkdtemp(prefix="jk", dir="/tmp"))  # sockets have short names
        self._family, self._inodes = set(), {}
        try:
            for disturbed in (True, True, True, False):
                chosen = [self._random.choice(kinds) for _ in range(self._random.randint(1, 4))]
                if address == "cluster":
                    chosen = ["node"]
                drivers = [self._start(out, spools, address, overwrite) for _ in range(twins)]
                is_burst = self._random.random() < 0.3
                codes = self._disturb(name, drivers, out, chosen if disturbed else [], is_burst)
                if any(code is None for code in codes):
                    return
                if overwrite:
                    self._look_between(name, out)
                if all(code == ExitCode.DONE for code in codes):
                    break
            self._look(name, out, spools)
        finally:
            processes.end(self._family)
            shutil.rmtree(spools, ignore_errors=True)

    def _start(
        self, out: Path, spools: Path, address: str, overwrite: bool
    ) -> subprocess.Popen[str]:
        path = f"{ROOT / 'tests/faults/mutations'}:{WORKER_PATH}"
        environment = os.environ | {
            "PYTHONPATH": path if "JDE_MUTATION" in self._environment else WORKER_PATH,
            "RAY_AUTH_MODE": "disabled",
            "TMPDIR": str(spools),
            **self._environment,
        }
        program, last = ROOT / "tests/run_kills.py", "yes" if overwrite else "no"
        command = [sys.executable, program, self._source, out, address, last]
        out.parent.mkdir(exist_ok=True)
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def _disturb(
        self,
        name: str,
        drivers: list[subprocess.Popen[str]],
        out: Path,
        chosen: list[str],
        is_burst: bool,
    ) -> list[int | None]:
        """Wait for the drivers' ends, and kill on the way; None for one that hangs."""
        driver, hit = drivers[0], []
        started, next_kill = time.monotonic(), None
        pauses = [0.0 if is_burst and k else self._random.uniform(0.2, 8) for k in range(9)]
        while any(one.poll() is None for one in drivers):
            self._note(name, drivers, out)
            now = time.monotonic()
            if next_kill is None and self._victims(driver, "detector"):
                next_kill = now + pauses[0]
            is_time = chosen and next_kill is not None and now >= next_kill
            if is_time and driver.poll() is None and self._hit(driver, chosen[0]):
                hit.append(chosen[0])
                self.found.kills[chosen[0]] += 1
                chosen = chosen[1:]
                next_kill = now + pauses[len(hit)]
            if now - started > END_S:
                self._wrong(f"{name}: after {hit} it hangs")
                return [None]
            time.sleep(0.05)
        codes: list[int | None] = []
        for one in drivers:
            said = one.communicate()[1]
            codes.append(one.returncode)
            self.found.ends[f"{one.returncode}"] += 1
            self.log(f"{name}: {hit} -> exit {one.returncode} {time.monotonic() - started:.0f} s")
            allowed = {0}.union(*(ENDS.get(kind, set()) for kind in hit))
            lines = [line for line in said.splitlines() if line.startswith("jde: error:")]
            needed = {0: {0}, -signal.SIGKILL: {0, 1}}.get(one.returncode, {1})
            is_explained = len(lines) in needed and "internal:" not in str(lines)
            if one.returncode not in allowed or not is_explained:
                self._wrong(f"{name}: after {hit} exit {one.returncode}: {said[-1500:]}")
        return codes

    def _note(self, name: str, drivers: list[subprocess.Popen[str]], out: Path) -> None:
        """Who belongs to it, and that what is committed stays as it is."""
        own = {
            (d.pid, start) for d in drivers if (start := processes.started_at(d.pid)) is not None
        }
        self._family |= own | processes.descendants(own)
        for path in out.glob("tracks/*.parquet"):
            inode = path.stat().st_ino
            if self._inodes.setdefault(path.name, inode) != inode:
                self._inodes[path.name] = inode
                if "(overwrite)" not in name:
                    self._wrong(f"{name}: {path.name} was committed twice")

    def _victims(self, driver: subprocess.Popen[str], kind: str) -> list[int]:
        own = processes.started_at(driver.pid)
        family = processes.descendants({(driver.pid, own)}) if own is not None else set()
        if kind in RAYS or kind == "node":
            found = sorted(p for p in family if processes.name_of(p) == RAYS.get(kind, "raylet"))
            return [p[0] for p in found[1 if kind == "node" else 0 :]]
        return [p[0] for p in sorted(family) if WORKERS[kind] in command_of(p[0])]

    def _hit(self, driver: subprocess.Popen[str], kind: str) -> bool:
        """Send it; False if there is nobody of that kind at the moment."""
        if kind in ("SIGTERM", "SIGINT"):
            driver.send_signal(getattr(signal, kind))
            return True
        if kind == "driver":
            driver.kill()
            return True
        if kind == "SIGSTOP":
            kinds = [k for k in WORKERS if self._victims(driver, k)]
            victims = self._victims(driver, self._random.choice(kinds)) if kinds else []
        else:
            victims = self._victims(driver, kind)
        if not victims:
            return False
        victim = self._random.choice(victims)
        try:
            if kind == "SIGSTOP":
                os.kill(victim, signal.SIGSTOP)
                time.sleep(self._random.uniform(0.5, 5))
                os.kill(victim, signal.SIGCONT)
            else:
                os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _wrong(self, what: str) -> None:
        """Something is not as promised."""
        self.found.wrong.append(what)
        self.log(f"WRONG {what}")

    def _look_between(self, name: str, out: Path) -> None:
        """Whether each older file is still there, or replaced by its successor."""
        found = committed(out)
        for key, older in self._older_bytes.items():
            if found.get(key) not in (older, self._bytes[key]):
                state = "of other bytes" if key in found else "gone"
                self._wrong(f"{name}: {key} is {state} between two runs")

    def _look(self, name: str, out: Path, spools: Path) -> None:
        wrong = differences(out, self._bytes) + summary_errors(out, self._expected)
        for what in wrong + left_behind(spools, self._family):
            self._wrong(f"{name}: {what}")
