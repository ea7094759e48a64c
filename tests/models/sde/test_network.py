"""Two ONNX files at work: pixels in, boxes and vectors out. The files are made here."""

import numpy as np
import pytest
from onnx_models import (
    save,
    write_constant,
    write_mean_embedder,
    write_red_detector,
    write_telling_embedder,
)
from places import DATA

from jde_ray.models.sde.declaration import (
    Declaration,
    DeclarationError,
    DetectorDeclaration,
    NetworkDeclaration,
)
from jde_ray.models.sde.network import AppearanceEmbedder, PersonDetector, SeparateNetworks

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GREY = np.full((64, 128, 3), 128, np.uint8)


def red_picture(width, height, *boxes):
    picture = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        picture[y1:y2, x1:x2, 0] = 255
    return picture


@pytest.fixture
def detector_file(tmp_path):
    return write_red_detector(tmp_path / "det.onnx")


def detector(file, **declared):
    return PersonDetector(DetectorDeclaration(file=file, layout="yolov8", **declared))


def test_boxes_are_in_the_pictures_pixels(detector_file):
    picture = red_picture(128, 64, (32, 16, 48, 32), (96, 48, 112, 64))
    boxes, scores = detector(detector_file).detect(picture, 0.5)
    assert sorted(boxes.tolist()) == [[32, 16, 48, 32], [96, 48, 112, 64]]
    assert scores == pytest.approx([1, 1])


def test_a_letterboxed_picture_comes_back_unstretched(detector_file):
    picture = red_picture(64, 64, (32, 16, 48, 32))  # half as large between bars of 16 columns
    boxes, _ = detector(detector_file, fit="letterbox").detect(picture, 0.9)
    assert boxes.tolist() == [[32, 16, 48, 32]]


def test_halves_find_what_is_too_small_in_the_whole(detector_file):
    box = (8, 16, 16, 32)  # 8 of 256 columns: a quarter of a cell of the whole picture
    picture = red_picture(256, 64, box)
    assert len(detector(detector_file).detect(picture, 0.4)[0]) == 0
    boxes, scores = detector(detector_file, views="halves").detect(picture, 0.4)
    assert len(boxes) == len(scores) >= 1
    assert (boxes[:, 0] < box[2]).all()
    assert (boxes[:, 2] > box[0]).all()
    right = red_picture(256, 64, (240, 16, 248, 32))
    boxes, _ = detector(detector_file, views="halves").detect(right, 0.4)
    assert (boxes[:, 0] > 220).all()
    assert len(boxes)


def test_overlapping_boxes_are_suppressed_and_clipped(tmp_path):
    columns = np.zeros((1, 5, 6))
    columns[0, :, 0] = [10, 10, 40, 10, 0.8]  # reaches out of the picture
    columns[0, :, 1] = [11, 10, 40, 10, 0.9]
    columns[0, :, 2] = [50, 20, 8, 8, 0.6]
    file = write_constant(tmp_path / "det.onnx", columns)
    boxes, scores = detector(file).detect(np.zeros((32, 64, 3), np.uint8), 0.5)
    assert boxes.tolist() == [[0, 5, 31, 15], [46, 16, 54, 24]]
    assert scores == pytest.approx([0.9, 0.6])


def test_numbers_that_are_not_finite_are_an_error(tmp_path):
    columns = np.zeros((1, 5, 6))
    columns[0, 4, 0] = np.nan
    file = write_constant(tmp_path / "det.onnx", columns)
    with pytest.raises(FloatingPointError, match="scores"):
        detector(file).detect(GREY, 0.5)
    columns[0, :, 0] = [np.inf, 0, 1, 1, 1]
    file = write_constant(tmp_path / "det.onnx", columns)
    with pytest.raises(FloatingPointError, match="boxes"):
        detector(file).detect(GREY, 0.5)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_crop_is_fed_as_declared(tmp_path, batch):
    """The tiny embedder gives the mean of each channel it was fed, here of a crop of one colour."""
    file = write_mean_embedder(tmp_path / "reid.onnx", batch=batch)
    declared = {"colour": "bgr", "divide_by": 100.0, "mean": (0.1, 0.2, 0.3), "std": (1, 2, 4)}
    embedder = AppearanceEmbedder(NetworkDeclaration(file=file, **declared))
    assert embedder.width == 3
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:40] = (200, 100, 50)
    boxes = np.array([[20.2, 9.8, 39.6, 30.1], [5, 5, 5.4, 30], [-9, -9, -5, -5]], np.float32)
    vectors = embedder.embed(picture, boxes)
    fed = (np.array([50, 100, 200]) / 100 - [0.1, 0.2, 0.3]) / [1, 2, 4]
    assert vectors[0] == pytest.approx(fed / np.linalg.norm(fed), abs=1e-6)
    assert vectors[1:].tolist() == [[0, 0, 0]] * 2  # no crop of two pixels
    assert embedder.embed(picture, boxes[:0]).shape == (0, 3)


def test_an_embedder_may_tell_the_quality_of_a_crop(tmp_path):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30], picture[:, 30:] = (204, 51, 0), (51, 0, 51)
    boxes = np.array([[2, 2, 22, 38], [5, 5, 5.4, 30], [32, 2, 58, 38]], np.float32)
    file = write_telling_embedder(tmp_path / "reid.onnx")
    described = AppearanceEmbedder(NetworkDeclaration(file=file)).describe(picture, boxes)
    assert described.quality == pytest.approx([0.8, 0.0, 0.2], abs=1e-6)
    assert np.linalg.norm(described.vectors, axis=1) == pytest.approx([1, 0, 1])
    plain = AppearanceEmbedder(NetworkDeclaration(file=write_mean_embedder(tmp_path / "b.onnx")))
    found = plain.describe(picture, boxes)
    assert found.quality is None
    np.testing.assert_allclose(found.vectors, described.vectors, atol=1e-6)
    negative = write_telling_embedder(tmp_path / "c.onnx", scale=-1.0)
    with pytest.raises(FloatingPointError, match="qualities are not finite, or below 0"):
        AppearanceEmbedder(NetworkDeclaration(file=negative)).describe(picture, boxes)
    other = write_telling_embedder(tmp_path / "d.onnx", quality="age")
    with pytest.raises(DeclarationError, match=r"got output \(1, 3\), \(1,\), an embedder gives"):
        AppearanceEmbedder(NetworkDeclaration(file=other))


def test_both_together_and_the_cap_is_counted(tmp_path, detector_file):
    picture = red_picture(128, 64, (32, 16, 48, 32), (96, 48, 112, 64))
    embedder = NetworkDeclaration(file=write_mean_embedder(tmp_path / "reid.onnx"))
    declared = DetectorDeclaration(file=detector_file, layout="yolov8")
    found = SeparateNetworks(Declaration(detector=declared, embedder=embedder)).detect(
        picture, 0.5, 0.4, 1
    )
    assert found.num_capped == 1
    assert found.embeddings.tolist() == [[1, 0, 0]]
    alone = SeparateNetworks(Declaration(detector=declared)).detect(picture, 0.5, 0.4, 300)
    assert alone.embeddings.shape == (2, 0)
    assert alone.num_capped == 0


def test_files_that_cannot_be_used_are_refused(tmp_path, detector_file):
    text = tmp_path / "text.onnx"
    text.write_text("no network")
    grey = save(tmp_path / "grey.onnx", *_identity(), [1, 1, 32, 64])
    four = save(tmp_path / "four.onnx", *_identity(), [4, 3, 32, 64])
    free = save(tmp_path / "free.onnx", *_identity(), [1, 3, "height", "width"])
    cases = [
        (tmp_path / "none.onnx", {}, "none.onnx is missing"),
        (text, {}, "not a usable ONNX file"),
        (grey, {}, r"takes tensor\(float\) \[1, 1, 32, 64\], expected one float input"),
        (four, {}, "takes 4 pictures at once, expected 1 or any"),
        (free, {}, "fixes no input size: declare `size`"),
        (free, {"size": (64, 32)}, r"got output \(1, 3, 32, 64\), layout yolov8 takes"),
        (detector_file, {"size": (32, 32)}, "takes 64x32, got size 32x32"),
        (detector_file, {"person": 1}, "person: got 1, the output has classes 0 to 0"),
    ]
    for file, declared, message in cases:
        with pytest.raises(DeclarationError, match=message) as refused:
            detector(file, **declared)
        assert "\n" not in str(refused.value)
    with pytest.raises(DeclarationError, match=r"an embedder gives \(1, D\)"):
        AppearanceEmbedder(NetworkDeclaration(file=write_constant(tmp_path / "two.onnx",
                                                                  np.zeros((2, 3)))))  # fmt: skip


def _identity():
    import onnx

    return [onnx.helper.make_node("Identity", ["x"], ["y"])], {}


@pytest.mark.data
@pytest.mark.skipif(
    not (DATA / "weights").is_dir() or not (DATA / "frames_gt/TUD-Stadtmitte").is_dir(),
    reason=f"no weights and frames under JDE_TEST_DATA ({DATA})",
)
def test_fastestdet_and_osnet_find_people_and_know_them_again():
    cv2 = pytest.importorskip("cv2")
    from jde_ray.models.boxes import iou_matrix

    networks = SeparateNetworks(
        Declaration(
            detector=DetectorDeclaration(
                file=DATA / "weights/fastestdet_coco.onnx", layout="fastestdet", colour="bgr"
            ),
            embedder=NetworkDeclaration(
                file=DATA / "weights/osnet_x0_25_msmt17.onnx",
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225),
            ),
        )
    )
    folder = DATA / "frames_gt/TUD-Stadtmitte"
    truth = np.loadtxt(folder / "gt/gt.txt", delimiter=",")
    hits, boxes, vectors, people = 0, 0, [], []
    for frame in range(10, 170, 20):
        picture = cv2.imread(str(folder / f"img1/{frame:06d}.jpg"))[:, :, ::-1]
        rows = truth[(truth[:, 0] == frame) & (truth[:, 6] > 0)]
        tlbr = np.c_[rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]]
        found = networks.detect(picture, 0.5, 0.45, 300)
        hits += int((iou_matrix(tlbr, found.tlbr).max(1) > 0.5).sum())
        boxes += len(rows)
        vectors.append(networks.embedder.embed(picture, tlbr))
        people.append(rows[:, 1])
    assert hits / boxes > 0.7  # .78 over every 15th frame, by the data's own notes
    similarity = np.concatenate(vectors) @ np.concatenate(vectors).T
    same = np.concatenate(people)[:, None] == np.concatenate(people)
    others = ~np.eye(len(same), dtype=bool)
    assert similarity[same & others].mean() > similarity[~same].mean() + 0.15
