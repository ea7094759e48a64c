"""What two-stage networks learn: proposals, scores, boxes, and identities."""

from __future__ import annotations

from torch import Tensor, nn

from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.losses.embedding import EmbeddingLoss
from jde_ray.models.losses.weighting import TaskGroup, build_weighting
from jde_ray.models.rcnn.config import RcnnConfig
from jde_ray.models.rcnn.network import RcnnNet

TASKS = ("proposals", "score", "box", "identity")  # a plain detector has the first three


class RcnnLoss(nn.Module):
    """The losses of both stages, and their balance.

    Anchors and proposals that learn are drawn with torch's global generator.

    Args:
        config: Configuration of the network.
        num_identities: Classes of the identity loss, 0 for none; only with an embedding.
        embedding_loss: One of `models.losses.config.EMBEDDING_LOSSES`.
        weighting: One of `models.losses.config.WEIGHTINGS`; detectors were published with
            `uniform`.
        margin: Margin of the embedding loss `triplet`.
    """

    def __init__(
        self,
        config: RcnnConfig,
        num_identities: int = 0,
        embedding_loss: str = "cross_entropy",
        weighting: str = "uniform",
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.identity: EmbeddingLoss | None = None
        if config.embedding_dim:
            width = config.embedding_dim
            self.identity = EmbeddingLoss(embedding_loss, width, num_identities, margin)
        number = len(TASKS) if self.identity is not None else len(TASKS) - 1
        detects, start = (True, True, True, False), (0.0, 0.0, 0.0, 2.0)
        maps = tuple(range(len(config.strides)))
        group = TaskGroup(TASKS[:number], maps, detects[:number], start[:number])
        self.weighting = build_weighting(weighting, [group])

    def forward(
        self, model: RcnnNet, images: Tensor, labels: Labels
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and the unweighted parts by task.

        Args:
            model: The network, which this module does not own.
            images: `(B, 3, H, W)` RGB in [0, 1], as `model.normalise` gives them.
            labels: Ground truth of the batch.
        """
        raise NotImplementedError
