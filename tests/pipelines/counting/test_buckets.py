from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.pipelines.counting.buckets import Spans, bucket_edges, count_in, mean_in

S = 1_000_000
seconds = st.integers(0, 400)
spans = st.lists(st.tuples(seconds, st.integers(0, 150)), min_size=1, max_size=6)


def make(pairs):
    begin = np.array([first for first, _ in pairs], np.int64) * S
    return Spans(begin, begin + np.array([length for _, length in pairs], np.int64) * S)


@settings(deadline=None)
@given(spans)
def test_seconds_numbers_and_most_at_once_equal_a_count_second_by_second(pairs):
    own = make(pairs)
    edges = bucket_edges(own, "minute", None)
    inside = np.zeros((len(pairs), len(edges) * 60 + 120), bool)
    touch = np.zeros((len(pairs), len(inside[0]) + 1), bool)
    offset = edges[0] // S
    for row, (first, length) in enumerate(pairs):
        inside[row, first - offset : first - offset + length] = True
        touch[row, first - offset : first - offset + length + 1] = True  # moments, ends included
    covered, number, most, merged = own.seconds_in(edges), own.number_in(edges), [], []
    for bucket in range(len(edges) - 1):
        seen = slice(bucket * 60, bucket * 60 + 60)
        assert covered[bucket] == inside[:, seen].sum()
        assert number[bucket] == touch[:, seen].any(axis=1).sum()
        most.append(touch[:, seen].sum(axis=0).max())
        merged.append(inside[:, seen].any(axis=0).sum())
    assert own.most_in(edges).tolist() == most
    assert own.merged().seconds_in(edges).tolist() == merged
    assert own.overlap() == (inside.sum() - inside.any(axis=0).sum()) * S


def test_edges_hold_all_spans_in_whole_buckets():
    own = make([(61, 59), (200, 0)])
    assert (bucket_edges(own, "minute", None) // S).tolist() == [60, 120, 180, 240]
    assert (bucket_edges(make([(5, 0)]), "hour", UTC) // S).tolist() == [0, 3600]


def test_days_are_local_and_as_long_as_the_clocks_say():
    begin = round(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()) * S
    own = Spans(np.array([begin]), np.array([begin + 3 * 86_400 * S]))
    berlin = bucket_edges(own, "day", ZoneInfo("Europe/Berlin"))
    assert (np.diff(berlin) // (3600 * S)).tolist() == [24, 23, 24, 24]
    autumn = round(datetime(2026, 10, 24, 23, tzinfo=UTC).timestamp()) * S
    own = Spans(np.array([autumn]), np.array([autumn + 6 * 3600 * S]))
    assert (np.diff(bucket_edges(own, "day", ZoneInfo("Europe/Berlin"))) // S == 25 * 3600).any()
    hours = bucket_edges(own, "hour", ZoneInfo("Asia/Kolkata"))
    assert set((np.diff(hours) // S).tolist()) == {3600}
    assert hours[0] // S % 3600 == 1800


def test_a_clock_that_was_never_set_is_refused_before_memory_is_full():
    own = Spans(np.array([0, 60 * 365 * 86_400 * S]), np.array([S, 60 * 365 * 86_400 * S + S]))
    with pytest.raises(ValueError, match=r"by: .* minutes lie .*\(1970-01-01\) and"):
        bucket_edges(own, "minute", UTC)


def test_counts_and_means_by_bucket():
    edges = np.array([0, 60, 120]) * S
    times = np.array([0, 59, 60, 119, 120, 500]) * S
    assert count_in(times, edges).tolist() == [2, 4]
    mean = mean_in(np.array([1.0, 3.0, np.nan, np.nan, np.nan, np.nan]), times, edges)
    assert mean[0] == 2.0
    assert np.isnan(mean[1])
