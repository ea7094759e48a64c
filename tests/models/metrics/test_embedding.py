import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.metrics import embedding
from jde_ray.models.metrics.embedding import FALSE_ACCEPT_RATES, score_embeddings


def make(seed, people, sightings, spread, width=16):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, width))
    vectors = np.repeat(centres, sightings, 0) + spread * random.normal(
        size=(people * sightings, width)
    )
    identities = np.repeat(np.arange(people), sightings)
    order = random.permutation(len(identities))
    return vectors[order], identities[order]


def roc(vectors, identities):
    """Every pair at once: false accept and true positive rates at each distinct similarity."""
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    row, column = np.triu_indices(len(unit), 1)
    similarity = (unit @ unit.T)[row, column]
    one = identities[row] == identities[column]
    thresholds = np.unique(similarity)[::-1]
    accepted = similarity[None, :] >= thresholds[:, None]
    return (accepted & ~one).sum(1) / (~one).sum(), (accepted & one).sum(1) / one.sum()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), spread=st.floats(0.2, 2.0), block=st.sampled_from([3, 16, 100]))
def test_blocks_give_the_curve_of_all_pairs_at_once(seed, spread, block):
    vectors, identities = make(seed, 6, 5, spread)
    scores = score_embeddings(vectors, identities, block_rows=block)
    far, tpr = roc(vectors, identities)
    assert (scores.num_positive_pairs, scores.num_negative_pairs) == (6 * 10, 30 * 29 // 2 - 60)
    exact = np.interp(scores.false_accept_rates, *highest(far, tpr))
    assert scores.true_positive_rates == pytest.approx(exact, abs=1e-9)


def highest(far, tpr):
    x = np.unique(np.append(far, 0.0))
    return x, np.array([tpr[far == value].max(initial=0.0) for value in x])


def test_people_far_apart_are_told_apart_at_every_rate():
    vectors = np.repeat(np.eye(8), 3, 0)
    scores = score_embeddings(vectors, np.repeat(np.arange(8), 3))
    assert scores.true_positive_rates.tolist() == [1.0] * len(FALSE_ACCEPT_RATES)
    assert scores.num_identities == 8


def test_embeddings_without_meaning_accept_as_many_of_both():
    random = np.random.default_rng(3)
    vectors, identities = random.normal(size=(1500, 24)), np.repeat(np.arange(75), 20)
    scores = score_embeddings(vectors, identities, block_rows=512)
    assert scores.at(0.1) == pytest.approx(0.1, abs=0.01)
    assert scores.at(0.01) == pytest.approx(0.01, abs=0.003)


def test_the_block_size_and_the_order_change_nothing():
    vectors, identities = make(5, 40, 6, 1.0)
    whole = score_embeddings(vectors, identities).true_positive_rates
    parts = score_embeddings(vectors[::-1], identities[::-1], block_rows=37).true_positive_rates
    assert parts == pytest.approx(whole, abs=1e-3)


def test_unknown_people_are_left_out():
    vectors, identities = make(1, 4, 3, 0.5)
    identities[identities == 2] = -1
    scores = score_embeddings(vectors, identities)
    assert (scores.num_embeddings, scores.num_identities, scores.num_positive_pairs) == (9, 3, 9)


@pytest.mark.parametrize("people", [0, 1])
def test_without_both_kinds_of_pairs_there_is_no_rate(people):
    vectors, identities = make(1, people, 3, 0.5)
    scores = score_embeddings(vectors, identities)
    assert np.isnan(scores.true_positive_rates).all()
    assert math.isnan(scores.at(0.1))


def peak_bytes(people):
    vectors, identities = make(2, people, 20, 1.0, width=8)
    vectors = vectors.astype(np.float16)
    tracemalloc.start()
    score_embeddings(vectors, identities, block_rows=256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_pairs(monkeypatch):
    monkeypatch.setattr(embedding, "_BINS", 1 << 12)  # whose arrays are all that is left else
    few, many = peak_bytes(50), peak_bytes(200)
    assert many < few + 2e6  # the pairs of 4,000 vectors as float32 are 64 MB, of 1,000 4 MB


@pytest.mark.slow
def test_100_000_embeddings_need_less_than_2_gb():
    code = (
        "import numpy as np\n"
        "from jde_ray.models.metrics.embedding import score_embeddings\n"
        "random = np.random.default_rng(0)\n"
        "vectors = random.normal(size=(100_000, 128)).astype(np.float16)\n"
        "scores = score_embeddings(vectors, np.arange(100_000) // 20)\n"
        "assert scores.num_positive_pairs == 5_000 * 190, scores\n"
        "assert abs(scores.at(0.1) - 0.1) < 0.002, scores\n"
        # ru_maxrss would begin at the size of the process that starts this one
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_000_000  # kilobytes


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"got shapes \(\(2, 3\), \(3,\)\)"):
        score_embeddings(np.zeros((2, 3)), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"NaN or Inf"):
        score_embeddings(np.full((2, 3), np.nan), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"FAR: got 0.5"):
        score_embeddings(np.ones((2, 3)), np.zeros(2, int)).at(0.5)
