"""The network on padded maps computes what its modules do; on a GPU the kernels do too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from jde_ray.models.jde.config import CONFIGURATIONS, SMALL
from jde_ray.models.jde.decode import nms
from jde_ray.models.jde.fusion import optimise
from jde_ray.models.jde.gpu.building import open_runner, plain, uses_kernels
from jde_ray.models.jde.gpu.padded import Grid, Layer, Maps, TorchConvolutions
from jde_ray.models.jde.gpu.padded_network import PaddedWeights
from jde_ray.models.jde.gpu.selection import Limits
from jde_ray.models.jde.network import JDE

CPU = torch.device("cpu")
KINDS = [(32, 64, 3, 1), (64, 32, 1, 1), (32, 64, 3, 2), (128, 128, 3, 1), (64, 24, 3, 1)]


def published(device="cpu"):
    torch.manual_seed(0)
    model = JDE(CONFIGURATIONS["darknet53-576x320"]).eval()
    with torch.no_grad():
        for head in model.heads:
            head.box.weight.normal_(std=0.05)
    return model.to(device)


def frames(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


def random_map(grid, channels, dtype=torch.float32, device=CPU):
    maps = Maps(grid, channels, dtype, device)
    maps.cells.copy_(torch.randn(maps.cells.shape))
    return maps


def borders(maps):
    """Everything but the cells."""
    copy = maps.storage.clone()
    inside = Maps(maps.grid, maps.channels, maps.storage.dtype, maps.storage.device)
    inside.cells.fill_(1)
    return copy[inside.storage == 0]


def test_a_map_has_zeros_wherever_a_tap_can_reach():
    grid = Grid(2, 3, 4)
    maps = Maps(grid, 5, torch.float32, CPU)
    maps.cells.copy_(torch.arange(1.0, 121).reshape(2, 3, 4, 5))
    padded = nn.functional.pad(maps.cells.permute(0, 3, 1, 2), (1, 1, 1, 1))
    for image in range(2):
        for y in range(3):
            for x in range(4):
                row = grid.guard + (image * grid.lines + y) * grid.pitch + x
                for tap in range(9):
                    at = row + (tap // 3 - 1) * grid.pitch + tap % 3 - 1
                    want = padded[image, :, y + tap // 3, x + tap % 3]
                    assert torch.equal(maps.storage[at], want)


def test_the_network_computes_what_its_modules_do():
    model = optimise(published(), "fp32")
    network = PaddedWeights(model, TorchConvolutions(), torch.float32).build(2, 64, 96)
    pixels = torch.from_numpy(frames(2))
    with torch.inference_mode():
        wanted = plain(model)(pixels)
        for _ in range(2):  # the second time into maps that are in use
            got = network(pixels)
            for scale in range(3):
                torch.testing.assert_close(got.boxes[scale], wanted.boxes[scale])
                torch.testing.assert_close(got.scores[scale], wanted.scores[scale])
                image, y, x = torch.tensor([[0, 1, 1], [0, 1, 0], [2, 0, 1]])
                cells = (scale, image, y, x)
                torch.testing.assert_close(got.embed(*cells), wanted.embed(*cells))


def test_only_the_published_network_in_bfloat16_on_a_gpu_has_kernels():
    model = JDE(SMALL).eval()
    assert not uses_kernels(model)
    with pytest.raises(ValueError, match="got small, expected darknet53"):
        PaddedWeights(model, TorchConvolutions(), torch.float32)


def test_convolutions_of_other_forms_are_refused():
    for kernel, stride in ((5, 1), (3, 3), (1, 2)):
        with pytest.raises(ValueError, match="expected 1x1 or 3x3"):
            Layer.of(nn.Conv2d(16, 16, kernel, stride), torch.float32)


def test_a_float32_weight_is_the_sum_of_three_short_ones():
    convolution = nn.Conv2d(64, 24, 1)
    layer = Layer.exact(convolution, torch.bfloat16)
    summed = layer.weights.double().reshape(24, 3, 64).sum(1)
    wanted = convolution.weight.detach().flatten(1).double()
    assert (summed - wanted).abs().max() < 2e-8


@pytest.fixture(scope="module")
def kernels():
    pytest.importorskip("triton")
    from jde_ray.models.jde.gpu.triton_convolutions import TritonConvolutions

    torch.backends.cudnn.allow_tf32 = False  # or what they are compared with is not exact
    return TritonConvolutions()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_kernels_convolve(kernels, kind):
    inputs, outputs, kernel, stride = kind
    torch.manual_seed(1)
    device = torch.device("cuda")
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2).cuda()
    layer = Layer.of(convolution, torch.bfloat16)
    source = random_map(Grid(3, 38, 68), inputs, torch.bfloat16, device)
    grid = Grid(3, 38 // stride, 68 // stride)
    added = random_map(grid, outputs, torch.bfloat16, device) if stride == 1 else None
    wanted = Maps(grid, outputs, torch.float32, device)
    TorchConvolutions().convolve(layer, source, wanted, added)
    out = added or Maps(grid, outputs, torch.bfloat16, device)  # in place, as residual units do
    kernels.convolve(layer, source, out, added)
    error = (out.cells.float() - wanted.cells).norm() / wanted.cells.norm()
    assert error < 5e-3
    assert not borders(out).any()


@pytest.mark.gpu
def test_kernels_take_bytes_and_give_float32(kernels):
    device = torch.device("cuda")
    torch.manual_seed(1)
    weights = torch.zeros(32, 32, device=device)
    weights[:, :27] = torch.randn(32, 27, device=device) / 255
    layer = Layer(weights.bfloat16(), torch.randn(32, device=device), 3)
    pixels = torch.from_numpy(frames(3)).to(device)
    wanted = Maps(Grid(3, 64, 96), 32, torch.float32, device)
    TorchConvolutions().convolve_pixels(layer, pixels, wanted)
    out = Maps(Grid(3, 64, 96), 32, torch.bfloat16, device)
    kernels.convolve_pixels(layer, pixels, out)
    assert (out.cells.float() - wanted.cells).norm() / wanted.cells.norm() < 5e-3
    assert not borders(out).any()
    exact = Layer.exact(nn.Conv2d(32, 24, 1).cuda(), torch.bfloat16)
    last, wanted = (Maps(Grid(3, 64, 96), 24, torch.float32, device) for _ in range(2))
    kernels.convolve(exact, out, last)
    TorchConvolutions().convolve(exact, out, wanted)
    assert (last.cells - wanted.cells).norm() / wanted.cells.norm() < 1e-3


@pytest.mark.gpu
def test_kernels_suppress_what_the_matrices_do(kernels):
    torch.manual_seed(1)
    for count in (0, 1, 64, 65, 700):
        corner = torch.rand(4, 700, 2).cuda() * 300
        tlbr = torch.cat((corner, corner + torch.rand(4, 700, 2).cuda() * 90), 2)
        counts = torch.full((4,), count, dtype=torch.int32).cuda()
        kept = kernels.suppress(tlbr, counts, 0.4)
        assert torch.equal(kept[:, :count], nms(tlbr[:, :count].contiguous(), 0.4))
        assert not kept[:, count:].any()


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "precision"), [("kernels", "bf16"), ("plain", "fp32")])
def test_a_frame_on_a_gpu_depends_neither_on_neighbours_nor_on_its_place(name, precision):
    model = optimise(published("cuda"), precision)
    sent = frames(8)
    runner = open_runner(model, Limits(0.5, 0.4, 50), (1, 4, 8), kernels=name == "kernels")
    whole = runner.detect(sent)
    others = [runner.detect(np.roll(sent, 3, axis=0))]
    if name == "kernels":  # which sum in the same order in batches of any size
        others.append([found for at in range(8) for found in runner.detect(sent[at : at + 1])])
        others[1] = others[1][-3:] + others[1][:-3]
    for other in others:
        for one, same in zip(whole, other[3:] + other[:3], strict=True):
            assert len(one.scores) > 0
            assert np.array_equal(one.tlbr, same.tlbr)
            assert np.array_equal(one.embeddings, same.embeddings)


@pytest.mark.gpu
def test_the_fast_network_is_as_close_to_float32_as_the_plain_one():
    exact, quick = optimise(published("cuda"), "fp32"), optimise(published("cuda"), "bf16")
    pixels = torch.from_numpy(frames(2)).cuda()
    from jde_ray.models.jde.gpu.building import convolutions

    work = convolutions(pixels.device)
    with torch.inference_mode():
        wanted = plain(exact)(pixels)
        padded = PaddedWeights(quick, work, torch.bfloat16).build(2, 64, 96)(pixels)
        usual = plain(quick)(pixels)
        for scale in range(3):
            norm = wanted.boxes[scale].norm()
            own = (padded.boxes[scale] - wanted.boxes[scale]).norm() / norm
            assert own < 1.2 * (usual.boxes[scale] - wanted.boxes[scale]).norm() / norm
            assert own < 2e-2
