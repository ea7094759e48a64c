"""The calls over real HTTP, without Ray: answers, refusals, limits, the door."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import fakes
import numpy as np
import pytest
from serving_service import CONFIG, HANG_S, OTHER_TOKEN, TOKEN, frame, png, running, wait_until

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.serving import calls
from jde_ray.pipelines.serving.admission import Rates
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.structures import VideoInfo

PNG = png(frame(0))
LOST = "-0123abcd-0123456789ab"  # of an earlier life


@pytest.fixture(scope="module")
def service():
    with running() as it:
        yield it


@pytest.fixture(scope="module")
def guarded():
    with running(tokens=(TOKEN, OTHER_TOKEN)) as it:
        yield it


def test_detect_gives_what_the_offline_detector_gives(service):
    detector = Detector(fakes.CONFIG.detection, ResourceConfig(), fakes.COMPONENTS.build_model)
    small = fakes.draw(fakes.Script(), 3)
    (wanted,), _ = detector.find(small[None], [VideoInfo(*fakes.SOURCE, 1.0)], [0])
    status, answer, headers = service.call("POST", "/v1/detect?embeddings=true", png(frame(3)))
    assert status == 200
    assert (answer["model"], answer["width"], answer["height"]) == (CONFIG.model, 192, 128)
    people = answer["detections"]
    boxes = np.array([person["box"] for person in people], np.float32)
    np.testing.assert_array_equal(boxes, wanted.tlbr)
    scores = np.array([person["score"] for person in people], np.float32)
    np.testing.assert_array_equal(scores, wanted.scores)
    vectors = np.array([person["embedding"] for person in people], np.float16)
    np.testing.assert_array_equal(vectors, wanted.embeddings)
    assert headers["x-content-type-options"] == "nosniff"
    _, plain, _ = service.call("POST", "/v1/detect", png(frame(3)))
    assert "embedding" not in plain["detections"][0]


def test_an_image_without_people_has_an_empty_list(service):
    status, answer, _ = service.call("POST", "/v1/detect", png(np.full((40, 60, 3), 128, np.uint8)))
    assert (status, answer["detections"]) == (200, [])


def test_a_stream_over_rest(service):
    stream = service.open()
    path = f"/v1/streams/{stream}"
    answers = []
    for seq in range(12):
        status, answer, _ = service.call("POST", f"{path}/frames/{seq}", png(frame(seq)))
        assert status == 200
        assert (answer["stream"], answer["seq"], answer["model"]) == (stream, seq, CONFIG.model)
        answers.append(answer)
    assert {person["track_id"] for person in answers[-1]["tracks"]} >= {1, 2, 3}
    detected = service.backend.num_detected
    again = service.call("POST", f"{path}/frames/11", png(frame(30)))
    assert again[:2] == (200, answers[-1])
    for seq, error in ((13, "sequence_gap"), (0, "old_frame")):
        status, answer, _ = service.call("POST", f"{path}/frames/{seq}", png(frame(seq)))
        assert (status, answer["error"], answer["expected"]) == (409, error, 12)
    assert service.backend.num_detected == detected  # nothing of that reached the network
    assert service.call("GET", path)[1]["expected"] == 12
    assert service.call("DELETE", path)[0] == 204
    for method, end in (("POST", "/frames/12"), ("GET", ""), ("DELETE", "")):
        body = PNG if method == "POST" else None
        status, answer, _ = service.call(method, path + end, body)
        assert (status, answer["error"]) == (410, "stream_ended")


def test_a_lost_session_says_from_where_to_go_on():
    with running(with_snapshots=False) as service:
        stream = service.open()
        service.call("POST", f"/v1/streams/{stream}/frames/0", PNG)
        service.backend.lose_session()
        status, answer, _ = service.call("POST", f"/v1/streams/{stream}/frames/1", PNG)
        assert (status, answer["error"], answer["expected"]) == (409, "session_lost", 0)
    with running() as service:
        stream = service.open()
        service.call("POST", f"/v1/streams/{stream}/frames/0", PNG)
        service.backend.lose_session()
        assert service.call("POST", f"/v1/streams/{stream}/frames/1", PNG)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status", "error"),
    [
        ("GET", "/nothing", None, "", 404, "not_found"),
        ("POST", "/v1/streams/", None, "", 404, "not_found"),
        ("GET", "/v1/detect", None, "", 405, "method_not_allowed"),
        ("POST", "/v1/detect", b"{}", "application/json", 415, "unsupported_type"),
        ("POST", "/v1/detect", b"GIF89a", "image/png", 415, "unsupported_type"),
        ("POST", "/v1/detect", b"", "image/png", 422, "bad_image"),
        ("POST", "/v1/detect", PNG[:-30], "image/png", 422, "bad_image"),
        ("POST", "/v1/detect?embeddings=perhaps", PNG, "image/png", 422, "invalid"),
        ("POST", "/v1/streams", b"[", "application/json", 422, "invalid"),
        ("POST", "/v1/streams", b'{"frames_per_second": 0}', "application/json", 422, "invalid"),
        ("POST", "/v1/streams", b'{"fps": 3}', "application/json", 422, "invalid"),
        ("POST", "/v1/streams", b" " * 5000, "application/json", 413, "body_too_large"),
        ("POST", "/v1/streams/none/frames/0", PNG, "image/png", 404, "no_such_stream"),
        ("POST", f"/v1/streams/9{LOST}/frames/0", PNG, "image/png", 404, "no_such_stream"),
        ("POST", f"/v1/streams/0{LOST}/frames/0", PNG, "image/png", 409, "session_lost"),
        ("POST", f"/v1/streams/0{LOST}/frames/-1", PNG, "image/png", 422, "invalid"),
        ("POST", f"/v1/streams/0{LOST}/frames/x", PNG, "image/png", 422, "invalid"),
        ("DELETE", "/v1/streams/..%2f..%2fetc", None, "", 404, "not_found"),
    ],
)  # fmt: skip
def test_refusals_are_small_json_of_one_line(service, method, path, body, kind, status, error):
    got, answer, _ = service.call(method, path, body, kind=kind)
    assert (got, answer["error"]) == (status, error)
    assert answer.keys() <= {"error", "detail", "expected"}
    assert "\n" not in answer["detail"]
    assert not re.search(r"Traceback|/work|/usr|\.py|site-packages", json.dumps(answer))


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("", b'{"fps": 3}', "fps: no such setting, expected frames_per_second | camera"),
        ("", b'{"frames_per_second": 0}', "frames_per_second: got 0, expected greater than 0"),
        ("", b'{"frames_per_second": "x"}', "frames_per_second: got 'x', expected a valid number"),
        ("", b'{"camera": 5}', "camera: got 5, expected a valid string"),
        ("", b"[1]", "body: got [1], expected an object"),
        ("", b'{"camera": "' + b"a" * 201 + b'"}',
         "camera: got '" + "a" * 39 + "..., expected at most 200 characters"),
        ("", b" " * 5000, "body: got more, expected at most 4096 bytes"),
        (f"/0{LOST}/frames/-1", PNG, "seq: got '-1', expected greater than or equal to 0"),
        (f"/0{LOST}/frames/x", PNG, "seq: got 'x', expected a valid integer"),
        (f"/0{LOST}/frames/0?time_s=nan", PNG, "time_s: got 'nan', expected a finite number"),
    ],
)  # fmt: skip
def test_a_refused_value_is_named_beside_what_is_expected(service, path, body, detail):
    assert service.call("POST", f"/v1/streams{path}", body)[1]["detail"] == detail


def test_what_is_no_json_is_said_so_and_a_wrong_method_learns_of_all_others(service):
    assert "body: expected JSON (" in service.call("POST", "/v1/streams", b"{")[1]["detail"]
    for path, allowed in ((f"/v1/streams/0{LOST}", "DELETE, GET"), ("/", "GET")):
        status, answer, headers = service.call("PUT", path)
        assert (status, headers["allow"]) == (405, allowed)
        assert answer["detail"] == f"method: got PUT, expected {allowed}"


def test_an_image_is_taken_with_the_content_type_that_curl_gives_it(service):
    kind = "application/x-www-form-urlencoded"
    status, answer, _ = service.call("POST", "/v1/detect", PNG, kind=kind)
    assert (status, answer) == service.call("POST", "/v1/detect", PNG)[:2]
    origin = "http://elsewhere.example"  # a form of another site's page
    got = service.call("POST", "/v1/detect", PNG, kind=kind, origin=origin)
    assert (got[0], got[1]["error"]) == (403, "foreign_host")


def test_a_compressed_body_is_refused_before_it_is_read(service):
    got = service.call("POST", "/v1/detect", PNG, content_encoding="gzip")
    assert (got[0], got[1]["error"]) == (415, "unsupported_type")


def test_many_clients_get_their_own_answers(service):
    """Six streams of different scenes at once get the answers that each gets alone."""

    def play(seed: int) -> list[object]:
        stream = service.open()
        answers = []
        for seq in range(10):
            for _ in range(500):
                got = service.call(
                    "POST", f"/v1/streams/{stream}/frames/{seq}", png(frame(seq, seed))
                )
                if got[0] != 503:
                    break
                assert int(got[2]["retry-after"]) >= 1
                time.sleep(0.01)
            assert got[0] == 200
            answers.append(got[1]["tracks"])
        service.call("DELETE", f"/v1/streams/{stream}")
        return answers

    alone = [play(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(play, range(6))) == alone


def raw(port: int, text: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=HANG_S)
    connection.sendall(text)
    return connection


def head(length: str, path: str = "/v1/detect", **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: image/png", length]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_body_over_the_limit_is_refused_by_its_length_or_its_first_byte_too_many():
    with running(max_body_bytes=10_000) as service:
        with raw(service.port, head("Content-Length: 10001")) as connection:
            assert b" 413 " in connection.recv(4096)  # nothing of it was sent
        assert service.call("POST", "/v1/detect", bytes(10_000))[0] == 415  # as long as accepted
        with raw(service.port, head("Transfer-Encoding: chunked")) as connection:
            for _ in range(10):
                connection.sendall(b"3e8\r\n" + bytes(1000) + b"\r\n")
            time.sleep(0.2)
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(4096)
            connection.settimeout(HANG_S)
            connection.sendall(b"1\r\n\0\r\n")
            assert b" 413 " in connection.recv(4096)
        for length in ("-5", "5x", "1e3", "9" * 5000):
            with raw(service.port, head(f"Content-Length: {length}")) as connection:
                answer = connection.recv(4096)
                assert b" 400 " in answer or b" 413 " in answer


def test_slow_bodies_hold_no_place():
    """Forty senders that never finish: good frames are answered meanwhile, all of them."""
    with running(body_s=HANG_S, max_bodies=50) as service:
        slow = [raw(service.port, head("Content-Length: 5000")) for _ in range(40)]
        for connection in slow:
            connection.sendall(b"\x89PNG")
        wait_until(lambda: service.service.bodies.number == 40)
        assert service.service.queue.running == 0
        stream = service.open()
        for seq in range(10):
            assert service.call("POST", f"/v1/streams/{stream}/frames/{seq}", PNG)[0] == 200
        assert service.service.bodies.number == 40
        for connection in slow:
            connection.close()
        wait_until(lambda: service.service.bodies.number == 0)


def test_slow_bodies_end_by_themselves():
    with running(body_s=0.3) as service:
        slow = [raw(service.port, head("Content-Length: 5000")) for _ in range(3)]
        for connection in slow:
            answer = connection.recv(4096)
            while b"detail" not in answer:
                answer += connection.recv(4096)
            assert b" 408 " in answer
            assert b"body_too_slow" in answer
            connection.close()
        assert service.service.bodies.number == 0


def test_so_many_bodies_may_arrive_at_once():
    with running(body_s=HANG_S, max_bodies=3) as service:
        slow = [raw(service.port, head("Content-Length: 5000")) for _ in range(3)]
        wait_until(lambda: service.service.bodies.number == 3)
        status, answer, headers = service.call("POST", "/v1/detect", PNG)
        assert (status, answer["error"], headers["retry-after"]) == (503, "overloaded", "1")
        for connection in slow:  # a client that goes away frees its place at once
            connection.close()
        wait_until(lambda: service.service.bodies.number == 0)
        assert service.call("POST", "/v1/detect", PNG)[0] == 200


def test_overload_is_refused_and_what_is_accepted_is_answered():
    """Twenty clients at a detector of 30 ms with room for three."""
    with running() as service:
        service.backend.pause_s = 0.03
        assert service.call("POST", "/v1/detect", PNG)[0] == 200
        stop = time.monotonic() + HANG_S
        statuses: list[int] = []

        def client(_: int) -> None:
            while statuses.count(200) < 20 or 503 not in statuses:
                assert time.monotonic() < stop
                status, _answer, headers = service.call("POST", "/v1/detect", PNG)
                statuses.append(status)
                if status == 503:
                    assert headers["retry-after"] == "1"
                    time.sleep(0.02)

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(client, range(20)))
        accepted, refused = statuses.count(200), statuses.count(503)
        assert accepted + refused == len(statuses)
        queue = service.service.queue
        assert (queue.running, queue.waiting) == (0, 0)
        text = service.call("GET", "/metrics")[1].decode()
        assert f'jde_refusals_total{{error="overloaded"}} {refused}.0' in text
        assert f'jde_requests_total{{call="detect",status="200"}} {accepted + 1}.0' in text


def test_a_full_queue_is_told_before_the_body_is_read():
    with running(max_running=2, max_waiting=0) as service, ThreadPoolExecutor(2) as pool:
        service.backend.may_detect.clear()
        calls = [pool.submit(service.call, "POST", "/v1/detect", PNG) for _ in range(2)]
        wait_until(lambda: service.service.queue.running == 2)
        with raw(service.port, head("Content-Length: 5000")) as connection:
            assert b" 503 " in connection.recv(4096)  # nothing of it was sent
        service.backend.may_detect.set()
        assert [call.result()[0] for call in calls] == [200, 200]


def test_a_client_that_goes_away_leaves_no_place_taken():
    with running(max_running=2) as service:
        service.backend.may_detect.clear()
        connections = [
            raw(service.port, head(f"Content-Length: {len(PNG)}") + PNG) for _ in range(3)
        ]
        queue = service.service.queue
        wait_until(lambda: queue.running + queue.waiting == 3)
        for connection in connections:
            connection.close()
        service.backend.may_detect.set()
        wait_until(lambda: queue.running + queue.waiting == 0)


def test_a_call_is_answered_in_its_time_or_refused():
    with running(request_s=0.3) as service:
        service.backend.pause_s = 2.0
        status, answer, headers = service.call("POST", "/v1/detect", PNG)
        assert (status, answer["error"], headers["retry-after"]) == (503, "unavailable", "1")


def test_frames_and_streams_of_a_token_are_limited():
    with running(tokens=(TOKEN, OTHER_TOKEN), frames_per_second=3, max_streams=2) as service:
        service.service.rates = Rates(3, clock=lambda: 0.0)  # all of it within one moment
        streams = [service.open(TOKEN) for _ in range(2)]
        status, answer, headers = service.call("POST", "/v1/streams", b"", token=TOKEN)
        assert (status, answer["error"]) == (429, "too_many_streams")
        assert headers["retry-after"]
        service.open(OTHER_TOKEN)
        service.call("DELETE", f"/v1/streams/{streams[0]}", token=TOKEN)
        service.open(TOKEN)
        for _ in range(3):
            assert service.call("POST", "/v1/detect", PNG, token=TOKEN)[0] == 200
        status, answer, headers = service.call("POST", "/v1/detect", PNG, token=TOKEN)
        assert (status, answer["error"], headers["retry-after"]) == (429, "too_many_frames", "1")
        assert service.call("POST", "/v1/detect", PNG, token=OTHER_TOKEN)[0] == 200


def test_pixels_are_limited_before_they_are_decoded():
    with running(max_pixels=10_000) as service:
        bomb = cv2.imencode(".png", np.zeros((8000, 8000), np.uint8))[1].tobytes()
        for image in (bomb, png(np.zeros((101, 100, 3), np.uint8))):
            status, answer, _ = service.call("POST", "/v1/detect", image)
            assert (status, answer["error"]) == (413, "too_many_pixels")
        assert service.call("POST", "/v1/detect", png(np.zeros((100, 100, 3), np.uint8)))[0] == 200


OPEN = ("/", "/healthz", "/readyz")
CLOSED = (
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("POST", "/v1/detect"),
    ("POST", "/v1/streams"),
    ("GET", "/v1/streams/0-0123abcd-0123456789ab"),
    ("DELETE", "/v1/streams/0-0123abcd-0123456789ab"),
    ("POST", f"/v1/streams/0{LOST}/frames/0"),
)


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_without_the_token_nothing_but_health_and_the_page_is_open(guarded, method, path):
    status, answer, headers = guarded.call(method, path)
    assert (status, answer["error"], headers["www-authenticate"]) == (401, "no_token", "Bearer")
    status, answer, headers = guarded.call(method, path, token="wrong-" + TOKEN)
    assert (status, answer["error"]) == (403, "wrong_token")
    assert TOKEN not in json.dumps(answer)
    assert guarded.call(method, path, token=TOKEN)[0] not in (401, 403)


@pytest.mark.parametrize("path", OPEN)
def test_health_and_the_page_need_no_token_and_say_little(guarded, path):
    status, answer, headers = guarded.call("GET", path)
    assert status == 200
    if path == "/":
        assert "default-src 'none'" in headers["content-security-policy"]
    else:
        assert answer.keys() == {"status", "model"}


def test_the_token_is_asked_for_before_the_body_is_read(guarded):
    with raw(guarded.port, head("Content-Length: 5000000")) as connection:
        assert b" 401 " in connection.recv(4096)


def test_streams_of_another_token_are_unknown(guarded):
    stream = guarded.open(TOKEN)
    path = f"/v1/streams/{stream}/frames/0"
    status, answer, _ = guarded.call("POST", path, PNG, token=OTHER_TOKEN)
    assert (status, answer["error"]) == (404, "no_such_stream")
    assert guarded.call("POST", path, PNG, token=TOKEN)[0] == 200


def test_without_tokens_only_this_machine_by_its_own_name_is_served(service):
    for host in ("evil.example", "evil.example:80", "10.0.0.1", ""):
        status, answer, _ = service.call("GET", "/healthz", host=host)
        assert (status, answer["error"]) == (403, "foreign_host")
    for host in ("localhost", "localhost:8000", "127.0.0.1", "[::1]:80"):
        assert service.call("GET", "/healthz", host=host)[0] == 200


def test_pages_of_other_sites_may_not_call(service):
    """Browsers send plain posts anywhere unasked: one without a type would be an image here."""
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null"):
        for path in ("/v1/detect", "/v1/streams"):
            status, answer, _ = service.call("POST", path, PNG, kind="", origin=origin)
            assert (status, answer["error"]) == (403, "foreign_host")
    host = f"127.0.0.1:{service.port}"
    assert service.call("POST", "/v1/detect", PNG, origin=f"http://{host}", host=host)[0] == 200


def test_a_fault_of_the_program_is_told_without_its_inside(service, monkeypatch):
    async def fail(frame):
        raise RuntimeError("secret /path/of.py")

    kept = Lines()
    kept.setFormatter(logging.Formatter())
    kept.emit = lambda record: kept.lines.append(kept.format(record))
    monkeypatch.setattr(logging.getLogger("ray.serve"), "handlers", [kept])
    monkeypatch.setattr(service.backend, "detect", fail)
    status, answer, headers = service.call("POST", "/v1/detect", PNG, x_request_id="mine-1")
    assert (status, answer["error"], headers["x-request-id"]) == (500, "internal", "mine-1")
    assert "secret" not in json.dumps(answer)
    assert "mine-1" in answer["detail"]
    wait_until(lambda: any("secret" in line for line in kept.lines))  # the log has it


class Lines(logging.Handler):
    """The log of the service, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_counts_equal_what_the_client_counts():
    with running() as service:
        stream = service.open()
        people = tracks = 0
        for seq in range(5):
            answer = service.call("POST", f"/v1/streams/{stream}/frames/{seq}", png(frame(seq)))[1]
            tracks += len(answer["tracks"])
            people += len(service.call("POST", "/v1/detect", png(frame(seq)))[1]["detections"])
        service.call("POST", f"/v1/streams/{stream}/frames/9", PNG)
        text = service.call("GET", "/metrics")[1].decode()
        for line in (
            'jde_frames_total{call="frame"} 5.0',
            'jde_frames_total{call="detect"} 5.0',
            f"jde_detections_total {2 * people}.0",
            f"jde_tracks_total {tracks}.0",
            'jde_refusals_total{error="sequence_gap"} 1.0',
            'jde_requests_total{call="frame",status="409"} 1.0',
            "jde_streams 1.0",
            'jde_stage_seconds_count{stage="detect"} 10.0',
        ):
            assert line in text.splitlines(), line


def test_the_description_names_every_call_and_status(service):
    description = service.call("GET", "/openapi.json")[1]
    assert set(description["paths"]) == {
        *("/healthz", "/readyz", "/metrics", "/v1/detect", "/v1/streams", "/v1/streams/{stream}"),
        "/v1/streams/{stream}/frames/{seq}",
    }
    frames = description["paths"]["/v1/streams/{stream}/frames/{seq}"]["post"]
    assert set(frames["responses"]) >= {
        "200",
        "408",
        "409",
        "410",
        "413",
        "415",
        "422",
        "429",
        "503",
    }
    assert set(frames["requestBody"]["content"]) == {"image/jpeg", "image/png", "image/webp"}
    for refused in ("409", "422", "503"):
        schema = frames["responses"][refused]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/RefusalAnswer"}


def test_threads_end_with_the_service():
    before = threading.active_count()
    with running() as service:
        service.call("POST", "/v1/detect", PNG)
    wait_until(lambda: threading.active_count() <= before + 5)


def test_opening_streams_keeps_its_deadline_for_every_caller(monkeypatch):
    """The time of all runs, although they wait for one another."""
    num_running, num_away = 0, 0
    may_end = threading.Event()

    class CountedDeadline(calls._Deadline):
        async def __aenter__(self) -> None:
            nonlocal num_running
            num_running += 1
            await super().__aenter__()

    async def away(_session: int, _message: object) -> None:
        nonlocal num_away
        num_away += 1
        while not may_end.is_set():
            await asyncio.sleep(0.005)
        raise Refusal(Cause.UNAVAILABLE, "the session is away")

    monkeypatch.setattr(calls, "_Deadline", CountedDeadline)
    with running() as service, ThreadPoolExecutor(5) as pool:
        service.backend.send = away
        opened = [
            pool.submit(service.call, "POST", "/v1/streams", b"{}", kind="application/json")
            for _ in range(5)
        ]
        try:
            wait_until(lambda: num_running == 5)
            assert num_away == 1
        finally:
            may_end.set()
        assert {one.result()[0] for one in opened} == {503}


def test_a_stream_that_cannot_be_opened_in_time_is_refused():
    with running(request_s=0.3) as service:

        async def away(_session: int, _message: object) -> None:
            await asyncio.sleep(10 * HANG_S)

        service.backend.send = away
        status, answer, _ = service.call("POST", "/v1/streams", b"{}", kind="application/json")
        assert (status, answer["error"]) == (503, "unavailable")


@pytest.mark.parametrize("origin", ["http://[", "http://[::g]", "null", "x", "//"])
def test_an_origin_that_is_none_is_foreign_before_a_token_is_asked_for(origin):
    with running(tokens=(TOKEN,)) as service:
        status, answer, _ = service.call("GET", "/v1/streams/x", Origin=origin)
        assert (status, answer["error"]) == (403, "foreign_host")


def test_bytes_of_bodies_are_shared_out():
    body = png(frame(0))
    with running(tokens=(TOKEN, OTHER_TOKEN), max_image_bytes=4 * len(body)) as service:
        memory, owner = service.service.memory, service.service.tokens.owner(TOKEN)
        memory.take(owner, 2 * len(body))  # as if it waited for the network
        status, answer, headers = service.call("POST", "/v1/detect", body, token=TOKEN)
        assert (status, answer["error"]) == (503, "overloaded")
        assert "retry-after" in headers
        assert service.call("POST", "/v1/detect", body, token=OTHER_TOKEN)[0] == 200
        memory.give(owner, 2 * len(body))
        assert service.call("POST", "/v1/detect", body, token=TOKEN)[0] == 200
        assert memory.held == 0


def test_the_description_is_a_page_that_loads_nothing_and_asks_for_no_token():
    with running(tokens=(TOKEN,)) as service:
        status, page, headers = service.call("GET", "/docs")
        assert status == 200
        text = page.decode()
        for wanted in ("POST /v1/detect", "POST /v1/streams/{stream}/frames/{seq}", "time_s"):
            assert wanted in text
        assert not re.search(r"<script|<link|<img|src=|https?://", text)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "script-src" not in policy
        assert service.call("GET", "/openapi.json")[0] == 401
        description = service.call("GET", "/openapi.json", token=TOKEN)[1]
    for path, methods in description["paths"].items():
        assert all(f"{method.upper()} {path}" in text for method in methods)


def test_metrics_say_what_answers_and_how_long_each_call_took_by_status():
    with running() as service:
        for body, wanted in ((PNG, 200), (b"none", 415), (PNG, 200)):
            assert service.call("POST", "/v1/detect", body)[0] == wanted
        lines = service.call("GET", "/metrics")[1].decode().splitlines()
    for status, number in ((200, 2), (415, 1)):
        assert f'jde_call_seconds_count{{call="detect",status="{status}"}} {number}.0' in lines
    (info,) = (line for line in lines if line.startswith("jde_info{"))
    assert f'model="{CONFIG.model}"' in info
    assert info.endswith(" 1.0")
