"""Small tables of boxes for the tests of metrics."""

import numpy as np

from jde_ray.models.metrics.rows import BoxRows


def make(*rows):
    """Rows of (frame, id, x): boxes 10 wide and 20 high."""
    if not rows:
        return BoxRows.empty()
    tlbr = [(x, 0, x + 10, 20) for _, _, x in rows]
    frames, ids = [row[0] for row in rows], [row[1] for row in rows]
    return BoxRows(np.array(frames), np.array(ids), np.array(tlbr, float))
