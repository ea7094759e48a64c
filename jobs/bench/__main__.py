"""Makes `python -m jobs.bench` the same as `jde bench`."""

from jde_ray.jobs.bench.app import app
from jde_ray.jobs.console.runner import main

if __name__ == "__main__":
    main(app, "bench")
