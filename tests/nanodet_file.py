"""Writes a NanoDet-g of random weights in the TensorFlow.js form in which it is found on npm."""

import json

import numpy as np
from torch import nn

from jde_ray.models.jde.nanodet import NanoDet

# biases in the order of the convolutions: constants of other use stand between those of the heads
BIASES = [2 * number for number in range(28)] + [60, 62, 66, 68, 70, 72]


def write_nanodet(folder, model: NanoDet):
    """Write `nanodet.json` and `nanodet.bin` of a model, whose numbers become float16."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    entries, parts = [], []

    def add(name, array, dtype="float32"):
        entry = {"name": name, "shape": list(array.shape), "dtype": dtype}
        if dtype == "float32":
            entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
        entries.append(entry)
        parts.append(array.astype("<f2" if dtype == "float32" else "<i4").tobytes())

    for number, (convolution, bias) in enumerate(zip(convolutions, BIASES, strict=True)):
        kernel = convolution.weight.detach()
        if number == 0:
            kernel = kernel.flip(1)  # the file reads BGR
        name = f"split_{number}" if number else "split"
        add(f"PartitionedCall/transpose_{number}/perm", np.array([0, 2, 3, 1]), "int32")
        add(f"PartitionedCall/{name}", kernel.permute(2, 3, 1, 0).numpy())
        add(f"unknown_{bias}", convolution.bias.detach().numpy())
    content = b"".join(parts)
    middle = len(content) // 2
    (folder / "a.bin").write_bytes(content[:middle])
    (folder / "b.bin").write_bytes(content[middle:])
    manifest = [{"paths": ["a.bin", "b.bin"], "weights": entries}]
    (folder / "nanodet.json").write_text(json.dumps({"weightsManifest": manifest}))
    return folder / "nanodet.json"
