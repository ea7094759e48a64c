import numpy as np

from jde_ray.models.counting.heat import CELLS_ACROSS, CELLS_DOWN, count_sightings


def test_each_foot_point_counts_in_its_cell_and_those_outside_at_the_edge():
    size = (10 * CELLS_ACROSS, 10 * CELLS_DOWN)
    feet = np.array([[5, 5], [15, 5], [15, 9], [-40, 5], [9999, 9999]], float)
    tlbr = np.stack([feet[:, 0] - 4, feet[:, 1] - 30, feet[:, 0] + 4, feet[:, 1]], axis=1)
    cells = count_sightings(tlbr, size)
    assert cells.shape == (CELLS_DOWN, CELLS_ACROSS)
    assert cells[0, :3].tolist() == [2, 2, 0]
    assert cells[-1, -1] == 1
    assert cells.sum() == len(feet)
    assert count_sightings(np.zeros((0, 4)), size).sum() == 0
