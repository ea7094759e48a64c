import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.pipelines.evaluation.result_names import name_results

PARTS = st.sampled_from(["a", "b", "data", "tracks", "x.txt"])


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["runs/a/", "./runs/b"], ["a", "b"]),
        (["runs/a/tracks", "runs/b/tracks"], ["a", "b"]),
        (["mpn/data", "sort"], ["mpn", "sort"]),
        (["mpn/data/S-1.txt", "sort/data/S-1.txt"], ["mpn", "sort"]),
        (["mpn.txt", "sort.txt"], ["mpn", "sort"]),
        (["mpn.txt", "mpn.parquet"], ["mpn.txt", "mpn.parquet"]),
        (["mpn.v2", "sort.v2"], ["mpn.v2", "sort.v2"]),
        (["x/sort", "y/sort", "y/jde"], ["x/sort", "y/sort", "jde"]),
        (["s3://b/runs/a", "runs/b"], ["a", "b"]),
        (["s3://b/runs/a", "s3://c/runs/a"], ["b", "c"]),
        (["a/data", "a/tracks"], ["data", "tracks"]),
        (["runs/a"], ["a"]),
        (["/x/data", "/y/x/data"], ["x", "y/x"]),
    ],
)
def test_names_are_the_shortest_that_tell_apart(places, names):
    assert name_results(places) == dict(zip(names, places, strict=True))


def test_the_folder_one_stands_in_has_its_name(monkeypatch, tmp_path):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert name_results([".", "../theirs"]) == {"mine": ".", "theirs": "../theirs"}


def test_a_result_given_twice_is_refused():
    with pytest.raises(ValueError, match=r"tracks: got \./a twice, expected different results"):
        name_results(["a", "b", "./a"])


@given(st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=5))
def test_every_place_has_a_name_of_its_own(places):
    if len({os.path.abspath(place) for place in places}) < len(places):
        with pytest.raises(ValueError, match="twice"):
            name_results(places)
        return
    named = name_results(places)
    assert list(named.values()) == places
    assert all(named)
