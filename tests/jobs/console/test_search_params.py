import pytest

from jde_ray.jobs.console.search_params import parse_space
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.evaluation.search_space import Span


def test_values_are_lists_and_ranges_by_flag_or_setting() -> None:
    params = ["conf=0.3:0.7", "track-buffer=10,30", "fuse_scores=true,false", "min_hits=1:3:3"]
    assert parse_space(params) == {
        "high_score": Span(0.3, 0.7),
        "track_buffer": [10, 30],
        "fuse_scores": [True, False],
        "min_hits": Span(1, 3, 3),
    }


@pytest.mark.parametrize(
    "text", ["conf", "conf=", "conf=0.7:0.3", "conf=1:2:3:4", "conf=a:b", "conf=1,,2", "conf=0:1:1"]
)
def test_values_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(RunError, match="param: got") as refused:
        parse_space([text])
    assert refused.value.exit_code == ExitCode.REFUSED
