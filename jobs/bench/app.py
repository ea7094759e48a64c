"""`jde bench`: how fast the parts are on this machine. Also `python -m jobs.bench.app`.

A larger verb is a function of its own file `_bench_NAME.py`, registered here; those files import
libraries only when they are called.
"""

from __future__ import annotations

import typer

from jde_ray.jobs.bench.archive import archive, long
from jde_ray.jobs.bench.association import association
from jde_ray.jobs.bench.paper.figure3 import figure3
from jde_ray.jobs.bench.paper.figure4 import sde
from jde_ray.jobs.bench.paper.speed import speed
from jde_ray.jobs.bench.paper.table3 import table3
from jde_ray.jobs.bench.pipeline import pipeline, plan
from jde_ray.jobs.bench.serving.serve import serve
from jde_ray.jobs.console.runner import CONTEXT, main

app = typer.Typer(help="Measure the parts of jde on this machine.", context_settings=CONTEXT)
for _verb in (association, pipeline, plan, archive, long, figure3, sde, serve, speed, table3):
    app.command()(_verb)


if __name__ == "__main__":
    main(app, "bench")
