"""Files of other projects, written here byte by byte: what is taken, what is left, what refused."""

import os
import pickle
import struct
import warnings
import zipfile

import pytest
import torch
from published_checkpoint import (
    build_state,
    published_keys,
    write_checkpoint,
    write_darknet,
)
from torch.nn import functional as F

from jde_ray.models.backbones.resnet import Bottleneck
from jde_ray.models.jde import importers, weights
from jde_ray.models.jde.config import CONFIGURATIONS, PUBLISHED_ANCHORS
from jde_ray.models.jde.network import JDE

SIZE = (576, 320)
CONFIG = CONFIGURATIONS["darknet53-576x320"]


def hollow(shapes):
    """Tensors of these shapes that take no room in a file."""
    return {
        key: torch.zeros((), dtype=torch.int64)
        if key.endswith("num_batches_tracked")
        else torch.full((1,), 0.5).expand(shape)
        for key, shape in shapes.items()
    }


def empty(config=CONFIG):
    with torch.device("meta"):
        return JDE(config)


def refused(path, size=SIZE):
    with pytest.raises(weights.CheckpointError) as caught:
        weights.load(path, size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Published .pt


def test_every_published_key_has_its_place():
    keys = published_keys()
    assert len(keys) == 455
    names = importers.published_names()
    left = [key for key in keys if key not in names]
    assert len(left) == 9 + 2  # task weights, classifier
    ours = empty().state_dict()
    assert sorted(names.values()) == sorted(ours)
    assert all(keys[theirs] == tuple(ours[name].shape) for theirs, name in names.items())


@pytest.mark.parametrize("size", PUBLISHED_ANCHORS, ids=lambda s: f"{s[0]}x{s[1]}")
def test_one_file_serves_the_size_asked_for(tmp_path, size):
    path = write_checkpoint(tmp_path / "jde.pt", hollow(published_keys()))
    model, report = weights.load_reported(path, size)
    assert model.config == CONFIGURATIONS[f"darknet53-{size[0]}x{size[1]}"]
    assert report.taken == 455 - 11
    assert str(report) == (
        "444 tensors taken; left out: 9 task weights of the loss, "
        "the classifier of 14455 training identities"
    )


def test_old_files_may_lack_counters_and_be_no_zip(tmp_path):
    shapes = {k: s for k, s in published_keys().items() if not k.endswith("num_batches_tracked")}
    content = {"epoch": 60, "model": hollow(shapes), "optimizer": []}
    path = tmp_path / "jde.1088x608.uncertainty.pt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    report = weights.load_reported(path, (1088, 608))[1]
    assert report.taken == 444 - 72
    assert "72 absent num_batches_tracked" in str(report)


def test_the_size_of_a_published_file_must_be_said(tmp_path):
    path = write_checkpoint(tmp_path / "jde.pt", hollow(published_keys()))
    told = refused(path, None)
    assert "does not say its input size; --size accepts 1088x608, 864x480, 576x320" in told
    assert "got size 640x320; --size accepts 1088x608" in refused(path, (640, 320))
    told = refused(path, (1080, 600))
    assert told == "size: got 1080x600, expected multiples of 32, nearest is 1088x608"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("module_list.87.conv_87.weight"),
            "lacks module_list.87.conv_87.weight of shape (256, 512, 1, 1)",
        ),
        (
            lambda s: s.update({"module_list.81.conv_81.weight": torch.zeros(18, 1024, 1, 1)}),
            "module_list.81.conv_81.weight of shape (18, 1024, 1, 1), expected (24, 1024, 1, 1)",
        ),
        (
            lambda s: s.update({"module_list.116.conv_116.bias": torch.zeros(1)}),
            "holds an unknown key module_list.116.conv_116.bias",
        ),
        (
            lambda s: s.update({"module_list.81.conv_81.bias": [0.0] * 24}),
            "holds a list as module_list.81.conv_81.bias, expected a tensor",
        ),
        (
            lambda s: s.update({"module_list.81.conv_81.bias": torch.full((24,), torch.inf)}),
            "holds NaN or Inf in module_list.81.conv_81.bias",
        ),
    ],
    ids=["missing", "shape", "unknown", "no tensor", "not finite"],
)
def test_the_first_wrong_key_is_named(tmp_path, change, message):
    state = hollow(published_keys())
    change(state)
    assert message in refused(write_checkpoint(tmp_path / "jde.pt", state))


def test_files_of_other_projects_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {}, "arch": "resnet"}, path)
    assert "lacks model, a dictionary of tensors (it holds state_dict, arch)" in refused(path)
    torch.save([1, 2], path)
    assert "holds a list, expected a dictionary" in refused(path)
    torch.save({"model": {"conv.weight": torch.zeros(3)}}, path)
    assert "lacks module_list.0.conv_0.weight of shape (32, 3, 3, 3)" in refused(path)
    path.write_bytes(b"%PDF-1.7 not weights at all")
    assert "neither a zip archive nor a pickle" in refused(path)


def test_a_torchscript_file_is_told_so(tmp_path):
    path = tmp_path / "traced.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)
    assert "is a TorchScript program; expected a file of tensors only" in refused(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused(tmp_path, zipped):
    path = tmp_path / "jde.pt"
    torch.save({"model": {"a": torch.zeros(9999)}}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:-2000])
    told = refused(path)
    assert "is not a complete PyTorch file" in told
    assert "Check the documentation" not in told  # torch's advice on how to read it all the same


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path, kind):
    canary, path = tmp_path / "canary", tmp_path / "jde.pt"
    if kind == "plain":
        path.write_bytes(pickle.dumps({"model": Bomb(canary)}))
    else:
        zipped = kind == "zip"
        torch.save({"model": Bomb(canary)}, path, _use_new_zipfile_serialization=zipped)
        assert zipfile.is_zipfile(path) == zipped
    told = refused(path)
    assert not canary.exists()
    if kind == "plain":  # as pickle writes by itself: torch refuses it before any name in it
        assert "is not a complete PyTorch file of tensors (UnpicklingError: Unsupported op" in told
    else:
        assert "would run code when read (posix.mkdir); expected a file of tensors only" in told


def test_the_classifier_is_taken_where_it_is_asked_for(tmp_path):
    drawn = {"classifier.weight": torch.randn(5, 512), "classifier.bias": torch.randn(5)}
    state = hollow(published_keys()) | drawn
    path = write_checkpoint(tmp_path / "jde.pt", state)
    found = importers.published_classifier(path, 5, 512)
    assert {f"classifier.{key}" for key in found} == drawn.keys()
    assert all(torch.equal(value, drawn[f"classifier.{key}"]) for key, value in found.items())
    wrong = r"holds classifier.weight of shape \(5, 512\), expected \(7, 512\)"
    with pytest.raises(weights.CheckpointError, match=wrong):
        importers.published_classifier(path, 7, 512)
    write_checkpoint(path, {key: value for key, value in state.items() if key not in drawn})
    with pytest.raises(weights.CheckpointError, match=r"lacks classifier.weight of shape \(5, 512"):
        importers.published_classifier(path, 5, 512)


# Darknet


@pytest.fixture(scope="module")
def state():
    return build_state()


def test_a_whole_darknet_file_equals_the_checkpoint(tmp_path, state):
    path = write_darknet(tmp_path / "latest.weights", state)
    model, report = weights.load_reported(path, SIZE)
    assert model.config == CONFIG
    ours, names = model.state_dict(), importers.published_names()
    assert report.taken == len(ours) == len(names)
    for theirs, name in names.items():
        assert torch.equal(ours[name], state[theirs]), name
    assert "does not say its input size" in refused(path, None)
    with path.open("ab") as file:
        file.write(bytes(8))
    assert "holds 2 more numbers after conv_113" in refused(path)


def test_the_backbone_of_imagenet_is_taken_and_the_rest_left_alone(tmp_path, state):
    path = write_darknet(tmp_path / "darknet53.conv.74", state, end=75)
    assert path.stat().st_size == 162_482_580
    model = empty()
    model.to_empty(device="cpu")
    neck = model.neck.trunks[0][0][0].weight.clone()
    report = importers.load_backbone(model, path)
    assert report == importers.ImportReport(52 * 6)
    kept = model.backbone.state_dict()
    assert torch.equal(kept["stem.0.weight"], state["module_list.0.conv_0.weight"])
    last = "module_list.73.batch_norm_73.running_var"
    assert torch.equal(kept["stages.4.4.expand.1.running_var"], state[last])
    assert torch.equal(model.neck.trunks[0][0][0].weight, neck)
    with path.open("ab") as file:
        file.write(bytes(400))
    assert importers.load_backbone(model, path).left == ("100 numbers after layer 74",)


def test_a_darknet_file_cut_off_names_its_last_layer(tmp_path, state):
    path = write_darknet(tmp_path / "latest.weights", state, end=5)
    told = refused(path)
    assert "ends before conv_5 (backbone.stages.1.0.1.bias): it holds 40544 numbers" in told
    path.write_bytes(path.read_bytes()[:-40])
    assert "ends inside conv_3 (backbone.stages.0.1.expand.0.weight)" in refused(path)
    path.write_bytes(path.read_bytes()[:-3])
    assert "is cut off" in refused(path)


def test_a_backbone_alone_is_no_network(tmp_path, state):
    path = write_darknet(tmp_path / "backbone.weights", state, end=75)
    told = refused(path)
    assert "ends before conv_75 (neck.trunks.0.0.1.bias): it holds 40620640 numbers" in told


def test_version_0_1_counts_images_in_one_word(tmp_path, state):
    path = write_darknet(tmp_path / "new.weights", state, end=5)
    old = tmp_path / "old.weights"
    old.write_bytes(struct.pack("<iiii", 0, 1, 0, 32_000_000) + path.read_bytes()[20:])
    assert (importers.read_darknet(old) == importers.read_darknet(path)).all()


def test_files_under_the_wrong_suffix_are_told_apart(tmp_path, state):
    path = write_darknet(tmp_path / "jde.pt", state, end=5)
    assert "is a Darknet file, not a PyTorch one; give it the suffix .weights" in refused(path)
    other = tmp_path / "jde.weights"
    torch.save({"model": {}}, other)
    assert "is not a Darknet file (it starts with 50 4b" in refused(other)
    other.write_bytes(struct.pack("<iii", 0, 2, 5))
    assert "is cut off" in refused(other)
    for suffix in (".ckpt", ".safetensors", ""):
        other = path.rename(tmp_path / f"jde{suffix}")
        assert "is a Darknet file; give it the suffix .weights" in refused(other)
        torch.save({"model": {}}, other)
        assert "is a PyTorch file; give it the suffix .pt" in refused(other)
        write_darknet(path, state, end=5)


# torchvision


def torchvision_shapes(units):
    """Keys and shapes of a torchvision ResNet with bottlenecks."""

    def norm(prefix, channels):
        shapes = {f"{prefix}.{leaf}": (channels,) for leaf in ("weight", "bias")}
        shapes |= {f"{prefix}.{leaf}": (channels,) for leaf in ("running_mean", "running_var")}
        return shapes | {f"{prefix}.num_batches_tracked": ()}

    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    inputs = 64
    for layer, count in enumerate(units, 1):
        hidden = 64 << (layer - 1)
        for unit in range(count):
            name = f"layer{layer}.{unit}"
            sizes = [(hidden, inputs, 1, 1), (hidden, hidden, 3, 3), (4 * hidden, hidden, 1, 1)]
            for number, size in enumerate(sizes, 1):
                shapes |= {f"{name}.conv{number}.weight": size}
                shapes |= norm(f"{name}.bn{number}", size[0])
            if unit == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * hidden, inputs, 1, 1)
                shapes |= norm(f"{name}.downsample.1", 4 * hidden)
            inputs = 4 * hidden
    return shapes | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


@pytest.mark.parametrize(
    ("name", "units", "num_keys"),
    [("resnet50", (3, 4, 6, 3), 320), ("resnet101", (3, 4, 23, 3), 626)],
)
def test_torchvision_files_fill_the_backbone(tmp_path, name, units, num_keys):
    shapes = torchvision_shapes(units)
    assert len(shapes) == num_keys
    path = tmp_path / f"{name}.pth"
    torch.save(hollow(shapes), path)
    model = empty(CONFIGURATIONS[f"{name}-576x320"])
    model.backbone.to_empty(device="cpu")
    report = importers.load_backbone(model, path)
    assert report == importers.ImportReport(num_keys - 2, ("fc.weight", "fc.bias"))
    assert (model.backbone.layer4[2].conv3.weight == 0.5).all()
    del shapes["layer2.0.downsample.0.weight"]
    torch.save(hollow(shapes), path)
    with pytest.raises(weights.CheckpointError, match=r"lacks layer2\.0\.downsample\.0\.weight"):
        importers.load_backbone(model, path)


def test_a_bottleneck_is_that_of_torchvision():
    """Computed from the state dict alone: stride on the 3x3, ReLU after the sum."""
    torch.manual_seed(0)
    unit = Bottleneck(8, 4, 2).eval()
    state = unit.state_dict()
    for key, value in state.items():
        if "running" in key:
            value.uniform_(0.5, 1.5)

    def step(x, conv, norm, **options):
        x = F.conv2d(x, state[f"{conv}.weight"], **options)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{norm}.{leaf}"] for leaf in names))

    x = torch.randn(1, 8, 6, 6)
    out = F.relu(step(x, "conv1", "bn1"))
    out = F.relu(step(out, "conv2", "bn2", stride=2, padding=1))
    out = step(out, "conv3", "bn3") + step(x, "downsample.0", "downsample.1", stride=2)
    torch.testing.assert_close(unit(x), F.relu(out))


def test_a_backbone_without_importer_is_refused(tmp_path):
    with pytest.raises(weights.CheckpointError, match="expected csp, darknet53, resnet50"):
        importers.load_backbone(empty(CONFIGURATIONS["small-shufflenet"]), tmp_path / "any.pth")
