import pytest

from jde_ray.pipelines.formats.sequence_info import (
    SequenceInfo,
    format_sequence_info,
    read_sequence_info,
    sequence_rate,
)


def test_sequence_info(tmp_path):
    path = tmp_path / "seqinfo.ini"
    path.write_text(
        "[Sequence]\nname=A\nimDir=img1\nframeRate=25\nseqLength=7\nimWidth=64\nimHeight=48\n"
    )
    info = read_sequence_info(path)
    assert (info.name, info.frames_per_second, info.num_frames) == ("A", 25.0, 7)
    assert (info.width, info.height, info.image_suffix) == (64, 48, ".jpg")
    path.write_text(format_sequence_info(info), encoding="utf-8-sig")
    assert read_sequence_info(path) == info
    assert sequence_rate(tmp_path) == 25
    path.write_text("[Sequence]\nname=A\n")
    with pytest.raises(ValueError, match=r"seqinfo.ini: not a readable seqinfo.ini: 'frameRate'"):
        read_sequence_info(path)


@pytest.mark.parametrize(("name", "value"), [("frameRate", "0"), ("seqLength", "1000000000000")])
def test_a_sequence_of_no_rate_or_no_possible_length_is_refused(tmp_path, name, value):
    path = tmp_path / "seqinfo.ini"
    text = format_sequence_info(SequenceInfo("A", 25.0, 7, 64, 48, "img1", ".jpg"))
    known = {"frameRate": "25", "seqLength": "7"}[name]
    path.write_text(text.replace(f"{name}={known}", f"{name}={value}"))
    with pytest.raises(ValueError, match=rf"seqinfo.ini: not a readable .*got .*{name}"):
        read_sequence_info(path)
