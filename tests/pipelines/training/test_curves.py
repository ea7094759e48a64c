import math

from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.training.curves import LiveTable, Table, read_table


def test_a_table_grows_drops_what_is_done_again_and_takes_new_columns(tmp_path):
    store = open_store(str(tmp_path))
    assert read_table(store, "curves.csv") == []
    table = Table(store, "curves.csv", 0)
    table.add({"step": 20, "total": 1.23456789})
    table.add({"step": 40, "total": 1.0})
    table.flush()
    again = Table(store, "curves.csv", 20)  # the checkpoint holds 20 steps
    again.add({"step": 40, "total": 0.5, "weight_box": 3.0})
    again.flush()
    assert read_table(store, "curves.csv") == [
        {"step": "20", "total": "1.2346", "weight_box": ""},
        {"step": "40", "total": "0.5", "weight_box": "3"},
    ]


def test_the_live_table_sums_the_heads_of_a_task_and_repeats_its_head():
    lines = []
    live = LiveTable(lines.append, ("score_32", "box_32", "score_16", "box_16"))
    losses = {"total": -1.0, "score_32": 0.5, "score_16": 0.25, "box_32": 2.0, "box_16": 1.0}
    for step in range(1, 22):
        live.add(step, 0.5, 0.01, losses, 12.0, 3723.4 if step == 1 else math.inf)
    heads = [line for line in lines if "step" in line]
    assert len(heads) == 2
    assert heads[0].split() == ["step", "done", "rate", "total", "score", "box", "images/s", "left"]
    figures = ["50.0%", "0.01", "-1.0000", "0.7500", "3.0000", "12.0"]
    assert lines[1].split() == ["1", *figures, "1:02:03"]
    assert lines[2].split() == ["2", *figures, "?"]
    assert len({len(line) for line in lines}) == 1
