import json

import pyarrow.parquet as pq
from typer.testing import CliRunner

from jde_ray.jobs.bench import app, counting
from jde_ray.pipelines.formats.tracks import track_schema


def test_the_command_is_timed_twice_over_as_many_rows_as_asked_for():
    result = CliRunner().invoke(app.app, ["count", "--videos", "3", "--rows", "1500", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["videos"], report["rows"]) == (3, 1500)
    assert report["events"] > 0
    assert min(report["seconds"], report["processor_seconds"], report["again_seconds"]) > 0


def test_its_files_have_the_columns_of_a_run(tmp_path):
    counting.write_tracks(tmp_path, 2, 45)
    for path in (tmp_path / "tracks").iterdir():
        assert pq.read_schema(path).remove_metadata() == track_schema()
        assert pq.read_metadata(path).num_rows == 45
