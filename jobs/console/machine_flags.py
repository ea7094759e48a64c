"""The flags that say on which machines a run works, and how many of its parts there are."""

from __future__ import annotations

from jde_ray.jobs.console.flags import Flag
from jde_ray.pipelines.config import ResourceConfig

_MACHINE = "Machine"

MACHINE_FLAGS: dict[str, Flag] = {
    "device": Flag(
        config=ResourceConfig,
        field="device",
        panel=_MACHINE,
        text="Device that the network runs on.",
    ),
    "chunk_frames": Flag(
        config=ResourceConfig,
        field="chunk_frames",
        panel=_MACHINE,
        text="Frames per chunk, which is also the network's batch size.",
    ),
    "num_detectors": Flag(
        config=ResourceConfig,
        field="num_detectors",
        panel=_MACHINE,
        text="Number of detectors; with MIN-MAX as many of them as find a place, also on machines "
        "that join while the run goes on.",
        metavar="auto|N|MIN-MAX",
        default="auto",
    ),
    "num_associators": Flag(
        config=ResourceConfig,
        field="num_associators",
        panel=_MACHINE,
        text="Number of association shards.",
        metavar="auto|N",
        default="auto",
    ),
    "num_decoders": Flag(
        config=ResourceConfig,
        field="num_decoders",
        panel=_MACHINE,
        text="Number of videos to decode at once; with MIN-MAX detectors leave room for MIN.",
        metavar="auto|N|MIN-MAX",
        default="auto",
    ),
    "gpus_per_detector": Flag(
        config=ResourceConfig,
        field="gpus_per_detector",
        panel=_MACHINE,
        text="GPUs per detector; 0.25 puts four detectors on one GPU.",
    ),
    "threads": Flag(
        config=ResourceConfig,
        field="torch_threads",
        panel=_MACHINE,
        text="CPU threads per detector.",
    ),
    "graphs": Flag(
        config=ResourceConfig,
        field="graphs",
        panel=_MACHINE,
        text="On a GPU, run the network from recorded CUDA graphs with two batches in flight. "
        "Written without a GPU at hand and not measured on one yet.",
    ),
    "in_process_frames": Flag(
        config=ResourceConfig,
        field="in_process_frames",
        panel=_MACHINE,
        text="Track up to so many frames (at 576x320) without Ray, whose start takes longer than "
        "that; 0: never. Not with --address or a number of workers.",
        default="140 to 1400, by cores and precision; 120 for networks that do not ship",
    ),
    "address": Flag(
        config=ResourceConfig,
        field="address",
        panel=_MACHINE,
        text="Ray to run on; local starts one on this machine.",
        metavar="local|auto|HOST:PORT",
    ),
    "metrics_port": Flag(
        config=ResourceConfig,
        field="metrics_port",
        panel=_MACHINE,
        text="Port on which the Ray of this run serves metrics to Prometheus, to whoever reaches "
        "it. Not with --address: the nodes of a cluster have ports of their own.",
        metavar="PORT",
        default="any free one",
    ),
    "s3_endpoint": Flag(
        config=ResourceConfig,
        field="s3_endpoint",
        panel=_MACHINE,
        text="Endpoint of an S3 store other than AWS.",
        metavar="URL",
    ),
    "partition": Flag(
        config=ResourceConfig,
        field="partition",
        panel=_MACHINE,
        text="Process only the k-th of K shares of the videos, to split them over several jobs.",
        metavar="k/K",
    ),
}
