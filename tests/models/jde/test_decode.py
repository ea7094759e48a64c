import numpy as np
import pytest
import torch

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.jde import decode as decode_module
from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.decode import decode, nms, select
from jde_ray.models.jde.head import ScaleMaps


def random_maps(batch, seed=0, size=(96, 64)):
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for stride in (32, 16, 8):
        shape = (size[1] // stride, size[0] // stride)
        maps.append(
            ScaleMaps(
                torch.randn(batch, 1, 4, *shape, generator=generator) * 0.3,
                torch.randn(batch, 1, 1, *shape, generator=generator),
                torch.randn(batch, SMALL.embedding_dim, *shape, generator=generator),
            )
        )
    return maps


def test_rows_run_coarse_to_fine_then_row_then_column():
    maps = random_maps(1)
    candidates = decode(SMALL, maps)
    assert candidates.boxes.shape == (1, 2 * 3 + 4 * 6 + 8 * 12, 4)
    row = 2 * 3 + 1 * 6 + 2  # stride 16, gy = 1, gx = 2
    dx, dy, dw, dh = maps[1].box[0, 0, :, 1, 2]
    width, height = SMALL.anchors[1][0]
    expected = torch.stack(
        [2.5 * 16 + width * dx, 1.5 * 16 + height * dy, width * dw.exp(), height * dh.exp()]
    )
    torch.testing.assert_close(candidates.boxes[0, row], expected)
    torch.testing.assert_close(candidates.scores[0, row], maps[1].score[0, 0, 0, 1, 2].sigmoid())


def test_embeddings_are_read_at_the_rows_cells_and_normalised():
    maps = random_maps(2)
    candidates = decode(SMALL, maps)
    rows = torch.tensor([0, 5, 6, 29, 30, 125])
    got = candidates.embeddings(1, rows)
    flat = torch.cat([m.embedding[1].flatten(1) for m in maps], 1).T
    torch.testing.assert_close(got, torch.nn.functional.normalize(flat[rows], dim=1))


def greedy(tlbr, threshold):
    kept = []
    for row in range(len(tlbr)):
        overlap = iou_matrix(tlbr[row : row + 1], tlbr[kept])[0] if kept else np.zeros(1)
        if overlap.max() <= threshold:
            kept.append(row)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_nms_equals_the_greedy_loop(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (80, 2))
    tlbr = np.concatenate([corner, corner + rng.uniform(5, 50, (80, 2))], 1)
    kept = nms(torch.from_numpy(tlbr), 0.4)
    assert torch.nonzero(kept).squeeze(1).tolist() == greedy(tlbr, 0.4)


def test_nms_of_nothing_is_nothing():
    assert nms(torch.zeros(0, 4), 0.4).shape == (0,)


def test_selection_sorts_caps_and_counts():
    candidates = decode(SMALL, random_maps(1))
    everything = select(candidates, 0.5, 1.0, 10_000)[0]
    capped = select(candidates, 0.5, 1.0, 10)[0]
    assert everything.num_capped == 0
    assert capped.num_capped == len(everything.scores) - 10
    np.testing.assert_array_equal(capped.scores, everything.scores[:10])
    assert (np.diff(everything.scores) <= 0).all()
    assert (everything.scores > 0.5).all()
    norms = np.linalg.norm(everything.embeddings, axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)


def test_no_candidate_gives_empty_arrays():
    nothing = select(decode(SMALL, random_maps(1)), 1.0, 0.4, 300)[0]
    assert nothing.tlbr.shape == (0, 4)
    assert nothing.embeddings.shape == (0, SMALL.embedding_dim)


def test_non_finite_output_is_refused():
    maps = random_maps(1)
    maps[0].score[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="image 0"):
        select(decode(SMALL, maps), 0.5, 0.4, 300)


@pytest.mark.parametrize("max_pairs", [1, 100_000, decode_module.MAX_PAIRS])
def test_a_batch_is_selected_as_its_images_are_alone(monkeypatch, max_pairs):
    """Also where images are few to a group, and where one of them has nothing."""
    monkeypatch.setattr(decode_module, "MAX_PAIRS", max_pairs)
    maps = random_maps(4)
    for m in maps:
        m.score[1] = -9.0
        m.score[3] += 1.0
    together = select(decode(SMALL, maps), 0.5, 0.4, 40)
    assert len(together) == 4
    assert len(together[1].scores) == 0
    assert together[3].num_capped > 0
    for image, found in enumerate(together):
        single = [ScaleMaps(*(part[image : image + 1] for part in m)) for m in maps]
        (alone,) = select(decode(SMALL, single), 0.5, 0.4, 40)
        assert found.num_capped == alone.num_capped
        for name in ("tlbr", "scores", "embeddings"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


def test_a_box_that_is_not_finite_names_its_image():
    maps = random_maps(3)
    maps[2].box[2, 0, 2] = 1e6  # exp overflows
    with pytest.raises(FloatingPointError, match="boxes of image 2"):
        select(decode(SMALL, maps), 0.5, 0.4, 300)
