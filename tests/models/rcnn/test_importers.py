import pytest
import torch
from nanodet_file import write_nanodet

from jde_ray.models.jde.nanodet import NanoDet
from jde_ray.models.jde.refusals import CheckpointError
from jde_ray.models.rcnn import importers, weights
from jde_ray.models.rcnn.config import CONFIGURATIONS
from jde_ray.models.rcnn.network import RcnnNet

UNITS = (3, 4, 6, 3)


def hollow(shapes, value=0.5):
    """Tensors of these shapes that share one number, so that their file is small."""
    return {
        key: torch.full((), value).expand(shape) if shape else torch.zeros((), dtype=torch.int64)
        for key, shape in shapes.items()
    }


def norm(prefix, channels, *, counts):
    leaves = ("weight", "bias", "running_mean", "running_var")
    shapes = {f"{prefix}.{leaf}": (channels,) for leaf in leaves}
    return shapes | ({f"{prefix}.num_batches_tracked": ()} if counts else {})


def resnet50(prefix="", *, counts):
    """Keys and shapes of torchvision's ResNet-50."""
    shapes = {f"{prefix}conv1.weight": (64, 3, 7, 7)} | norm(f"{prefix}bn1", 64, counts=counts)
    inputs = 64
    for layer, count in enumerate(UNITS, 1):
        hidden = 64 << (layer - 1)
        for unit in range(count):
            name = f"{prefix}layer{layer}.{unit}"
            sizes = [(hidden, inputs, 1, 1), (hidden, hidden, 3, 3), (4 * hidden, hidden, 1, 1)]
            for number, size in enumerate(sizes, 1):
                shapes |= {f"{name}.conv{number}.weight": size}
                shapes |= norm(f"{name}.bn{number}", size[0], counts=counts)
            if unit == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * hidden, inputs, 1, 1)
                shapes |= norm(f"{name}.downsample.1", 4 * hidden, counts=counts)
            inputs = 4 * hidden
    return shapes


def detector(*, newer, classes=91):
    """Keys and shapes of torchvision's `fasterrcnn_resnet50_fpn`."""
    wrapped, twice = (".0", ".0.0") if newer else ("", "")
    shapes = resnet50("backbone.body.", counts=False)
    for level, channels in enumerate((256, 512, 1024, 2048)):
        for block, size in (("inner", (256, channels, 1, 1)), ("layer", (256, 256, 3, 3))):
            name = f"backbone.fpn.{block}_blocks.{level}{wrapped}"
            shapes |= {f"{name}.weight": size, f"{name}.bias": (256,)}
    layers = {
        f"rpn.head.conv{twice}": (256, 256, 3, 3),
        "rpn.head.cls_logits": (3, 256, 1, 1),
        "rpn.head.bbox_pred": (12, 256, 1, 1),
        "roi_heads.box_head.fc6": (1024, 12544),
        "roi_heads.box_head.fc7": (1024, 1024),
        "roi_heads.box_predictor.cls_score": (classes, 1024),
        "roi_heads.box_predictor.bbox_pred": (4 * classes, 1024),
    }
    for name, size in layers.items():
        shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return shapes


def vgg16():
    """Keys and shapes of torchvision's `vgg16`."""
    shapes, inputs, number = {}, 3, 0
    for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            shapes[f"features.{number}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"features.{number}.bias"] = (outputs,)
            inputs, number = outputs, number + 2
        number += 1
    for number, size in ((0, (4096, 25088)), (3, (4096, 4096)), (6, (1000, 4096))):
        shapes |= {f"classifier.{number}.weight": size, f"classifier.{number}.bias": size[:1]}
    return shapes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "theirs.pth"


def test_a_torchvision_resnet_fills_the_backbone(path):
    shapes = resnet50(counts=True) | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    torch.save(hollow(shapes), path)
    model = weights.empty(CONFIGURATIONS["cascade-r50"])
    model.trunk.backbone.to_empty(device="cpu")
    report = importers.load_start(model, path)
    assert (report.taken, report.left) == (265, ("fc.weight", "fc.bias"))
    assert (model.backbone.layer4[2].conv3.weight == 0.5).all()
    assert (model.backbone.bn1.running_var == 0.5).all()
    torch.save(hollow(shapes | {"layer5.0.conv1.weight": (1,)}), path)
    with pytest.raises(CheckpointError, match=r"holds an unknown key layer5\.0\.conv1\.weight"):
        importers.load_start(model, path)


@pytest.mark.parametrize("newer", [False, True])
def test_torchvision_s_detector_is_a_detector_at_once(path, newer):
    torch.save(hollow(detector(newer=newer)), path)
    model = weights.load(path)
    assert model.config == importers.TORCHVISION
    assert weights.metadata(path)["config"] == model.config.to_json()
    # the published file was trained without the epsilon that norms add to variances
    variance = 0.5 if newer else 0.5 - 1e-5
    for key, value in model.state_dict().items():
        expected = variance if key.endswith("running_var") else 0.5
        assert [x.item() for x in value.aminmax()] == pytest.approx([expected] * 2, abs=1e-7)
    assert model.backbone.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert model.stages[0].score.out_features == 91


def test_a_network_of_two_classes_takes_background_and_person_from_it(path):
    state = hollow(detector(newer=True))
    score, box = torch.zeros(91), torch.zeros(364)
    score[1], box[4:8] = 7, torch.tensor([1.0, 2, 3, 4])
    state["roi_heads.box_predictor.cls_score.bias"] = score
    state["roi_heads.box_predictor.bbox_pred.bias"] = box
    torch.save(state, path)
    model = weights.empty(CONFIGURATIONS["frcnn-r50"])
    report = importers.load_start(model, path)
    assert report.left == ("89 of 91 classes",)
    assert model.stages[0].score.bias.tolist() == [0, 7]
    assert model.stages[0].box.bias.tolist() == [0, 0, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("rpn.head.conv.weight"), r"lacks rpn\.hidden\.weight of shape"),
        (lambda s: s.update({"roi_heads.mask_head.0.weight": torch.zeros(1)}), "mask_head"),
        (lambda s: s.pop("roi_heads.box_predictor.cls_score.weight"), "expected torchvision's"),
        (
            lambda s: s.update({"roi_heads.box_predictor.cls_score.bias": torch.zeros(5)}),
            r"stages\.0\.score\.bias of shape \(5,\), expected \(91,\)",
        ),
    ],
)
def test_another_file_is_refused_in_one_line(path, change, reason):
    state = hollow(detector(newer=False))
    change(state)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=reason) as caught:
        weights.load(path)
    assert "\n" not in str(caught.value)


def test_a_torchvision_vgg_fills_the_trunk_and_both_layers_of_the_head(path):
    torch.save(hollow(vgg16()), path)
    model = weights.empty(CONFIGURATIONS["frcnn-vgg16"])
    report = importers.load_start(model, path)
    assert (report.taken, report.left) == (30, ("classifier.6.weight", "classifier.6.bias"))
    assert (model.backbone.features[28].weight == 0.5).all()
    assert (model.stages[0].fc7.weight == 0.5).all()
    assert model.rpn.score.weight.is_meta  # no file has these
    short = vgg16()
    del short["features.28.bias"]
    torch.save(hollow(short), path)
    with pytest.raises(CheckpointError, match=r"lacks trunk\.backbone\.features\.28\.bias"):
        importers.load_start(weights.empty(CONFIGURATIONS["frcnn-vgg16"]), path)


@pytest.mark.parametrize("name", ["frcnn-small", "frcnn-vgg-small"])
def test_nanodet_fills_the_backbone_of_the_small_ones(tmp_path, name):
    torch.manual_seed(0)
    theirs = NanoDet()
    file = write_nanodet(tmp_path, theirs)
    model = RcnnNet(CONFIGURATIONS[name])
    importers.load_start(model, file)
    ours = model.backbone.stages[2].leave[0].weight
    torch.testing.assert_close(ours, theirs.backbone.stages[2].leave[0].weight.half().float())
