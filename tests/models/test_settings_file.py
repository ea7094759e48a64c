import pytest

from jde_ray.models.settings_file import read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"a: got it twice, expected once \(.*x\.yaml:3\)"),
        ("a:\n  - {b: 1, c: 2}\n  - {b: 1, b: 2}\n", r"b: got it twice, .*x\.yaml:3\)"),
        ("a: [", r"x\.yaml cannot be read"),
        (None, r"x\.yaml cannot be read \(No such file or directory\)"),
    ],
)
def test_a_fault_of_a_file_is_one_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", None),
        ("a: {x: 1}\nb: {x: 1}\n", {"a": {"x": 1}, "b": {"x": 1}}),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
        ("a: &one {x: 1}\nb: *one\nc: {<<: *one, x: 2}\n",
         {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 2}}),
    ],
)  # fmt: skip
def test_equal_keys_of_different_mappings_are_no_twins(tmp_path, text, values):
    (tmp_path / "x.yaml").write_text(text)
    assert read_yaml(tmp_path / "x.yaml") == values


def test_a_value_that_holds_itself_is_read(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a [1, *a]\n")
    assert read_yaml(tmp_path / "x.yaml")["a"][0] == 1
