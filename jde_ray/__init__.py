"""People tracked in videos and streams: the JDE network as a streaming dataflow on Ray.

The three folders beside this one are its packages `jde_ray.models`, `jde_ray.pipelines` and
`jde_ray.jobs`: links lead to them here, so that a checkout and an installed wheel have the same
names, and no folder `models` of anybody else's is in the way.
"""
