"""The page in a real browser: a synthetic clip dropped in, boxes where people are, downloads."""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from serving_service import CONFIG, OTHER_TOKEN, TOKEN, running

from jde_ray.models.structures import FloatArray

WIDTH, HEIGHT, RATE, SECONDS = 640, 360, 10, 3
NAME = "video.test"  # a name of this machine that is not localhost
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        options = ["--no-sandbox", "--use-fake-device-for-media-stream",
                   "--use-fake-ui-for-media-stream",
                   f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]  # fmt: skip
        found = started.chromium.launch(executable_path=path, args=options)
        yield found
        found.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[Path, list[FloatArray]]:
    """A synthetic street as a file that browsers play, and where its people are.

    They are tall enough to be found clearly: it is the page that is tested, not the network.
    """
    from jde_ray.models.synthetic.render import render
    from jde_ray.models.synthetic.scene import StreetScene
    from jde_ray.pipelines.video.encoder import write_video

    scene = StreetScene(
        92, width=WIDTH, height=HEIGHT, frames_per_second=RATE, num_frames=RATE * SECONDS,
        num_people=5,
    )  # fmt: skip
    path, truths = tmp_path_factory.mktemp("clip") / "street.mp4", []

    def frames():
        for index, (image, truth) in enumerate(render(scene)):
            truths.append(truth.tlbr[truth.visibility >= 0.4])
            yield index / RATE, image

    write_video(frames(), path, RATE)
    return path, truths


def wait(is_so: Callable[[], bool], seconds: float = 90.0) -> None:
    """Poll from here: the page's own policy lets nobody evaluate text in it."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def keep_screenshot(page) -> None:
    if os.environ.get("JDE_SCREENSHOT"):
        page.screenshot(path=os.environ["JDE_SCREENSHOT"])


def is_grey(page, selector: str) -> bool:
    """Whether a button is grey; it says why in its title then."""
    # both at once: the page may change between two questions
    is_disabled, title = page.locator(selector).evaluate(
        "button => [button.getAttribute('aria-disabled'), button.getAttribute('title')]"
    )
    assert (is_disabled == "true") == bool(title)
    return bool(is_disabled == "true")


def overlap(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of `(N, 4)` and `(M, 4)`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    return inner / (areas[0][:, None] + areas[1][None] - inner)


@pytest.fixture(scope="module")
def service():
    """The shipped network, in this process."""
    from jde_ray.pipelines.serving.deployments import resolve_settings

    with running(config=resolve_settings({"device": "cpu"}), idle_s=30.0) as it:
        it.wait_until_ready()
        yield it


def test_a_dropped_video_is_tracked_and_its_tracks_can_be_downloaded(
    browser, clip, service, tmp_path
):
    path, truths = clip
    page = browser.new_page(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(service.url)
    page.select_option("#fps", str(RATE))
    page.set_input_files("#file", str(path))
    wait(lambda: int(page.inner_text("#frames")) >= RATE)
    painted = page.evaluate(
        "() => { const c = document.querySelector('#picture'); const p = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; return new Set(p).size }"
    )
    assert painted > 50  # a picture, not a blank
    wait(lambda: is_grey(page, "#stop"))
    assert re.fullmatch(r"Done: street.mp4, \d+ people", page.inner_text("#state"))
    keep_screenshot(page)
    assert not faults
    assert page.inner_text("#message") == ""
    assert float(page.inner_text("#rate")) > 0
    with page.expect_download() as download:
        page.click("#parquet")
    table = pq.read_table(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert download.value.suggested_filename == "street.parquet"
    with page.expect_download() as download:
        page.click("#mot")
    lines = Path(download.value.path()).read_text().splitlines()
    page.close()

    rows = table.to_pylist()
    assert table.schema.names == [
        "video", "frame", "time_s", "track_id", "x1", "y1", "x2", "y2", "score", "class",
    ]  # fmt: skip
    assert len(rows) == len(lines) > 2 * RATE * SECONDS
    first, mot = rows[0], lines[0].split(",")
    assert (int(mot[0]), int(mot[1])) == (first["frame"] + 1, first["track_id"])
    assert float(mot[2]) == pytest.approx(first["x1"] + 1, abs=0.01)
    assert table["video"].unique().to_pylist() == ["street"]
    assert table["class"].unique().to_pylist() == ["person"]
    _check_tracks(rows, truths)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_picture_gets_boxes_where_its_people_are(browser, clip, service, tmp_path, suffix):
    path, truths = clip
    video = cv2.VideoCapture(str(path))
    frame = 20
    for _ in range(frame + 1):
        image = video.read()[1]
    picture = tmp_path / f"corner.of.street.{suffix}"
    cv2.imwrite(str(picture), image)
    page = browser.new_page(accept_downloads=True)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(service.url)
    page.set_input_files("#file", str(picture))
    wait(lambda: page.inner_text("#state").startswith("Done"))
    colours = page.evaluate(
        "() => { const c = document.querySelector('#picture'); const p = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; return [c.width, c.height, new Set(p).size] }"
    )
    assert colours[:2] == [WIDTH, HEIGHT]
    assert colours[2] > 50
    number = int(page.inner_text("#people"))
    assert page.inner_text("#state") == f"Done: {picture.name}, {number} people"
    assert f"{number} people" in page.get_attribute("#picture", "aria-label")
    assert is_grey(page, "#stop")
    with page.expect_download() as download:
        page.click("#parquet")
    table = pq.read_table(io.BytesIO(Path(download.value.path()).read_bytes()))
    with page.expect_download() as download:
        page.click("#mot")
    assert download.value.suggested_filename == "corner.of.street.txt"
    lines = Path(download.value.path()).read_text().splitlines()
    page.close()
    assert not faults
    assert "track_id" not in table.schema.names  # one picture has no tracks
    assert all(line.startswith("1,-1,") for line in lines)
    assert len(table) == len(lines) == number > 1
    boxes = np.array([[row[k] for k in ("x1", "y1", "x2", "y2")] for row in table.to_pylist()])
    assert (overlap(boxes, truths[frame]).max(1) > 0.4).mean() > 0.7


def _check_tracks(rows: list[dict], truths: list[FloatArray]) -> None:
    """Most boxes lie on people, most people have a box, and an id stays on its person."""
    on_people = total = found = present = 0
    for frame, truth in enumerate(truths):
        boxes = np.array(
            [[r[k] for k in ("x1", "y1", "x2", "y2")] for r in rows if r["frame"] == frame]
        ).reshape(-1, 4)
        if len(boxes) and len(truth):
            best = overlap(boxes, truth)
            on_people += int((best.max(1) > 0.4).sum())
            found += int((best.max(0) > 0.4).sum())
        total, present = total + len(boxes), present + len(truth)
    assert on_people > 0.8 * total
    assert found > 0.5 * present
    lengths = np.bincount([row["track_id"] for row in rows])
    assert lengths.max() >= 0.8 * len(truths)  # somebody is followed nearly all the time
    assert (lengths > 0).sum() <= 2.5 * max(map(len, truths))


def test_an_error_is_a_sentence(browser, clip, tmp_path):
    with running(config=CONFIG, tokens=(TOKEN,)) as service:
        page = browser.new_page()
        page.goto(service.url)
        page.set_input_files("#file", str(clip[0]))
        page.wait_for_selector("#message.shown", timeout=90_000)
        assert "asks for a token" in page.inner_text("#message")
        page.fill("#token", OTHER_TOKEN)
        page.set_input_files("#file", str(clip[0]))
        wait(lambda: "not accept" in page.inner_text("#message"))
        page.fill("#token", TOKEN)
        page.press("#token", "Enter")  # the file was chosen already
        wait(lambda: int(page.inner_text("#frames")) >= 5)
        text = tmp_path / "text.mp4"
        text.write_text("no video")
        page.set_input_files("#tools .file", str(text))  # under the picture, while it is shown
        wait(lambda: "cannot play" in page.inner_text("#message"))
        page.close()


def test_a_lost_session_is_told_and_a_kept_one_goes_on(browser, clip):
    for with_snapshots in (True, False):
        with running(config=CONFIG, with_snapshots=with_snapshots) as service:
            service.backend.pause_s = 0.05
            page = browser.new_page()
            page.goto(service.url)
            page.set_input_files("#file", str(clip[0]))
            wait(lambda page=page: int(page.inner_text("#frames")) >= 5)
            service.backend.lose_session()
            wait(lambda page=page: is_grey(page, "#stop"))
            if with_snapshots:
                assert page.inner_text("#message") == ""
                assert int(page.inner_text("#frames")) == RATE * SECONDS
            else:
                assert "lost this stream" in page.inner_text("#message")
            page.close()


def test_the_camera_is_tracked_too(browser):
    with running(config=CONFIG) as service:
        context = browser.new_context(permissions=["camera"])
        page = context.new_page()
        page.goto(service.url)
        page.click("#camera")
        wait(lambda: int(page.inner_text("#frames")) >= 10)
        page.click("#stop")
        assert page.inner_text("#message") == ""
        context.close()


def test_the_keyboard_alone_chooses_starts_stops_and_downloads(browser, clip):
    """The file is chosen before the token is asked for, and starts once it is entered."""
    from jde_ray.pipelines.serving.deployments import resolve_settings

    with running(config=resolve_settings({"device": "cpu"}), tokens=(TOKEN,)) as service:
        service.wait_until_ready()
        service.backend.pause_s = 1.0  # the clip lasts longer than the way to the button
        page = browser.new_page(accept_downloads=True)
        # registered before the page is there: the browser takes a while to hand its dialogs over
        page.on("filechooser", lambda chooser: chooser.set_files(str(clip[0])))
        page.goto(service.url)
        press = page.keyboard.press

        def to(selector: str) -> None:
            for _ in range(30):
                if page.locator(selector).evaluate("it => it === document.activeElement"):
                    break
                press("Tab")
            shown = page.locator(selector).evaluate(
                "it => parseFloat(getComputedStyle(it.closest('label.button') || it).outlineWidth)"
            )
            assert shown >= 2, f"the focus of {selector} cannot be seen"

        to("#file")
        press("Enter")
        wait(lambda: "asks for a token" in page.inner_text("#message"))
        assert "Then street.mp4 starts." in page.inner_text("#message")
        assert page.locator("#token").evaluate("it => it === document.activeElement")
        page.keyboard.type(TOKEN)
        press("Enter")
        wait(lambda: int(page.inner_text("#rows")) >= 5)
        assert page.inner_text("#state").startswith("Tracking street.mp4")
        assert not is_grey(page, "#stop")
        to("#stop")
        press("Enter")
        wait(lambda: page.inner_text("#state") == "Stopped")
        assert page.locator("#stop").evaluate("it => it === document.activeElement")
        press("Enter")  # it is grey now, and says why
        wait(lambda: page.inner_text("#state") == "Nothing is running.")
        to("#parquet")
        with page.expect_download() as download:
            press("Enter")
        assert len(pq.read_table(io.BytesIO(Path(download.value.path()).read_bytes()))) >= 5
        page.close()


def test_what_cannot_be_used_says_why(browser):
    """Names, roles and reasons; the camera needs https or localhost."""
    with running(config=CONFIG, tokens=(TOKEN,)) as service:
        page = browser.new_page()
        page.goto(service.url)
        assert not is_grey(page, "#camera")
        assert page.inner_text(".camera-why") == ""
        for selector in ("#stop", "#mot", "#parquet"):
            assert is_grey(page, selector)
        assert page.inner_text("#save-why") == "There are no boxes yet."
        for selector, attribute, value in (
            ("#state", "role", "status"),
            ("#message", "role", "alert"),
        ):
            assert page.get_attribute(selector, attribute) == value
        unnamed = page.locator("input, select, button").evaluate_all(
            "all => all.filter(it => !it.textContent.trim() && !it.labels?.length"
            " && !it.getAttribute('aria-labelledby')).map(it => it.outerHTML)"
        )
        assert unnamed == []
        page.goto(f"http://{NAME}:{service.port}")
        assert is_grey(page, "#camera")
        assert "needs an address with https://, or localhost" in page.inner_text(".camera-why")
        page.click("#camera", force=True)
        assert "needs an address with https://" in page.inner_text("#state")
        page.close()


def fits(page, width: int) -> bool:
    """Whether nothing is wider than the page, and the invitation lies within its frames."""
    stage, frame = (page.locator(name).bounding_box() for name in ("#stage", "#drop"))
    parts = [part.bounding_box() for part in page.locator("#drop > *").all()]
    inner = [(box["y"], box["y"] + box["height"]) for box in parts if box is not None]
    top, bottom = frame["y"], frame["y"] + frame["height"]
    return (
        page.evaluate("() => document.documentElement.scrollWidth") <= width
        and stage["y"] < top
        and all(top <= first and last <= bottom for first, last in inner)
        and bottom < stage["y"] + stage["height"]
    )


@pytest.mark.parametrize("width", [340, 768, 1280])
def test_it_fits_phones_and_desks(browser, width):
    with running(config=CONFIG, tokens=(TOKEN,)) as service:
        page = browser.new_page(viewport={"width": width, "height": 700})
        page.goto(f"http://{NAME}:{service.port}")  # with the longest invitation
        wait(lambda: fits(page, width), 30.0)  # its texts come after the page
        page.close()


def test_a_busy_service_is_asked_again_for_a_picture(browser, tmp_path):
    picture = tmp_path / "grey.png"
    cv2.imwrite(str(picture), np.full((40, 60, 3), 128, np.uint8))
    with running(config=CONFIG, frames_per_second=0.5) as service:
        page = browser.new_page()
        page.goto(service.url)
        page.set_input_files("#file", str(picture))
        wait(lambda: page.inner_text("#state") == "Done: grey.png, 0 people")
        assert page.inner_text("#save-why") == "No people were found."
        page.set_input_files("#file", str(picture))
        wait(lambda: "slowing down" in page.inner_text("#message"))
        wait(lambda: page.inner_text("#state") == "Done: grey.png, 0 people")
        assert page.inner_text("#message") == ""
        page.close()
