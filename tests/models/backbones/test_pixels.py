"""Pixels as backbones take them: what their memory format must not change."""

import pytest
import torch

from jde_ray.models.backbones.csp import MEAN, STD
from jde_ray.models.backbones.pixels import normalise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 3, 32, 64), (1, 3, 5, 7), (2, 3, 1, 1)])
def test_images_in_either_memory_format_are_normalised_to_the_same_bits(shape, dtype):
    torch.manual_seed(0)
    images = torch.rand(shape).to(dtype)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(dtype) for values in (MEAN, STD))
    wanted = (images - mean) / std
    last = images.contiguous(memory_format=torch.channels_last)
    for given in (images, last, torch.flip(last, (3,))):
        found = normalise(given, mean, std)
        assert found.is_contiguous(memory_format=torch.channels_last) or given is not last
        expected = torch.flip(wanted, (3,)) if given is not images and given is not last else wanted
        assert torch.equal(found, expected)


def test_gradients_are_those_of_the_plain_expression():
    torch.manual_seed(0)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    weight = torch.rand(2, 3, 8, 8)
    given = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    given.requires_grad_()
    (normalise(given, mean, std) * weight).sum().backward()
    assert given.grad is not None
    torch.testing.assert_close(given.grad, weight / std)
