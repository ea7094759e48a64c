"""What the sources on a command line stand for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made_videos import write_images, write_video

from jde_ray.pipelines import names as names_module
from jde_ray.pipelines.errors import ExitCode, Reason, RunError
from jde_ray.pipelines.output.layout import tracks_key
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.storage.stores import open_store


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """cam1/a.mp4, cam2/a.mp4, cam2/b.AVI, a MOT sequence, and things to pass over."""
    for name in ("cam1/a.mp4", "cam2/a.mp4", "cam2/b.AVI", "cam2/notes.txt", ".trash/x.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not opened while planning")
    (tmp_path / "cam1/._a.mp4").write_bytes(b"")
    write_images(tmp_path / "MOT16-11", 2, rate=30)
    return tmp_path


def names(sources: list[Path | str], base: Path) -> list[str]:
    videos, failures = find_videos([str(s) for s in sources])
    assert not failures
    return [os.path.relpath(v.uri, base) for v in videos]


def test_a_folder_is_searched_and_sorted(archive):
    expected = ["MOT16-11", "cam1/a.mp4", "cam2/a.mp4", "cam2/b.AVI"]
    assert names([archive], archive) == expected
    videos, _ = find_videos([str(archive)])
    assert [v.name for v in videos] == ["MOT16-11", "a", "a", "b"]
    assert len({v.video_id for v in videos}) == 4
    assert videos[0].is_image_folder
    assert videos[0].frames_per_second == 30
    assert videos[1].frames_per_second is None


def test_the_same_video_named_twice_is_one(archive, monkeypatch):
    monkeypatch.chdir(archive / "cam1")
    link = archive / "link"
    link.symlink_to(archive / "cam1")
    sources = ["a.mp4", "../cam1/./a.mp4", archive / "cam1", archive / "cam1/*.mp4", link / "a.mp4"]
    assert names(sources, archive) == ["cam1/a.mp4"]


def test_a_sequence_goes_by_its_folder_or_its_images(archive):
    assert names([archive / "MOT16-11"], archive) == ["MOT16-11"]
    assert names([archive / "MOT16-11/img1"], archive) == ["MOT16-11"]
    assert names([archive / "*"], archive)[0] == "MOT16-11"


def test_a_sequence_without_a_usable_rate_has_none(archive):
    (archive / "MOT16-11/seqinfo.ini").write_text("[Sequence]\nframeRate=fast\n")
    assert find_videos([str(archive / "MOT16-11")])[0][0].frames_per_second is None


def test_images_are_a_video_only_where_nothing_else_is(archive):
    plain = write_images(archive / "plain", 3)
    (video,), _ = find_videos([str(plain)])
    assert (video.name, video.is_image_folder) == ("plain", True)
    (single,), _ = find_videos([str(plain / "000001.png")])
    assert single.is_image_folder
    (plain / "clip.mp4").write_bytes(b"x")
    assert names([plain], plain) == ["clip.mp4"]


def test_globs_take_videos_and_search_folders(archive):
    assert names([archive / "cam2/*"], archive) == ["cam2/a.mp4", "cam2/b.AVI"]
    assert names([archive / "**/*.mp4"], archive) == ["cam1/a.mp4", "cam2/a.mp4"]
    odd = archive / "what[1].mp4"
    odd.write_bytes(b"x")
    assert names([odd], archive) == ["what[1].mp4"]


def test_lists(archive, monkeypatch):
    monkeypatch.chdir(archive)
    (archive / "list.txt").write_text("# two cameras\n\ncam1/a.mp4\n  cam2/b.AVI  \n")
    assert names(["@list.txt"], archive) == ["cam1/a.mp4", "cam2/b.AVI"]
    (archive / "list.csv").write_text("camera,source\n1,cam1/a.mp4\n2,cam2\n")
    expected = ["cam1/a.mp4", "cam2/a.mp4", "cam2/b.AVI"]
    assert names(["list.csv"], archive) == expected
    monkeypatch.chdir(archive.parent)  # entries beside the list are found from elsewhere too
    assert names([archive / "list.csv"], archive) == expected
    assert names([f"@{archive / 'list.txt'}"], archive) == expected[:1] + expected[2:]


def test_a_list_that_names_itself_ends(archive, monkeypatch):
    monkeypatch.chdir(archive)
    (archive / "list.txt").write_text("@list.txt\ncam1/a.mp4\n")
    videos, failures = find_videos(["@list.txt"])
    assert [v.name for v in videos] == ["a"]
    assert [e.reason for _, e in failures] == [Reason.UNSUPPORTED_FORMAT]


def test_one_missing_source_among_several_is_its_own_error(archive):
    empty = archive / "empty"
    empty.mkdir()
    missing = [archive / "no.mp4", empty, archive / "*.webm", f"@{archive / 'no.txt'}"]
    videos, failures = find_videos([str(s) for s in [archive / "cam1/a.mp4", *missing]])
    assert [v.name for v in videos] == ["a"]
    assert {error.reason for _, error in failures} == {Reason.NOT_FOUND}
    assert len(failures) == 4
    assert all(video.video_id for video, _ in failures)


@pytest.mark.parametrize("source", ["no.mp4", "*.webm", "@no.txt", "no.csv"])
def test_no_video_at_all_ends_the_run_in_one_line(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError) as caught:
        find_videos([source])
    assert caught.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(caught.value)
    assert source.lstrip("@") in str(caught.value)


def test_live_video_is_named_where_it_belongs():
    with pytest.raises(RunError, match="no video found: 0 does not exist; jde serve and "):
        find_videos(["0"])
    with pytest.raises(RunError, match=r"got rtsp://door/1, expected .*\(live video: jde serve"):
        find_videos(["rtsp://door/1"])


def test_no_source_at_all(tmp_path):
    with pytest.raises(RunError, match="no source given"):
        find_videos([])
    with pytest.raises(RunError, match="no video in folder"):
        find_videos([str(tmp_path)])


@pytest.mark.parametrize("source", ["https://host/a.mp4", "rtsp://cam/1"])
def test_remote_sources_are_refused(source):
    with pytest.raises(RunError, match="expected local files") as caught:
        find_videos([source])
    assert caught.value.exit_code == ExitCode.REFUSED


def test_a_csv_needs_its_column(archive):
    (archive / "list.csv").write_text("path\ncam1/a.mp4\n")
    with pytest.raises(RunError, match="column `source`"):
        find_videos([str(archive / "list.csv")])


def test_names_that_are_no_text_are_errors(archive):
    bad = os.fsencode(archive) + b"/cam1/\xff.mp4"
    with open(bad, "wb"):
        pass
    videos, failures = find_videos([str(archive / "cam1")])
    assert [v.name for v in videos] == ["a"]
    assert [e.reason for _, e in failures] == [Reason.BAD_KEY]
    assert failures[0][0].video_id


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_one_source_needs_no_list(archive, kind):
    """A text was taken for a list of its characters, thus `/` for a folder to search."""
    video = kind(str(archive / "cam1/a.mp4"))
    found = find_videos(video)
    assert [v.name for v in found.videos] == ["a"]
    assert find_videos([video]) == found
    assert find_videos(source for source in (video, Path(archive) / "cam2")).videos[1:]
    assert find_videos(found) is found


def test_two_videos_of_one_id_are_refused(archive, monkeypatch):
    monkeypatch.setattr(names_module, "HASH_DIGITS", 0)
    with pytest.raises(RunError, match="have one id, a-; rename one") as caught:
        find_videos(archive)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert all(str(archive / f"cam{number}/a.mp4") in str(caught.value) for number in (1, 2))
    assert len(find_videos([archive / "cam2", archive / "cam2/a.mp4"]).videos) == 2
    with pytest.raises(RunError, match="have one id"):
        find_videos([archive / "cam1/a.mp4", archive / "no/a.mp4"])


def test_long_names_and_those_of_all_scripts_give_files_of_their_own(tmp_path):
    stems = ["x" * 249, "x" * 248, "駅" * 80, "駅" * 83, "Straße Köln", "Strasse Köln"]
    for stem in stems:
        (tmp_path / f"{stem}.mp4").write_bytes(b"x")
    ids = [video.video_id for video in find_videos(tmp_path).videos]
    assert len(set(ids)) == len(stems)
    store = open_store(tmp_path / "out")
    for video_id in ids:
        assert store.put_if_absent(tracks_key(video_id), b"rows")
    assert set(store.list("tracks/")) == {tracks_key(video_id) for video_id in ids}


def make_run(out: Path, *stems: str) -> None:
    for stem in stems:
        of_video = (f"tracks/{stem}.parquet", f"videos/{stem}.mp4", f"crops/index/{stem}.parquet")
        for key in (*of_video, f"crops/{stem}/00000001/00000000.jpg"):
            (out / key).parent.mkdir(parents=True, exist_ok=True)
            (out / key).write_bytes(b"x")
    (out / "run.json").write_text("{}")


def test_what_a_run_drew_below_its_source_is_no_source(archive, caplog):
    expected = names([archive], archive)
    make_run(archive / "runs/1", "a-0123456789abcdef")
    make_run(archive, "b-0123abcd")  # OUT is the folder of the videos
    for own in ("videos/own.mp4", "crops/own/own.mp4"):  # whose folder of that name is older
        (archive / own).parent.mkdir(parents=True, exist_ok=True)
        (archive / own).write_bytes(b"x")
    expected = sorted([*expected, "videos/own.mp4", "crops/own/own.mp4"])
    caplog.clear()
    assert names([archive], archive) == expected
    assert caplog.messages == ["passed over: 2 drawn videos of a run"]
    assert names([archive / "**/*.mp4", archive / "**"], archive) == expected
    drawn = "runs/1/videos/a-0123456789abcdef.mp4"
    for named in (drawn, "runs/1/videos", "runs/1/videos/*.mp4"):
        assert names([archive / named], archive) == [drawn]


def test_what_is_passed_over_is_told_in_a_line(archive, caplog):
    plain = write_images(archive / "plain", 3)
    (plain / "clip.gif").write_bytes(b"x")
    (archive / "cam1/thumbnail.jpg").write_bytes(b"x")
    (archive / "link").symlink_to(archive / "cam1")
    assert "plain" not in names([archive, archive / "*"], archive)
    assert caplog.messages == [
        "passed over: 3 pictures, 1 .gif file, 1 link to a folder (a folder of pictures is a video"
        " if you name it; the folder behind a link is searched if you name it)"
    ]
    caplog.clear()
    assert names([archive / "cam1", archive / "MOT16-11"], archive) == ["MOT16-11", "cam1/a.mp4"]
    assert not caplog.messages


def test_a_text_is_no_video_but_may_be_a_list(archive, monkeypatch):
    monkeypatch.chdir(archive)
    Path("list.txt").write_text("cam1/a.mp4\n")
    with pytest.raises(RunError, match=r"list.txt is a text, no video; .* is named @list.txt"):
        find_videos("list.txt")
    write_video(archive / "made.mp4", 2).rename("recording")  # no suffix
    assert [v.name for v in find_videos("recording").videos] == ["recording"]
    content = Path("recording").read_bytes()
    Path("cut.dat").write_bytes(content[: len(content) // 2])  # the run says what is wrong with it
    assert [v.name for v in find_videos("cut.dat").videos] == ["cut"]


@pytest.mark.parametrize(
    ("name", "content", "detail"),
    [
        ("letter.docx", b"PK\x03\x04" + bytes(500), "no video file; expected mp4, mov, mkv"),
        ("model.onnx", bytes(range(256)) * 9, "no video file; expected mp4, mov, mkv"),
        ("nothing.bin", b"", "the file has 0 bytes"),
    ],
)
def test_what_is_no_video_is_refused_when_it_is_named(archive, monkeypatch, name, content, detail):
    """Ray was started first, which takes half a minute."""
    monkeypatch.chdir(archive)
    Path(name).write_bytes(content)
    with pytest.raises(RunError, match=f"no video found: {name}: {detail}") as caught:
        find_videos(name)
    assert caught.value.exit_code == ExitCode.REFUSED
    found = find_videos([name, "cam1"])
    assert len(found.videos) == len(found.failures) == 1


def test_a_pipe_is_not_waited_for(archive, monkeypatch):
    monkeypatch.chdir(archive)
    os.mkfifo("pipe")
    assert len(find_videos("pipe").videos) == 1


def test_no_name_is_no_folder(archive, monkeypatch):
    """`jde track "$UNSET"` tracked everything in the working directory."""
    monkeypatch.chdir(archive)
    for source, detail in (("", "got '', expected a name"), ("@", "expected a name behind the @")):
        with pytest.raises(RunError, match=detail):
            find_videos(source)


def change_a_picture(folder):
    (folder / "img1/000001.png").write_bytes(b"another")


def swap_pictures(folder):
    (folder / "img1/000001.png").rename(folder / "img1/x.png")


def make_newer(folder):
    os.utime(folder / "img1/000002.png", ns=(0, 1))


def change_the_rate(folder):
    (folder / "seqinfo.ini").write_text("[Sequence]\nframeRate=15\n")


@pytest.mark.parametrize("change", [change_a_picture, swap_pictures, make_newer, change_the_rate])
def test_pictures_have_a_version_that_changes_with_them(archive, change):
    folder = archive / "MOT16-11"
    (before,) = find_videos(folder).videos
    assert before.version
    assert find_videos(folder / "img1").videos[0].version == before.version
    change(folder)
    (after,) = find_videos(folder).videos
    assert after.uri == before.uri
    assert after.version != before.version
