import cv2
import numpy as np
import pytest

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.evaluation.embedder_gaps import compare_embedders, embed_truth


class Colours:
    """Describes a person by the mean colour of the box."""

    width = 3

    def embed(self, picture, tlbr) -> FloatArray:
        boxes = np.rint(tlbr).astype(int).tolist()
        found = [picture[y1:y2, x1:x2].mean((0, 1)) for x1, y1, x2, y2 in boxes]
        return np.array(found, np.float32).reshape(-1, 3)


class Places(Colours):
    """Describes a person by nothing that stays."""

    def embed(self, picture, tlbr):
        return np.random.default_rng(int(tlbr.sum())).normal(size=(len(tlbr), 3)).astype(np.float32)


@pytest.fixture
def sequence(tmp_path):
    """Two people in red and blue, who walk; a third one is hidden."""
    folder = tmp_path / "walk"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    rows = []
    for frame in range(30):
        picture = np.full((60, 120, 3), 90, np.uint8)
        for person, colour in ((1, (200, 20, 20)), (2, (20, 20, 200))):
            left = 5 + frame + 50 * (person - 1)
            picture[10:50, left : left + 20] = colour
            rows.append(f"{frame + 1},{person},{left + 1},11,20,40,1,1,1")
        rows.append(f"{frame + 1},3,1,1,10,10,1,1,0.1")
        cv2.imwrite(str(folder / "img1" / f"{frame + 1:06d}.jpg"), picture[..., ::-1])
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
    return folder


def test_colours_know_people_again_and_chance_does_not(sequence):
    known = embed_truth(sequence, {"colours": Colours(), "chance": Places()})
    assert len(known["colours"].embeddings) == 60  # nobody hidden
    assert set(known["chance"].identities.tolist()) == {1, 2}
    table = compare_embedders({"walk": known})
    lines = table.figures["walk"]
    assert lines["colours: one, 10-60"]["TPR@5e-2"] == 100
    assert lines["chance: one, 10-60"]["TPR@5e-2"] < 50
    assert table.sequences == ["walk"]


def test_every_other_frame_and_a_missing_one(sequence):
    known = embed_truth(sequence, {"colours": Colours()}, every=2)
    assert set(known["colours"].frames.tolist()) == set(range(0, 30, 2))
    (sequence / "img1" / "000030.jpg").unlink()
    with pytest.raises(ValueError, match="it has no frame 29"):
        embed_truth(sequence, {"colours": Colours()})


def test_a_sequence_without_truth_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gt\.txt cannot be read \(No such file or directory\)"):
        embed_truth(tmp_path / "nothing", {})
