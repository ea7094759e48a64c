from dataclasses import replace

import numpy as np
import pytest
import torch
from rcnn_scenes import picture

from jde_ray.models.rcnn.config import CASCADE_SMALL, CONFIGURATIONS, FRCNN_SMALL, Stage
from jde_ray.models.rcnn.heads import person_scores
from jde_ray.models.rcnn.network import RcnnNet
from jde_ray.models.rcnn.proposals import Proposals, propose

TINY = {"level_proposals": (30, 20), "proposals": (30, 15), "head_widths": (32, 32)}
PEOPLE = [[12, 8, 34, 60], [60, 10, 76, 54]]
SIZE = (96, 64)


def build(config, **changes):
    torch.manual_seed(0)
    network = RcnnNet(replace(config, **TINY, **changes)).eval()
    for stage in network.stages:  # of random heads most boxes would score alike
        torch.nn.init.normal_(stage.score.weight, std=0.3)
    return network


@pytest.fixture(scope="module")
def frames():
    one = picture(PEOPLE, *SIZE)
    return torch.cat((one, one.flip(2), 255 - one))


@pytest.mark.parametrize(
    "name", ["frcnn-small", "cascade-small", "frcnn-vgg-small", "jde-frcnn-small"]
)
def test_people_come_with_scores_and_the_embeddings_of_their_final_boxes(name, frames):
    network = build(CONFIGURATIONS[name])
    found = network.detect(frames, 0.3, 0.4, 5)
    assert len(found) == 3
    assert sum(len(one.scores) for one in found) > 3
    for one in found:
        assert len(one.scores) <= 5
        assert one.tlbr.shape == (len(one.scores), 4)
        assert (np.diff(one.scores) <= 0).all()
        assert (one.scores > 0.3).all()
        assert one.tlbr.min() >= -1e-3
        assert (one.tlbr.max(0, initial=0) <= (*SIZE, *SIZE)).all()
        assert one.embeddings.shape == (len(one.scores), network.config.embedding_dim)
    if network.config.embedding_dim:
        known = network.embed(frames, [torch.from_numpy(one.tlbr) for one in found])
        for one, vectors in zip(found, known, strict=True):
            np.testing.assert_allclose(one.embeddings, vectors.numpy(), atol=1e-4)
            np.testing.assert_allclose(np.linalg.norm(one.embeddings, axis=1), 1, atol=1e-5)


def test_the_batch_does_not_affect_a_frame(frames):
    network = build(CASCADE_SMALL)
    together = network.detect(frames, 0.3)
    for number, one in enumerate(together):
        (alone,) = network.detect(frames[number : number + 1], 0.3)
        np.testing.assert_allclose(one.tlbr, alone.tlbr, atol=1e-3)
        np.testing.assert_allclose(one.scores, alone.scores, atol=1e-5)


def test_a_frame_has_as_many_candidates_as_proposals_and_what_fills_it_up_scores_nothing(frames):
    network = build(FRCNN_SMALL)
    pixels = network.normalise(frames)
    with torch.inference_mode():
        candidates = network(pixels)
        assert candidates.boxes.shape == (3, 15, 4)
        assert candidates.scores.shape == (3, 15)
        features = network.features(pixels)
        some = propose(network.config, network.anchor_outputs(features, SIZE))
        is_real = some.is_real.clone()
        is_real[1, 4:] = False
        scores, _ = network.refine(features, Proposals(some.tlbr, is_real), SIZE)
    assert (scores[1, 4:] == 0).all()
    assert (scores[1, :4] > 0).all()
    np.testing.assert_allclose(scores[0].numpy(), candidates.scores[0].numpy(), atol=1e-5)


def test_three_equal_stages_with_offsets_of_zero_give_the_proposals_back(frames):
    network = build(CASCADE_SMALL, stages=(Stage(),) * 3)
    for stage in network.stages:
        torch.nn.init.zeros_(stage.box.weight)
    with torch.inference_mode():
        features = network.features(network.normalise(frames))
        proposals = propose(network.config, network.anchor_outputs(features, SIZE))
        _, tlbr = network.refine(features, proposals, SIZE)
    torch.testing.assert_close(tlbr, proposals.tlbr, atol=1e-3, rtol=0)


def test_the_stages_score_their_own_boxes_or_those_of_the_last(frames):
    own = build(CASCADE_SMALL)
    for stage in own.stages:
        torch.nn.init.normal_(stage.box.weight, std=0.1)
    last = build(CASCADE_SMALL, scored_boxes="last")
    last.load_state_dict(own.state_dict())
    with torch.inference_mode():
        features = own.features(own.normalise(frames[:1]))
        proposals = propose(own.config, own.anchor_outputs(features, SIZE))
        tlbr, image = proposals.tlbr[0], torch.zeros(15, dtype=torch.int64)
        entered, scores = [], []
        for number, stage in enumerate(own.stages):
            outputs = own.look(number, features, image, tlbr)
            entered.append(tlbr)
            scores.append(person_scores(outputs.logits))
            tlbr = stage.boxes(outputs, tlbr, SIZE)
        at_last = [person_scores(own.look(n, features, image, entered[2]).logits) for n in range(3)]
        for network, expected in ((own, scores), (last, at_last)):
            found, boxes = network.refine(features, proposals, SIZE)
            torch.testing.assert_close(found[0], torch.stack(expected).mean(0))
            torch.testing.assert_close(boxes[0], tlbr)


def test_what_the_network_cannot_take_is_refused(frames):
    network = build(FRCNN_SMALL)
    with pytest.raises(ValueError, match="frames: got uint8 of shape"):
        network.detect(frames[:, :60])
    with pytest.raises(ValueError, match=r"images: got shape .* multiples of 32"):
        network(torch.zeros(1, 3, 64, 90))
    with pytest.raises(ValueError, match="embed: frcnn-small finds people, but has no embedding"):
        network.embed(frames[:1], [torch.zeros(1, 4)])
    network.stages[0].score.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="scores of image 0 are not finite"):
        network.detect(frames[:1])


def test_a_frame_without_people_gives_nothing(frames):
    network = build(CONFIGURATIONS["jde-frcnn-small"])
    found = network.detect(frames, 1.0)
    assert [one.embeddings.shape for one in found] == [(0, 128)] * 3
    assert network.embed(frames[:1], [torch.zeros(0, 4)])[0].shape == (0, 128)
