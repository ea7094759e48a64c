import csv
from itertools import repeat

import pytest
import torch

from models.jde import weights
from models.jde.assignment import Labels
from models.jde.config import SMALL
from models.jde.network import JDE
from pipelines.training import TrainingConfig, fit, initialise_backbone


def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (2, 64, 96, 3), dtype=torch.uint8, generator=generator)
    return images, Labels(
        image=torch.tensor([0, 1]),
        tlbr=torch.tensor([[20.0, 10.0, 50.0, 60.0], [40.0, 5.0, 70.0, 60.0]]),
        identity=torch.tensor([0, 1]),
        ignore=torch.zeros(2, dtype=torch.bool),
        appearance=torch.zeros(2, SMALL.embedding_dim),
        learns_detection=torch.ones(2, dtype=torch.bool),
    )


def network():
    torch.manual_seed(0)
    return JDE(SMALL)


CONFIG = TrainingConfig(minutes=1000.0, warmup_steps=5, precision="fp32")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_writes_weights_curves_and_goes_on_from_its_checkpoint(tmp_path):
    fit(network(), 2, iter([batch()] * 20), CONFIG, tmp_path, notes={"licence": "test only"})
    assert weights.metadata(tmp_path / "weights.safetensors")["licence"] == "test only"
    first = rows(tmp_path / "curves.csv")
    assert [row["step"] for row in first] == ["20"]
    fit(network(), 2, iter([batch()] * 20), CONFIG, tmp_path)
    both = rows(tmp_path / "curves.csv")
    assert [row["step"] for row in both] == ["20", "40"]
    assert float(both[1]["total"]) < float(both[0]["total"])


def test_training_ends_with_its_time_budget(tmp_path):
    config = TrainingConfig(minutes=1e-9, precision="fp32")
    result = fit(network(), 2, repeat(batch()), config, tmp_path)
    assert isinstance(result, JDE)


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    model = network()
    with torch.no_grad():
        model.heads[0].box.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 0"):
        fit(model, 2, iter([batch()]), CONFIG, tmp_path)


def test_a_detectors_backbone_is_taken_over_with_its_colours_turned(tmp_path):
    donor = network().backbone.state_dict()
    torch.save({f"backbone.{key}": value for key, value in donor.items()}, tmp_path / "d.pth")
    model = network()
    assert initialise_backbone(model, tmp_path / "d.pth") == len(donor)
    mine = model.backbone.state_dict()["first_conv.0.weight"]
    torch.testing.assert_close(mine, donor["first_conv.0.weight"].flip(1))


def test_initial_weights_that_lack_a_tensor_are_refused(tmp_path):
    donor = network().backbone.state_dict()
    del donor["stage2.0.branch_main.0.weight"]
    torch.save(donor, tmp_path / "d.pth")
    with pytest.raises(ValueError, match=r"stage2\.0\.branch_main\.0\.weight"):
        initialise_backbone(network(), tmp_path / "d.pth")
