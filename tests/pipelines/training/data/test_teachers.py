import numpy as np
import pytest
import torch
from nanodet_file import write_nanodet

from jde_ray.models.jde.nanodet import NanoDet
from jde_ray.pipelines.training.data import teachers
from jde_ray.pipelines.training.data.teachers import NanoDetTeacher


class Centre(torch.nn.Module):
    """Finds one person in the middle of whatever it sees, and a weak one in the corner."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, images):
        height, width = images.shape[2:]
        self.sizes.append((width, height))
        middle = [0.45 * width, 0.25 * height, 0.55 * width, 0.75 * height]
        corner = [-9.0, -9.0, 0.2 * width, 0.5 * height]
        return torch.tensor([[middle, corner]]), torch.tensor([[0.8, 0.1]])


def test_a_wide_picture_is_seen_whole_and_in_halves():
    network = Centre()
    tlbr, scores = NanoDetTeacher(network).detect(np.zeros((360, 800, 3), np.uint8), 0.2)
    assert len(network.sizes) == 3
    assert all(side % 32 == 0 for size in network.sizes for side in size)
    assert scores.tolist() == pytest.approx([0.8] * 3)
    expected = {(360, 440), (198, 242), (558, 602)}  # left and right edges in the picture
    assert {(round(a), round(b)) for a, _, b, _ in tlbr.tolist()} == expected
    assert np.allclose(tlbr[:, [1, 3]], [90, 270])


def test_a_tall_picture_is_seen_once_and_boxes_end_at_its_border():
    network = Centre()
    tlbr, scores = NanoDetTeacher(network).detect(np.zeros((400, 200, 3), np.uint8), 0.05)
    assert len(network.sizes) == 1
    np.testing.assert_allclose(tlbr, [[90, 100, 110, 300], [0, 0, 40, 200]], atol=1e-3)
    assert scores.tolist() == pytest.approx([0.8, 0.1])


def test_colours_teach_appearance_without_a_file(tmp_path):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32] = (200, 30, 30)
    tlbr = np.array([[0, 0, 20, 64], [30, 0, 60, 64]], np.float32)
    one, other = teachers.open_appearance(tmp_path / "colours").embed(picture, tlbr)
    assert one @ other > 0.999
    (tmp_path / "colours").write_bytes(b"somebody's network")
    with pytest.raises(ValueError, match="colours"):
        teachers.open_appearance(tmp_path / "colours")


def test_the_suffix_says_which_detector_teaches(tmp_path):
    teacher = teachers.open_detector(write_nanodet(tmp_path, NanoDet()))
    tlbr, scores = teacher.detect(np.zeros((64, 64, 3), np.uint8), 0.0)
    assert tlbr.shape == (len(scores), 4)
    with pytest.raises(ValueError, match=r"d\.onnx"):
        teachers.open_detector(tmp_path / "d.onnx")
