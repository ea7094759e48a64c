import json

import pytest
import torch
from nanodet_file import write_nanodet

from jde_ray.models.jde.config import CONFIGURATIONS
from jde_ray.models.jde.importers import load_backbone
from jde_ray.models.jde.nanodet import BINS, CLASSES, NanoDet, read_nanodet
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.refusals import CheckpointError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    torch.manual_seed(4)
    model = NanoDet().half().float()  # so that the file holds exactly these numbers
    return model, write_nanodet(tmp_path_factory.mktemp("nanodet"), model)


def test_the_file_gives_the_network_back(written):
    model, path = written
    for (name, mine), theirs in zip(
        model.state_dict().items(), read_nanodet(path).state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_the_small_network_starts_with_its_backbone(written):
    model, path = written
    network = JDE(CONFIGURATIONS["small"])
    neck = network.neck.trunks[0][0][0].weight.clone()
    report = load_backbone(network, path)
    assert report.taken == len(model.backbone.state_dict())
    assert report.left == ("neck and heads of NanoDet-g",)
    for name, mine in network.backbone.state_dict().items():
        assert torch.equal(mine, model.backbone.state_dict()[name]), name
    assert torch.equal(neck, network.neck.trunks[0][0][0].weight)


def test_boxes_are_distances_from_the_cells_centres():
    """One bin of certainty 1 for each edge: 1, 2, 3 and 4 strides from the centre."""
    model = NanoDet().eval()
    with torch.no_grad():
        for head in model.heads:
            last = head[-1]
            last.weight.zero_()
            last.bias.zero_()
            last.bias[0] = 2.0
            distances = last.bias[CLASSES:].view(4, BINS)
            for edge in range(4):
                distances[edge, edge + 1] = 100.0
        tlbr, scores = model(torch.rand(2, 3, 64, 96))
    assert tlbr.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 4)
    assert torch.allclose(scores, torch.tensor(2.0).sigmoid())
    # second row, third column at stride 8: centre (20, 12)
    expected = torch.tensor([20.0 - 8, 12 - 16, 20 + 24, 12 + 32])
    torch.testing.assert_close(tlbr[1, 12 + 2], expected)
    # the last cell at stride 32: centre (80, 48)
    expected = torch.tensor([80.0 - 32, 48 - 64, 80 + 96, 48 + 128])
    torch.testing.assert_close(tlbr[0, -1], expected)


def change(path, tmp_path, edit):
    """A copy of the file whose manifest went through `edit`."""
    for part in ("a.bin", "b.bin"):
        (tmp_path / part).write_bytes((path.parent / part).read_bytes())
    content = json.loads(path.read_text())
    edit(content)
    (tmp_path / "nanodet.json").write_text(json.dumps(content))
    return tmp_path / "nanodet.json"


def rename(content):
    content["weightsManifest"][0]["weights"][2]["name"] = "other"


def reshape(content):
    entry = content["weightsManifest"][0]["weights"][1]
    entry["shape"] = [*entry["shape"][:2], 1, 96]


def shorten(content):
    content["weightsManifest"][0]["weights"].pop()


def forget(content):
    del content["weightsManifest"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (rename, "lacks PartitionedCall/split or unknown_0 of NanoDet-g"),
        (reshape, r"split is \(3, 3, 1, 96\), NanoDet-g has \(3, 3, 3, 32\)"),
        (shorten, "248 bytes after the weights"),
        (forget, "not a TensorFlow.js model"),
    ],
)
def test_other_files_are_refused_in_a_line(written, tmp_path, edit, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        read_nanodet(change(written[1], tmp_path, edit))
    assert "\n" not in str(caught.value)


def test_missing_and_cut_off_weights_are_refused(written, tmp_path):
    copy = change(written[1], tmp_path, lambda content: None)
    (tmp_path / "b.bin").write_bytes((tmp_path / "b.bin").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"not a TensorFlow\.js model"):
        read_nanodet(copy)
    (tmp_path / "b.bin").unlink()
    with pytest.raises(CheckpointError, match=r"b\.bin: No such file"):
        read_nanodet(copy)
