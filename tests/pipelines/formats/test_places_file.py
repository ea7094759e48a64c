import pytest
import yaml

from jde_ray.pipelines.formats.places_file import parse_places, read_places

DOOR = "{name: door, line: [[0.1, 0.5], [0.9, 0.5]], to_right: in, to_left: out}"
QUEUE = "{name: queue, camera: hall-*, zone: [[0, 0], [1, 0], [1, 1]]}"
GROUND = (
    "{camera: [hall-1, yard], ground: "
    "{image: [[0, 0], [1, 0], [1, 1], [0, 1]], metres: [[0, 0], [9, 0], [9, 5], [0, 5]]}}"
)


def parse(*places, units="shares"):
    return parse_places(yaml.safe_load(f"units: {units}\nplaces: [{', '.join(places)}]"))


def test_each_camera_has_its_own_places_in_pixels():
    file = parse(DOOR, QUEUE, GROUND)
    hall, yard = file.of_camera("hall-1", (200, 100)), file.of_camera("yard", (640, 480))
    assert hall.names == ["door", "queue"]
    assert hall.places.lines[0].points == ((20, 50), (180, 50))
    assert hall.places.zones[0].points == ((0, 0), (200, 0), (200, 100))
    assert hall.directions[0] == ("in", "out", "enter", "leave", "walk")
    assert hall.directions[1][:2] == ("to_right", "to_left")
    assert (yard.names, yard.places.ground is not None) == (["door"], True)
    assert file.of_camera("hall-2", (200, 100)).places.ground is None
    file.check_cameras({"hall-1", "yard"})


def test_a_camera_is_found_by_its_name_also_if_that_looks_like_a_pattern():
    file = parse("{name: door, camera: 'gate[2]', line: [[0, 0], [1, 1]]}")
    file.check_cameras({"gate[2]", "yard"})
    assert file.of_camera("gate[2]", (200, 100)).names == ["door"]
    assert file.of_camera("gate2", (200, 100)).names == ["door"]
    assert file.of_camera("yard", (200, 100)).names == []


def test_forgotten_shares_are_not_taken_for_pixels():
    """All of a picture would lie beyond such a line, and its counts be zero without a word."""
    with pytest.raises(ValueError, match="add `units: shares`, or `units: pixels`"):
        parse_places(yaml.safe_load(f"places: [{DOOR}, {QUEUE}]"))
    assert parse(DOOR, units="pixels").units == "pixels"
    large = "{name: a, line: [[0, 0], [1, 2]]}"
    assert parse_places(yaml.safe_load(f"places: [{DOOR}, {large}]")).units == "pixels"


def test_pixels_need_no_size_but_must_lie_in_a_known_picture():
    file = parse("{name: gate, line: [[5, 5], [300, 5]]}", units="pixels")
    assert file.of_camera("a", None).places.lines[0].end == (300, 5)
    with pytest.raises(ValueError, match=r"gate: \(300, 5\) is outside .* \(camera a\)"):
        file.of_camera("a", (299, 200))
    with pytest.raises(ValueError, match="size of the picture is unknown; give places in pixels"):
        parse(DOOR).of_camera("a", None)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["{name: a, line: [[0, 0]]}"], "a: line: got 1 point, expected 2"),
        (["{name: a, line: [[0, 0], [0, 0]]}"], "a: both ends are"),
        (["{name: a, line: [[0, 0], [1, x]]}"], r"a: got \[1, 'x'\], expected a point \[x, y\]"),
        (["{name: a, line: [[0, 0], [1, true]]}"], "expected a point"),
        (["{name: a, line: [[0, 0], [1, .nan]]}"], "expected a point"),
        (["{name: a, line: 5}"], "a: got 5, expected a list of points"),
        (["{name: a, zone: [[0, 0], [2, 0], [1, 1]]}"], r"a: \(2, 0\) is outside the picture"),
        (["{name: a, zone: [[0, 0], [1, 1], [1, 0], [0, 1]]}"], "a: its outline crosses"),
        (["{name: a, zone: [[0, 0], [1, 1], [1, 0]], to_right: x}"], "a: got 'to_right', expected"),
        (["{name: a, lines: [[0, 0], [1, 1]]}"], "place 1: got 'lines', .*; did you mean line"),
        (["{name: a, camera: b}"], "place 1: got neither, expected one of line"),
        (["{line: [[0, 0], [1, 1]]}"], "place 1: name: got '', expected a text"),
        (["{name: ground, line: [[0, 0], [1, 1]]}"], "ground is the name of the ground"),
        (["{name: 7, line: [[0, 0], [1, 1]]}"], "place 1: name: got 7, expected a text"),
        (['{name: "a\\nb", line: [[0, 0], [1, 1]]}'], "expected a text"),
        (["{name: a, line: [[0, 0], [1, 1]], margin: x}"], "a: margin: got 'x'"),
        (["{name: a, line: [[0, 0], [1, 1]], margin: -1}"], "a: margin: got -1, expected 0 to 10"),
        (["{name: a, line: [[0, 0], [1, 1]], to_right: to_left}"], "both directions are called"),
        (["{name: a, camera: [], line: [[0, 0], [1, 1]]}"], "a: camera: got"),
        (["{name: a, camera: 5, line: [[0, 0], [1, 1]]}"], "a: camera: got 5"),
        (["{name: a, ground: {image: []}}"], "place 1: got 'name', expected camera, ground"),
        (["{ground: {image: []}}"], "ground: image: got 0 points, expected 4"),
        (["{ground: {picture: []}}"], "got 'picture', expected image, metres"),
        (["5"], "place 1: got 5, expected keys"),
        ([DOOR, DOOR], r"door: two places of camera \* have this name"),
        ([], "places: got an empty list"),
    ],
)
def test_a_place_that_cannot_be_is_one_line(places, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(*places)
    assert "\n" not in str(caught.value)


def test_two_places_of_one_camera_by_different_patterns_may_not_share_a_name():
    file = parse(DOOR, DOOR.replace("name: door", "name: door, camera: hall-1"))
    with pytest.raises(ValueError, match=r"door: two places have this name \(camera hall-1\)"):
        file.of_camera("hall-1", (10, 10))
    assert file.of_camera("yard", (10, 10)).names == ["door"]


def test_unknown_cameras_and_keys_are_named_with_what_was_meant():
    file = parse(QUEUE.replace("hall-*", "hal"))
    with pytest.raises(ValueError, match="no video is of camera 'hal', there are hall, yard; did"):
        file.check_cameras({"yard", "hall"})
    with pytest.raises(ValueError, match="got 'unit', expected units, places; did you mean units"):
        parse_places({"unit": "pixels", "places": []})
    with pytest.raises(ValueError, match="units: got 'feet', expected pixels or shares"):
        parse(DOOR, units="feet")
    for values in (None, [], {"places": {}}, {}):
        with pytest.raises(ValueError, match="expected a list `places`"):
            parse_places(values)


def test_places_smaller_than_a_pixel_are_told_in_one_line(tmp_path, caplog):
    path = tmp_path / "places.yaml"
    path.write_text(f"units: pixels\nplaces: [{DOOR}, {QUEUE}]")
    read_places(path)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{path}: door, queue are smaller than a pixel; did you mean `units: shares`?"
    )
    caplog.clear()
    path.write_text(f"places: [{GROUND}, {{name: a, line: [[0, 0], [1.5, 0]]}}]")
    read_places(path)
    assert "ground is smaller than a pixel" in caplog.text
    caplog.clear()
    path.write_text(f"units: shares\nplaces: [{DOOR}, {QUEUE}, {GROUND}]")
    read_places(path)
    assert caplog.records == []


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "places.yaml").write_text("places: [")
    with pytest.raises(ValueError, match=r"places\.yaml cannot be read"):
        read_places(tmp_path / "places.yaml")
    (tmp_path / "places.yaml").write_text(f"places: [{DOOR}]\nplaces: [{QUEUE}]\n")
    with pytest.raises(ValueError, match=r"places: got it twice, .*places\.yaml:2\)"):
        read_places(tmp_path / "places.yaml")
    (tmp_path / "places.yaml").write_text("places: []")
    with pytest.raises(ValueError, match=r"places\.yaml: places: got an empty list"):
        read_places(tmp_path / "places.yaml")
