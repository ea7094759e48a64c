"""The YAML file that declares two ONNX files: read, refused, fingerprinted."""

import shutil

import pytest

from jde_ray.models.sde.declaration import DeclarationError
from jde_ray.models.sde.declaration_file import read_declaration, read_embedder

DETECTOR = "detector: {file: a, layout: yolov8"
WHOLE = """
frames: 640x352
detector: {file: det.onnx, layout: fastestdet, size: 352x352, colour: bgr, divide_by: 1,
           mean: [1, 2, 3], std: [4, 5, 6], fit: letterbox, views: halves, person: 2}
embedder: {file: reid.onnx, size: 128x256}
"""


def declare(folder, text, name="sde.yaml"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_everything_that_can_be_declared(tmp_path):
    found = read_declaration(declare(tmp_path, WHOLE))
    assert found.frames == (640, 352)
    detector, embedder = found.detector, found.embedder
    assert detector.file == tmp_path / "det.onnx"
    assert (detector.layout, detector.size, detector.colour) == ("fastestdet", (352, 352), "bgr")
    assert (detector.divide_by, detector.mean, detector.std) == (1, (1, 2, 3), (4, 5, 6))
    assert (detector.fit, detector.views, detector.person) == ("letterbox", "halves", 2)
    assert (embedder.size, embedder.colour, embedder.divide_by) == ((128, 256), "rgb", 255)


def test_an_absolute_path_stays_and_the_embedder_may_be_left_out(tmp_path):
    text = "detector: {file: /models/det.onnx, layout: yolov8}"
    found = read_declaration(declare(tmp_path, text))
    assert str(found.detector.file) == "/models/det.onnx"
    assert found.embedder is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "the file: expected a mapping of detector, embedder, frames"),
        ("frames: 64x64", "detector: is missing"),
        ("detector: {layout: yolov8}", "detector.file: is missing"),
        ("detector: {file: a.onnx}", "detector.layout: is missing"),
        ("detector: {file: a.onnx, layout: ssd}", "detector.layout: got 'ssd', expected fast"),
        ("DETECTOR, conf: 1}", "detector.conf: no such setting"),
        ("DETECTOR, size: big}", "detector.size: got 'big', expected"),
        ("DETECTOR, size: 0 x 8}", r"detector.size: got \(0, 8\)"),
        ("DETECTOR, colour: grey}", "detector.colour: got 'grey', expected rgb"),
        ("DETECTOR, std: [1, 0, 1]}", "detector.std: got"),
        ("DETECTOR, mean: 3}", "detector.mean: got 3, expected three"),
        ("DETECTOR, mean: [1, 2, red]}", "detector.could not convert"),
        ("DETECTOR, divide_by: 0}", "detector.divide_by: got 0.0, expected above"),
        ("DETECTOR, person: -1}", "detector.person: got -1, expected a class"),
        ("DETECTOR}\nframes: 100x64", "frames: got 100x64, .*nearest is 96x64"),
        ("DETECTOR}\nembedder: reid.onnx", "got reid.onnx, expected colours, .*or a mapping of"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_is_not_accepted_is_one_line(tmp_path, text, message):
    with pytest.raises(DeclarationError, match=message) as refused:
        read_declaration(declare(tmp_path, text.replace("DETECTOR", DETECTOR)))
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "sde.yaml") in str(refused.value)


def test_the_fingerprint_is_of_contents_and_of_what_is_declared(tmp_path):
    first = declare(tmp_path / "a", WHOLE)
    (tmp_path / "a/det.onnx").write_bytes(b"detector")
    (tmp_path / "a/reid.onnx").write_bytes(b"embedder")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    digest = read_declaration(first).sha256()
    assert len(digest) == 64
    assert read_declaration(tmp_path / "b/sde.yaml").sha256() == digest
    (tmp_path / "b/reid.onnx").write_bytes(b"another")
    assert read_declaration(tmp_path / "b/sde.yaml").sha256() != digest
    changed = declare(tmp_path / "a", WHOLE.replace("bgr", "rgb"), "changed.yaml")
    assert read_declaration(changed).sha256() != digest


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DeclarationError, match=r"det.onnx cannot be read \(No such file"):
        read_declaration(declare(tmp_path, WHOLE)).sha256()
    with pytest.raises(DeclarationError, match=r"none.yaml cannot be read \(No such file"):
        read_declaration(tmp_path / "none.yaml")


def test_an_embedder_s_weight_file_is_named_alone(tmp_path):
    text = "detector: {file: a, layout: yolov8}\nembedder: {weights: reid.safetensors}"
    found = read_declaration(declare(tmp_path, text))
    assert found.embedder == read_embedder(tmp_path / "reid.safetensors")
    for wrong, message in (
        ("weights: a.safetensors, size: 8x8", "embedder.size: got it beside weights"),
        ("weights: a.onnx", "embedder.weights: got a.onnx, expected a .safetensors"),
    ):
        text = f"detector: {{file: a, layout: yolov8}}\nembedder: {{{wrong}}}"
        with pytest.raises(DeclarationError, match=message):
            read_declaration(declare(tmp_path, text))
