import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_videos import write_video

from jde_ray.pipelines.formats.label_files import BadDataError, LabelErrors, label_path
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.training.data.labelled_image import read_image
from jde_ray.pipelines.training.data.sources import read_source, render_scenes
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.video.chunks import read_frames


def write_image(path, size=(80, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cv2.imwrite(str(path), rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture
def sequence(tmp_path):
    folder = tmp_path / "SEQ-01"
    for number in range(1, 5):
        write_image(folder / "img1" / f"{number:06d}.jpg", (200, 100))
    rows = [
        "1,7,11,21,30,60,1,1,1.0",  # a pedestrian
        "1,8,50,21,30,60,1,1,0.1",  # nearly hidden
        "1,9,90,21,30,60,0,8,1.0",  # a distractor
        "1,3,120,21,30,60,1,3,1.0",  # a car: not ours
        "3,7,13,21,30,60,1,1,1.0",
    ]
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
    return folder


def test_a_sequence_is_read_with_the_benchmarks_rules(sequence):
    source = Source(kind="sequence", path=sequence.name, every=2)
    first, second = read_source(sequence.parent, source, 0, 100)
    assert first.image.shape == (50, 100, 3)
    np.testing.assert_allclose(first.tlbr[0], [5, 10, 20, 40])  # 1-based px, halved
    assert first.ignore.tolist() == [False, True, True]
    assert second.identity.tolist() == [7]


def test_boxes_of_a_csv_and_images_without_rows(tmp_path):
    folder = tmp_path / "park"
    write_image(folder / "images" / "a.jpg")
    write_image(folder / "images" / "b.jpg")
    (folder / "park.csv").write_text("image,x1,y1,x2,y2,id\na.jpg,1,2,30,50,-1\na.jpg,5,5,9,40,4\n")
    a, b = read_source(tmp_path, Source(kind="boxes", path="park", squashed=True), 2, 500)
    assert a.tlbr.tolist() == [[1, 2, 30, 50], [5, 5, 9, 40]]
    assert a.identity.tolist() == [-1, 4]
    assert a.squashed
    assert len(b.tlbr) == 0


def test_a_source_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="source kind: got 'nonsense', expected sequence"):
        Source(kind="nonsense", path="park")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video": "yes"}, "source a: got video 'yes', expected true | false"),
        ({"kind": "boxes", "video": True}, "got video of kind boxes, expected sequence | syn"),
        ({"largest_gap": 0}, "source a: got largest_gap 0, expected 1 or more"),
        ({"identities": "many"}, "source a: got identities 'many', expected 0 or more"),
    ],
)
def test_settings_of_a_source_are_checked(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Source(**{"kind": "list", "path": "a", **changes})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"0 3 0.5 0.5 0.25 0.5\xff",
            r"000001.txt: encoding: got byte 0xff at 20, expected text",
        ),
        (b"\x00\x01\x02", r"000001.txt:1: row: got 1 fields"),
        (b"0 1e300 0.5 0.5 0.25 0.5", r"000001.txt:1: identity: got 1e\+300"),
        (b"0 3 " + b"9" * 10**5, r"000001.txt:1: row: got 3 fields '0 3 9{96}\.\.\.', exp"),
    ],
)
def test_label_files_that_are_no_text_are_refused_in_one_short_line(listed, content, message):
    (listed / "CAM" / "labels_with_ids" / "000001.txt").write_bytes(content)
    with pytest.raises(BadDataError, match=message) as caught:
        read_source(listed, Source(kind="list", path="cam.train"), 0, 40)
    assert len(str(caught.value)) < 700


def test_a_byte_order_mark_is_no_part_of_the_first_row(listed):
    label = listed / "CAM" / "labels_with_ids" / "000001.txt"
    label.write_bytes(b"\xef\xbb\xbf0 3 0.5 0.5 0.25 0.5\r\n")
    first, _ = read_source(listed, Source(kind="list", path="cam.train"), 0, 40)
    assert first.identity.tolist() == [3]


NUMBERS = ["0", "1", "-1", "3", "0.5", "-0.2", "20", "1e9", "1e300", "nan", "inf", "-inf"]
CELLS = st.one_of(
    st.sampled_from([*NUMBERS, "", " ", "a.jpg"]), st.floats().map(str), st.text(max_size=4)
)
ROWS = st.one_of(
    st.lists(CELLS, max_size=11),
    *(st.lists(st.sampled_from(NUMBERS), min_size=n, max_size=n) for n in (6, 9)),
    st.lists(st.sampled_from(NUMBERS), min_size=5, max_size=5).map(lambda row: ["a.jpg", *row]),
    st.lists(st.sampled_from(NUMBERS[:7]), min_size=5, max_size=5).map(
        lambda row: ["1", *row, "1", "1", "1"]
    ),
)


def check_any_labels(folders, kind, rows, junk, place):
    path, source, separator = folders[kind]
    header = b"image,x1,y1,x2,y2,id\n" if kind == "boxes" else b""
    text = "\n".join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass")
    path.write_bytes(header + {"": text, "before": junk + text, "behind": text + junk}[place])
    problems = LabelErrors()
    try:
        images = read_source(folders["root"], source, 0, 64, problems)
    except ValueError as error:
        images = []
        problems.found.append(str(error))
    found = [text.replace(str(folders["root"]), "") for text in problems.found]
    assert all("\n" not in text and len(text) < 700 for text in found)
    for image in images:
        opened = image.open()
        assert opened.tlbr.shape == (len(opened.identity), 4)
        assert np.isfinite(opened.tlbr).all()
        assert (opened.tlbr[:, 2:] > opened.tlbr[:, :2]).all()
        assert ((opened.identity >= -1) & (opened.identity < 2**31)).all()


ANY_LABELS = {
    "kind": st.sampled_from(["list", "boxes", "sequence", "names"]),
    "rows": st.lists(ROWS, max_size=4),
    "junk": st.binary(max_size=6),
    "place": st.sampled_from(["", "before", "behind"]),
}
AGAIN = [HealthCheck.function_scoped_fixture]  # `folders` is read again and again


@settings(max_examples=40, deadline=None, suppress_health_check=AGAIN)
@given(**ANY_LABELS)
def test_whatever_stands_in_a_label_file_gives_labels_or_one_line(folders, **labels):
    check_any_labels(folders, **labels)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=AGAIN)
@given(**ANY_LABELS)
def test_whatever_stands_in_many_label_files_gives_labels_or_one_line(folders, **labels):
    check_any_labels(folders, **labels)


def test_a_source_in_which_nothing_is_found_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no image found in .*nothing.mp4"):
        read_source(tmp_path, Source(kind="frames", path="nothing.mp4"), 0, 500)


def test_an_unlabelled_video_is_decoded_as_for_tracking(tmp_path):
    path = write_video(tmp_path / "night.mp4", 7, size=(96, 64))
    frames = read_source(tmp_path, Source(kind="frames", path="night.mp4", every=3), 1, 48)
    assert [image.origin for image in frames] == [f"{path} frame {n}" for n in (0, 3, 6)]
    assert {image.image.shape for image in frames} == {(32, 48, 3)}
    exact = list(read_frames(Video(str(path), "night")))[3][2]
    full = read_source(tmp_path, Source(kind="frames", path="night.mp4", every=3), 1, 500)[1]
    np.testing.assert_array_equal(full.image, exact)


def test_a_video_outside_the_allow_list_is_refused_and_named(tmp_path):
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nother.ts\n")
    with pytest.raises(BadDataError, match=r"list.mp4: unreadable video: unsupported_format"):
        read_source(tmp_path, Source(kind="frames", path="list.mp4"), 0, 500)


def test_an_image_that_tracking_refuses_is_refused_here(tmp_path):
    write_image(tmp_path / "a.jpg", (200, 100))
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"a.jpg is refused \(a.jpg ends too early\)"):
        read_image(tmp_path / "a.jpg", 500)


def problems_of(root, source):
    problems = LabelErrors()
    images = read_source(root, source, 0, 500, problems)
    return images, problems


def test_all_images_that_cannot_be_read_are_told_and_left_out(sequence):
    (sequence / "img1" / "000001.jpg").write_bytes(b"no picture")
    whole = (sequence / "img1" / "000003.jpg").read_bytes()
    (sequence / "img1" / "000003.jpg").write_bytes(whole[:-200])
    source = Source(kind="sequence", path=sequence.name)
    with pytest.raises(BadDataError, match=r"000001\.jpg: unreadable image.*; .*000003\.jpg: unr"):
        read_source(sequence.parent, source, 0, 999)
    problems = LabelErrors()
    assert len(read_source(sequence.parent, source, 0, 999, problems)) == 2
    assert problems.counts == {"unreadable image": 2}


def test_wrong_rows_of_a_sequence_are_told_with_their_line_and_left_out(sequence):
    truth = sequence / "gt" / "gt.txt"
    good = truth.read_text()
    truth.write_text(good + "2,5,11,21,30\n2,6,900,21,30,60,1,1,1\n9,7,13,21,30,60,1,1,1.0\nx\n")
    source = Source(kind="sequence", path=sequence.name)
    images, problems = problems_of(sequence.parent, source)
    assert [Path(text.split(": ")[0]).name for text in problems.found] == [
        "gt.txt:6", "gt.txt:9", "gt.txt:8", "gt.txt:7",
    ]  # fmt: skip
    assert "got 5 columns" in problems.found[0]
    assert "frame 9 has no img1/000009.jpg" in problems.found[2]
    assert "box outside the image" in problems.found[3]
    assert problems.summary() == "2 x row, 1 x missing image, 1 x box outside the image"
    assert [len(image.tlbr) for image in images] == [3, 0, 1, 0]
    with pytest.raises(BadDataError, match=r"gt.txt:6: row: got 5 columns, expected 9 or 10"):
        read_source(sequence.parent, source, 0, 500)


def test_people_who_stand_half_outside_are_no_mistake(sequence):
    truth = sequence / "gt" / "gt.txt"
    truth.write_text(truth.read_text() + "2,6,190,21,30,60,1,1,1\n2,8,500,21,30,60,1,1,0\n")
    images, problems = problems_of(sequence.parent, Source(kind="sequence", path=sequence.name))
    assert not problems.found
    assert len(images[1].tlbr) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,1,2,30,50", r"park.csv:2: row: got 'a.jpg,1,2,30,50', expected image,x1"),
        ("a.jpg,1,2,thirty,50,1", r"park.csv:2: row: got"),
        ("a.jpg,1,2,nan,50,1", r"park.csv:2: row: got"),
        ("a.jpg,90,2,130,50,1", r"park.csv:2: box outside .*90,2,130,50 in an image of 80x60"),
        ("a.jpg,30,2,30,50,1", r"park.csv:2: box outside .*no area"),
        ("gone.jpg,1,2,30,50,1", r"park.csv:2: missing image: there is no images/gone.jpg"),
        ("a.jpg,1,2,30,50,7", r"park.csv:2: identity: got 7, expected below 7"),
        ("a.jpg,1,2,30,50,1.5", r"park.csv:2: identity: got 1.5"),
        ("a.jpg,1,2,30,50,-3", r"park.csv:2: identity: got -3, expected -1 or 0"),
    ],
)
def test_wrong_rows_of_a_table_are_told_with_their_line(tmp_path, row, message):
    folder = tmp_path / "park"
    write_image(folder / "images" / "a.jpg")
    (folder / "park.csv").write_text(f"image,x1,y1,x2,y2,id\n{row}\n")
    source = Source(kind="boxes", path="park", identities=7)
    with pytest.raises(BadDataError, match=message):
        read_source(tmp_path, source, 0, 500)
    images, problems = problems_of(tmp_path, source)
    assert len(problems.found) == 1
    # of a wrong identity the box stays: without it, the person would be background
    assert [len(image.tlbr) for image in images] == [int("identity:" in message)]
    assert all((image.identity == -1).all() for image in images)


def test_a_table_with_another_header_is_refused(tmp_path):
    write_image(tmp_path / "park" / "images" / "a.jpg")
    (tmp_path / "park" / "park.csv").write_text("file,x,y,w,h\n")
    with pytest.raises(BadDataError, match=r"park.csv:1: header: got .*expected image,x1,y1"):
        read_source(tmp_path, Source(kind="boxes", path="park"), 0, 500)


@pytest.fixture
def folders(tmp_path_factory):
    """For each layout its label file, the source and what separates its cells; below one root."""
    root = tmp_path_factory.mktemp("layouts")
    for name in ("CAM/images/1.jpg", "park/images/a.jpg", "SEQ/img1/000001.jpg"):
        write_image(root / name, (32, 24))
    labels = root / "CAM" / "labels_with_ids" / "1.txt"
    for folder in (labels.parent, root / "SEQ" / "gt"):
        folder.mkdir()
    labels.write_text("")
    (root / "one.train").write_text("CAM/images/1.jpg\n")
    return {
        "root": root,
        "list": (labels, Source(kind="list", path="one.train"), " "),
        "names": (root / "any.train", Source(kind="list", path="any.train", video=True), "/"),
        "boxes": (root / "park" / "park.csv", Source(kind="boxes", path="park"), ","),
        "sequence": (root / "SEQ" / "gt" / "gt.txt", Source(kind="sequence", path="SEQ"), ","),
    }


@pytest.fixture
def listed(tmp_path):
    """The unified JDE format below a root whose name holds `images`."""
    root = tmp_path / "images"
    for name, text in (("000001", "0 3 0.5 0.5 0.25 0.5\n0 -1 0.1 0.5 0.3 0.4\n"), ("000002", "")):
        write_image(root / "CAM" / "images" / f"{name}.jpg")
        label = root / "CAM" / "labels_with_ids" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text)
    lines = "CAM/images/000001.jpg\n\nCAM/images/000002.jpg\n"
    (root / "cam.train").write_text(lines)
    return root


def test_a_list_is_read_from_disk_as_it_is_drawn(listed):
    first, second = read_source(listed, Source(kind="list", path="cam.train"), 4, 40)
    assert first.identity.tolist() == [3, -1]
    opened = first.open()
    assert opened.image.shape == (30, 40, 3)
    np.testing.assert_allclose(opened.tlbr[0], [15, 7.5, 25, 22.5])
    np.testing.assert_allclose(opened.tlbr[1], [-2, 9, 10, 21], atol=1e-5)
    assert opened.origin.endswith("images/CAM/images/000001.jpg")
    assert opened.sequence == second.open().sequence
    assert len(second.tlbr) == 0


def test_neighbours_in_a_list_are_a_pair_only_where_it_is_said_to_be_of_videos(listed):
    lines = "CAM/images/000002.jpg\nCAM/images/000001.jpg\n"
    (listed / "cam.train").write_text(lines)
    pictures = read_source(listed, Source(kind="list", path="cam.train"), 4, 40)
    assert [(p.path.stem, p.sequence) for p in pictures] == [("000002", ""), ("000001", "")]
    video = Source(kind="list", path="cam.train", video=True)
    frames = read_source(listed, video, 4, 40)
    assert [p.path.stem for p in frames] == ["000001", "000002"]
    assert frames[0].sequence == frames[1].sequence != ""


def test_frames_too_far_apart_are_no_pair(sequence):
    for number, sequences in ((1, 1), (2, 1), (None, 2)):
        (sequence / "img1" / "000003.jpg").unlink(missing_ok=True)
        truth = sequence / "gt" / "gt.txt"
        truth.write_text(truth.read_text().replace("3,7,13,21,30,60,1,1,1.0\n", ""))
        gap = {} if number is None else {"largest_gap": number + 1}
        source = Source(kind="sequence", path=sequence.name, **gap)
        images = read_source(sequence.parent, source, 0, 100)
        assert len({image.sequence for image in images}) == sequences  # 1, 2, 4


def test_a_person_whose_middle_is_outside_the_picture_is_learned_from(listed):
    """As of the published lists; the archives' own annotations have one of eleven there."""
    rows = "0 3 0.5 1.05 0.2 0.4\n0 4 -0.02 0.5 0.1 0.6\n"
    (listed / "CAM" / "labels_with_ids" / "000001.txt").write_text(rows)
    first, _ = read_source(listed, Source(kind="list", path="cam.train"), 0, 40)
    assert first.identity.tolist() == [3, 4]
    np.testing.assert_allclose(first.tlbr[0], [0.4, 0.85, 0.6, 1.25], atol=1e-6)


def test_only_the_last_folder_called_images_is_replaced():
    expected = Path("/images/A/labels_with_ids/x/1.txt")
    assert label_path(Path("/images/A/images/x/1.png")) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 3 0.5 0.5 0.25", r"000001.txt:1: row: got 5 fields '0 3 0.5 0.5 0.25', expected: c"),
        ("0 3 320 0.5 0.25 0.5", r"000001.txt:1: box outside the image"),
        ("0 3 20 30 50 100", r"000001.txt:1: box .*more than 4 times .*expected shares of the"),
        ("0 3 0.5 0.5 0 0.5", r"000001.txt:1: box outside the image: .*no area"),
        ("0 547 0.5 0.5 0.25 0.5", r"000001.txt:1: identity: got 547, expected below 547"),
    ],
)
def test_wrong_rows_of_labels_are_told_with_their_line(listed, row, message):
    (listed / "CAM" / "labels_with_ids" / "000001.txt").write_text(row + "\n")
    source = Source(kind="list", path="cam.train", identities=547)
    with pytest.raises(BadDataError, match=message):
        read_source(listed, source, 0, 40)
    images, problems = problems_of(listed, source)
    assert len(problems.found) == 1
    assert len(images) == 2


def test_images_and_labels_that_a_list_names_must_be_there(listed):
    (listed / "CAM" / "images" / "000001.jpg").unlink()
    (listed / "CAM" / "labels_with_ids" / "000002.txt").unlink()
    source = Source(kind="list", path="cam.train")
    with pytest.raises(BadDataError, match=r"cam.train:1: missing image: .*cam.train:3: missing l"):
        read_source(listed, source, 0, 40)


def test_many_problems_are_counted_and_the_first_shown(tmp_path):
    problems = LabelErrors()
    for line in range(1, 26):
        problems.add(tmp_path / "gt.txt", line, "row", "got 5 fields")
    with pytest.raises(BadDataError, match=r"gt.txt:10: .*; and 15 more \(--skip-bad"):
        problems.refuse()


def test_rendered_scenes_carry_truth():
    images = render_scenes(1, 3)
    assert len(images) == 4
    assert sum(len(image.tlbr) for image in images) > 10
    assert all(image.group == 3 for image in images)


def test_a_box_around_a_group_is_ignored(tmp_path):
    folder = tmp_path / "park"
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "a.jpg"), np.zeros((60, 80, 3), np.uint8))
    (folder / "park.csv").write_text(
        "image,x1,y1,x2,y2,id\na.jpg,1,2,30,50,-2\na.jpg,40,2,60,50,3\n"
    )
    (image,) = read_source(tmp_path, Source(kind="boxes", path="park"), 0, 800)
    assert image.ignore.tolist() == [True, False]
