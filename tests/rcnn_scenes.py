"""Pictures of coloured blocks that stand for people, and their labels."""

import torch

from jde_ray.models.jde.losses.task_aligned import Labels

COLOURS = ((250, 20, 20), (20, 250, 20), (20, 20, 250))


def labelled(boxes, image=None, identity=None, ignore=None, learns=(True,)):
    """Labels of `(G, 4)` boxes."""
    count = len(boxes)
    return Labels(
        torch.tensor(image or [0] * count, dtype=torch.int64),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.arange(count) if identity is None else torch.tensor(identity),
        torch.tensor(ignore or [False] * count, dtype=torch.bool),
        torch.zeros(count, 0),
        torch.tensor(learns),
    )


def picture(boxes, width, height):
    """`(1, H, W, 3)` uint8: grey noise with a block of its own colour in each box."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(110, 140, (1, height, width, 3), generator=generator, dtype=torch.uint8)
    for (x1, y1, x2, y2), colour in zip(boxes, COLOURS, strict=False):
        drawn[0, y1:y2, x1:x2] = torch.tensor(colour, dtype=torch.uint8)
    return drawn
