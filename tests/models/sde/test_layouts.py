"""What detectors' outputs mean, layout by layout, on numbers worked out by hand."""

import numpy as np
import pytest

from jde_ray.models.sde.layouts import LAYOUTS

SIZE = (64, 32)


def decode(name, *outputs, person=0):
    arrays = [np.asarray(output, np.float32) for output in outputs]
    layout = LAYOUTS[name]
    layout.check(name, arrays, SIZE, person)
    return layout.decode(arrays, SIZE, person)


def test_fastestdet_reads_tanh_centres_sigmoid_sizes_and_the_likeliest_class():
    raw = np.zeros((1, 7, 2, 4))
    raw[0, 0] = 0.5  # objectness
    raw[0, 1, 1, 2] = np.arctanh(0.5)  # half a cell to the right
    raw[0, 5, 1, 2], raw[0, 6, 1, 2] = 0.8, 0.1
    raw[0, 6, 0, 0] = 0.9  # another class there
    boxes, scores = decode("fastestdet", raw)
    row = 1 * 4 + 2
    assert boxes[row] == pytest.approx([40 - 16, 16 - 8, 40 + 16, 16 + 8])
    assert scores[row] == pytest.approx(0.5**0.6 * 0.8**0.4)
    assert scores[0] == 0
    assert decode("fastestdet", raw, person=1)[1][0] == pytest.approx(0.5**0.6 * 0.9**0.4)


def test_yolov5_multiplies_objectness_and_class():
    rows = np.zeros((1, 9, 7))
    rows[0, 3] = [20, 10, 8, 4, 0.5, 0.1, 0.6]
    boxes, scores = decode("yolov5", rows, person=1)
    assert boxes[3].tolist() == [16, 8, 24, 12]
    assert scores[3] == pytest.approx(0.3)


def test_yolov8_has_its_boxes_in_the_last_axis():
    columns = np.zeros((1, 6, 9))
    columns[0, :, 3] = [20, 10, 8, 4, 0.1, 0.6]
    boxes, scores = decode("yolov8", columns, person=1)
    assert boxes[3].tolist() == [16, 8, 24, 12]
    assert scores[3] == pytest.approx(0.6)


def test_yolox_puts_offsets_on_the_cells_of_three_strides():
    rows = np.zeros((1, 8 * 4 + 4 * 2 + 2 * 1, 6))
    rows[0, 1 * 8 + 2] = [0.5, 0.25, 0, np.log(2), 0.5, 0.5]  # stride 8, cell (2, 1)
    rows[0, -1] = [0, 0, 0, 0, 1, 1]  # stride 32, cell (1, 0)
    boxes, scores = decode("yolox", rows)
    assert boxes[10] == pytest.approx([20 - 4, 10 - 8, 20 + 4, 10 + 8])
    assert boxes[-1].tolist() == [16, -16, 48, 16]
    assert scores[[10, -1]] == pytest.approx([0.25, 1])


def test_end2end_has_the_class_in_the_row():
    rows = [[[1, 2, 3, 4, 0.9, 0], [1, 2, 3, 4, 0.8, 2]]]
    boxes, scores = decode("end2end", rows, person=2)
    assert boxes[1].tolist() == [1, 2, 3, 4]
    assert scores.tolist() == pytest.approx([0, 0.8])


def test_boxes_scores_are_two_outputs():
    boxes, scores = decode("boxes_scores", [[[1, 2, 3, 4]]], [[[0.1, 0.7]]], person=1)
    assert boxes.tolist() == [[1, 2, 3, 4]]
    assert scores.tolist() == pytest.approx([0.7])


@pytest.mark.parametrize("reverse", [False, True], ids=["boxes first", "logits first"])
def test_detr_has_shares_of_the_input_and_logits(reverse):
    outputs = [[[[0.5, 0.5, 0.25, 0.5]]], [[[-50.0, np.log(3.0)]]]]
    boxes, scores = decode("detr", *(outputs[::-1] if reverse else outputs), person=1)
    assert boxes.tolist() == [[24, 8, 40, 24]]
    assert scores.tolist() == pytest.approx([0.75])


def test_four_classes_of_detr_come_after_the_boxes():
    boxes, scores = decode("detr", [[[0.5, 0.5, 0.25, 0.5]]], [[[0.0, 9, 9, 9]]])
    assert boxes.tolist() == [[24, 8, 40, 24]]
    assert scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("name", "shapes", "person", "message"),
    [
        ("fastestdet", [(1, 84, 8400)], 0, r"takes \(1, 5 \+ C, rows, columns\)"),
        ("fastestdet", [(2, 85, 22, 22)], 0, "layout fastestdet takes"),
        ("yolov5", [(1, 84, 8400)], 0, r"got output \(1, 84, 8400\), layout yolov5 takes"),
        ("yolov8", [(1, 8400, 85)], 0, "layout yolov8 takes"),
        ("yolov8", [(1, 84, 8400), (1, 2)], 0, "layout yolov8 takes"),
        ("yolox", [(1, 41, 85)], 0, "layout yolox takes"),
        ("end2end", [(1, 300, 7)], 0, "layout end2end takes"),
        ("boxes_scores", [(1, 10, 4), (1, 9, 2)], 0, "layout boxes_scores takes"),
        ("boxes_scores", [(1, 10, 4), (1, 10)], 0, "layout boxes_scores takes"),
        ("detr", [(1, 300, 4)], 0, "layout detr takes .* in any order"),
        ("detr", [(1, 300, 80), (1, 299, 4)], 0, "layout detr takes"),
        ("detr", [(1, 300, 80), (1, 300, 4)], 80, "person: got 80, the output has classes 0 to 79"),
        ("yolov8", [(1, 6, 100)], 2, "person: got 2, the output has classes 0 to 1"),
    ],
)
def test_another_shape_is_refused(name, shapes, person, message):
    with pytest.raises(ValueError, match=message):
        LAYOUTS[name].check(name, [np.zeros(shape) for shape in shapes], SIZE, person)
