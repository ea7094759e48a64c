"""`jde export`: what is written is what was read, in every format."""

import copy
import shutil

import cv2
import numpy as np
import pytest
import torch
from made_videos import write_video
from places import ROOT

from jde_ray.jobs import cli
from jde_ray.models import openvino_files
from jde_ray.models.cards import REID
from jde_ray.models.jde import weights
from jde_ray.models.jde.config import CONFIGURATIONS, JDEConfig
from jde_ray.models.jde.network import JDE
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.reid import int8
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.video.synthetic import render_street

NO_ONNX = "onnx is not installed: pip install -e '.[onnx]'"
# the published layout over the small backbone: every kind of layer, quick to run
TINY = JDEConfig(
    **{
        **CONFIGURATIONS["darknet53-576x320"].__dict__,
        "name": "tiny",
        "size": (96, 64),
        "backbone": "shufflenet",
        "neck_channels": (32, 16, 8),
        "embedding_dim": 16,
    }
)


@pytest.fixture
def tiny(tmp_path):
    torch.manual_seed(1)
    model = JDE(TINY)
    for name, value in model.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    path = tmp_path / "tiny.safetensors"
    weights.save(model, path, {"licence": "test only"})
    return path


def run(capsys, *arguments):
    code = cli.run(["export", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(("kind", "suffix"), [("safetensors", "safetensors"), ("torch", "pt")])
def test_our_formats_round_trip_with_their_licence(tiny, tmp_path, capsys, kind, suffix):
    out = tmp_path / "new" / f"out.{suffix}"
    code, said, _ = run(capsys, tiny, "--format", kind, "--out", out)
    assert code == 0
    assert "tensors taken; left out: none" in said
    assert "network tiny, 96x64" in said
    assert "licence of the weights: test only" in said
    assert weights.metadata(out)["licence"] == "test only"
    model = weights.load(out)
    assert model.config == TINY
    for key, value in weights.load(tiny).state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


def test_half_of_the_file_is_the_same_network_to_float16(tiny, tmp_path, capsys):
    out = tmp_path / "half.safetensors"
    assert run(capsys, tiny, "--half", "--out", out)[0] == 0
    whole, rounded = (weights.load(path).state_dict() for path in (tiny, out))
    for key, value in whole.items():
        wanted = value.half().float() if value.ndim == 4 else value
        assert torch.equal(rounded[key], wanted), key
    assert out.stat().st_size < 0.7 * tiny.stat().st_size


def compare_with_onnx(path, model, batch, boxes=1e-4):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    width, height = model.config.size
    images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        candidates = model(images)
    wanted = (candidates.boxes, candidates.scores, *candidates.embedding_maps)
    got = session.run(None, {"images": images.numpy()})
    assert len(got) == 5
    for ours, theirs, limit in zip(wanted, got, (boxes, *[1e-4] * 4), strict=True):
        scale = np.maximum(1, np.abs(ours.numpy()))
        assert (np.abs(ours.numpy() - theirs) <= limit * scale).all()
    return session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize(("name", "batch"), [("tiny", 3), ("small", 2)])
def test_onnx_equals_eager_at_any_batch(tiny, tmp_path, capsys, name, batch):
    pytest.importorskip("onnx", reason=NO_ONNX)
    given = tiny if name == "tiny" else name
    out = tmp_path / "out.onnx"
    code, _, err = run(capsys, given, "--format", "onnx", "--out", out)
    assert code == 0, err
    model = weights.load(given)
    metadata = compare_with_onnx(out, model, batch)
    assert JDEConfig.from_json(metadata["config"]) == model.config
    assert metadata["licence"] == weights.metadata(given)["licence"]


def test_onnx_of_the_published_network_equals_eager(published_file, tmp_path):
    pytest.importorskip("onnx", reason=NO_ONNX)
    from jde_ray.models.jde.export import write_onnx

    model = weights.load(published_file, (576, 320))
    # with all its weights, on a small input: at its own size see below
    model.config = JDEConfig(**{**model.config.__dict__, "size": (96, 64)})
    out = tmp_path / "jde.onnx"
    write_onnx(copy.deepcopy(model), out)  # which folds its batch norms
    compare_with_onnx(out, model, batch=1)


@pytest.mark.slow
def test_onnx_of_a_published_checkpoint_equals_eager(published_file, tmp_path, capsys):
    pytest.importorskip("onnx", reason=NO_ONNX)
    out = tmp_path / "jde.onnx"
    code, _, err = run(
        capsys, published_file, "--format", "onnx", "--size", "576x320", "--out", out
    )
    assert code == 0, err
    # Anchors of 420 px magnify rounding: from float64 arithmetic, eager's boxes differ by 4.3e-4
    # and this file's by 1.1e-4. So boxes have the goldens' tolerance here, all else 1e-4.
    compare_with_onnx(out, weights.load(published_file, (576, 320)), batch=1, boxes=1e-3)


@pytest.mark.slow
def test_the_documents_example_finds_what_the_network_finds(tiny, tmp_path, capsys, monkeypatch):
    """Of a network with four anchors a cell, whose rows share their embeddings."""
    pytest.importorskip("onnx", reason=NO_ONNX)
    code, _, err = run(capsys, tiny, "--format", "onnx", "--out", tmp_path / "small.onnx")
    assert code == 0, err
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (75, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture[:, :, ::-1])
    page = ROOT / "docs" / "export.md"
    block = page.read_text().partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    values = {}
    exec(compile(block.replace("picture.jpg", "picture.png"), str(page), "exec"), values)  # noqa: S102
    model = weights.load(tiny).eval()
    box = Letterbox(90, 75, *TINY.size)
    with torch.inference_mode():
        found = model(model.normalise(torch.from_numpy(box.apply(picture))[None]))
        wanted = found.embeddings(0, torch.from_numpy(values["kept"]))
    assert len(values["kept"]) > 3
    np.testing.assert_allclose(values["vectors"], wanted.numpy(), atol=1e-4)
    np.testing.assert_allclose(values["scores"], found.scores.numpy(), atol=1e-4)
    mine = values["found"][values["kept"]]
    tlbr = np.concatenate([mine[:, :2], mine[:, :2] + mine[:, 2:]], 1)
    centre, sides = found.boxes[0, values["kept"]].numpy().reshape(-1, 2, 2).transpose(1, 0, 2)
    network = np.concatenate([centre - sides / 2, centre + sides / 2], 1)
    # the real geometry, but for the rounding of the scaled size
    np.testing.assert_allclose(box.to_network(tlbr), network, rtol=0.02, atol=0.5)


def test_help_names_what_to_install(capsys):
    code, said, _ = run(capsys, "--help")
    assert code == 0
    assert "pip install -e '.[onnx]'" in " ".join(said.split())  # whatever the terminal's width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onnx", "--out", "x.pt"], "expected the suffix .onnx for onnx"),
        (["--format", "torch", "--out", "x.pt", "--size", "128x64"], "expected 96x64"),
        (["--format", "torch", "--out", "x.pt", "--size", "big"], "WIDTHxHEIGHT"),
        (["--format", "caffe", "--out", "x"], "'caffe' is not one of"),
        (["--format", "torch", "--half", "--out", "x.pt"], "half: got --format torch"),
    ],
    ids=["suffix", "size", "no size", "format", "half"],
)
def test_refusals_are_one_line(tiny, capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, said, err = run(capsys, tiny, *arguments)
    assert code == 2
    assert said == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x.pt").exists()


def test_a_two_stage_network_becomes_an_onnx_file_and_nothing_else(tmp_path, capsys):
    pytest.importorskip("onnx", reason=NO_ONNX)
    from two_stage import write

    path = write(tmp_path)
    out = tmp_path / "new" / "frcnn.onnx"
    code, said, _ = run(capsys, path, "--format", "onnx", "--out", out)
    assert code == 0
    assert "frcnn-small, 96x64" in said
    assert out.is_file()
    for arguments in (("--format", "torch"), ("--format", "onnx", "--size", "96x64")):
        code, _, said = run(capsys, path, *arguments, "--out", tmp_path / "other")
        assert code == 2
        assert "got a two-stage network, expected --format onnx without --size" in said


def test_a_re_identification_network_is_quantised_by_people_of_a_video(tmp_path, capsys):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    pytest.importorskip("onnx")
    scene = StreetScene(3, width=640, height=360, num_people=6, num_frames=4)
    render_street(scene, tmp_path / "street.mp4", tmp_path / "street")
    shutil.copy(REID.folder / "reid-small.safetensors", own := tmp_path / "own.safetensors")
    asked = (own, "--format", "openvino", "--int8", "--calibration", tmp_path / "street.mp4")
    code, said, _ = run(capsys, *asked, "--out", tmp_path / "own.int8.xml")
    assert code == 0
    assert "own.int8.xml: network reid-small-ide, 96x192" in said
    path = int8.find(own)
    assert path == tmp_path / "own.int8.xml"
    network = openvino_files.read(path)
    assert "people of street.mp4" in openvino_files.note(network, "calibration")
    assert "non-commercial" in openvino_files.note(network, "licence")

    write_video(tmp_path / "empty.mp4", 3)
    code, _, said = run(capsys, *asked[:-1], tmp_path / "empty.mp4", "--out", path)
    assert code == 2
    assert "calibration: nobody was found in" in said
    code, _, said = run(capsys, own, "--format", "torch", "--out", tmp_path / "own.pt")
    assert code == 2
    assert (
        "got a re-identification network, expected --format onnx, or openvino with --int8" in said
    )
