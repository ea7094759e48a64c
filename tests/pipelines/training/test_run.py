"""A training as every process of it is told, without images of its own."""

from dataclasses import replace

from small_training import run

from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.checkpoint import forget, step_done


def test_only_a_run_that_does_not_resume_removes_the_checkpoint(tmp_path):
    (tmp_path / "latest.json").write_text('{"step": 77}')
    run(tmp_path, resume=True).begin()
    assert step_done(open_store(str(tmp_path))) == 77
    forget(open_store(str(tmp_path)))
    forget(open_store(str(tmp_path)))
    assert step_done(open_store(str(tmp_path))) == 0


def test_weight_files_name_licence_sources_and_amounts(tmp_path):
    learning = replace(run(tmp_path, resume=True), num_boxes=7)
    facts = {"licence": "unstated", "sources": "park", "boxes": "7", "identities": "2"}
    assert learning.notes == facts
    assert run(tmp_path, resume=True).classifier() is None
