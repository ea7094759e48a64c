"""Each convolution of the published network alone, with the tiles that it could have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jde_ray.jobs.bench.gpu.settings import Bench, build, make_frames

if TYPE_CHECKING:
    import torch

    from jde_ray.models.jde.gpu.padded import Convolutions, Layer, Maps

NAME = "darknet53-1088x608"
BATCH = 16
# cells, outputs, warps, stages
WIDE = ((256, 128, 8, 3), (128, 256, 8, 3), (128, 128, 8, 3), (128, 128, 4, 3), (64, 128, 4, 4))
NARROW = ((128, 64, 4, 4), (256, 64, 8, 3), (128, 64, 4, 3))
LEAST = ((128, 32, 4, 4), (256, 32, 4, 3), (256, 32, 8, 3))
DOWN = ((128, 128, 8, 3), (256, 128, 8, 3), (128, 128, 4, 3), (128, 64, 4, 3))


def key_of(layer: Layer, num_rows: int) -> str:
    """What decides the speed of a layer."""
    channels = layer.weights.shape[1] // layer.taps
    kind = f"{layer.kernel}x{layer.kernel}/{layer.stride}"
    return f"{kind} {channels}->{layer.outputs} x{layer.parts} {num_rows}"


class _Watching:
    """Passes work on and notes what was asked for."""

    def __init__(self, work: Convolutions) -> None:
        self._work = work
        self.calls: list[tuple[Layer, Maps, Maps, Maps | None]] = []

    def convolve(self, layer: Layer, source: Maps, out: Maps, added: Maps | None = None) -> None:
        self.calls.append((layer, source, out, added))
        self._work.convolve(layer, source, out, added)

    def convolve_pixels(self, layer: Layer, pixels: torch.Tensor, out: Maps) -> None:
        self._work.convolve_pixels(layer, pixels, out)

    def multiply(self, layer: Layer, rows: torch.Tensor) -> torch.Tensor:
        return self._work.multiply(layer, rows)

    def suppress(self, tlbr: torch.Tensor, counts: torch.Tensor, threshold: float) -> torch.Tensor:
        return self._work.suppress(tlbr, counts, threshold)


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """A row per distinct layer: its share, its speed, and the time with each tile.

    The best tiles are kept in `bench.tiles`.
    """
    import torch

    from jde_ray.models.jde.gpu.building import convolutions
    from jde_ray.models.jde.gpu.padded_network import PaddedWeights

    batch = BATCH if bench.is_gpu else 1
    model = build(bench, NAME, "bf16" if bench.is_gpu else "fp32")
    watching = _Watching(convolutions(torch.device(bench.device)))
    dtype = next(model.parameters()).dtype
    network = PaddedWeights(model, watching, dtype).build(batch, *bench.size(NAME))
    pixels = torch.from_numpy(make_frames(bench, NAME, batch)).to(bench.device)
    with torch.inference_mode():
        network(pixels)
        groups: dict[str, list[tuple[Layer, Maps, Maps, Maps | None]]] = {}
        for call in watching.calls:
            has_sum = "" if call[3] is None else " +sum"
            groups.setdefault(key_of(call[0], call[2].grid.num_rows) + has_sum, []).append(call)
        if bench.is_gpu:
            _compile([calls[0] for calls in groups.values()])
        for key, calls in list(groups.items())[: None if bench.is_gpu else 3]:
            yield _row(bench, key, calls)


def _row(bench: Bench, key: str, calls: list[Any]) -> dict[str, Any]:
    layer, _, out, _ = calls[0]
    grid = out.grid
    gflop = 2 * layer.weights.numel() * grid.images * grid.height * grid.width / 1e9
    if layer.parts > 1:
        gflop /= layer.parts
    row: dict[str, Any] = {"layer": key, "calls": len(calls), "gflop": gflop}
    times: dict[str, float] = {}
    for tile in tiles_for(layer):
        try:
            times[str(tile)] = 1e6 * time_recorded(bench, _call(bench, calls[0], tile))
        except Exception as error:  # noqa: BLE001  a tile that does not fit is no reason to stop
            row.setdefault("failed", {})[str(tile)] = f"{type(error).__name__}: {error}"[:200]
        if not bench.is_gpu:
            break
    if not times:
        return row
    best = min(times, key=times.__getitem__)
    plain_key = key_of(layer, grid.num_rows)
    bench.tiles[plain_key] = tuple(int(n) for n in best.strip("()").split(","))
    return row | {
        "best": best,
        "us": times[best],
        "tflop_per_second": gflop / times[best] * 1e3,
        "us_by_tile": times,
    }


def _compile(calls: list[Any]) -> None:
    """Compile the kernels of all tiles in parallel; without that it takes a minute more."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    from jde_ray.models.jde.gpu.triton_convolutions import Tile, TritonConvolutions

    class Compiling(TritonConvolutions):
        def _launch(self, kernel: Any, programs: int, *arguments: Any, **options: Any) -> None:
            kernel.warmup(*arguments, grid=(programs,), **options)

    try:
        from triton.runtime._async_compile import AsyncCompileMode

        threads = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(threads) as pool, AsyncCompileMode(pool, ignore_errors=True):
            for call in calls:
                for tile in tiles_for(call[0]):
                    Compiling(lambda *_, tile=tile: Tile(*tile)).convolve(*call)
    except Exception as error:  # noqa: BLE001  they are then compiled one by one
        print(f"compiles one by one: {type(error).__name__}: {error}"[:300], flush=True)


def tiles_for(layer: Layer) -> tuple[tuple[int, int, int, int], ...]:
    """Tiles that a layer could have."""
    if layer.outputs <= 32:
        return LEAST
    if layer.outputs <= 64:
        return NARROW
    return DOWN if layer.stride == 2 else WIDE


def _call(bench: Bench, call: Any, tile: tuple[int, int, int, int]) -> Callable[[], None]:
    if not bench.is_gpu:
        from jde_ray.models.jde.gpu.padded import TorchConvolutions

        return lambda: TorchConvolutions().convolve(*call)
    from jde_ray.models.jde.gpu.triton_convolutions import Tile, TritonConvolutions

    work = TritonConvolutions(lambda *_: Tile(*tile))
    return lambda: work.convolve(*call)


def time_recorded(bench: Bench, work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of one call on the device, without the host's part: recorded and replayed."""
    if not bench.is_gpu:
        return bench.time(work, 1)
    import torch

    for _ in range(2):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            work()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    best = float("inf")
    for _ in range(5):
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) / 1e3 / repeats)
    return best


def chooser(bench: Bench) -> Any:
    """A `choose` for `TritonConvolutions` with the tiles that were measured best."""
    from jde_ray.models.jde.gpu.triton_convolutions import Tile, choose_tile

    known = {key.rpartition(" ")[0]: Tile(*tile) for key, tile in bench.tiles.items()}

    def choose(layer: Layer, num_rows: int) -> Tile:
        key = key_of(layer, num_rows).rpartition(" ")[0]
        return known.get(key) or choose_tile(layer, num_rows)

    return choose
