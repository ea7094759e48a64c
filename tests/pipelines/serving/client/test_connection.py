"""The Python client against a service that loses sessions, connections and patience."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from documents import blocks
from serving_service import CONFIG, TOKEN, frame, running
from tls_front import certificate, in_front

from jde_ray.pipelines.serving.client import calls, stream
from jde_ray.pipelines.serving.client.calls import ServiceError
from jde_ray.pipelines.serving.client.connection import connect
from jde_ray.pipelines.serving.client.images import encode

FRAMES = [frame(number) for number in range(40)]


@pytest.fixture(scope="module")
def service():
    with running() as it:
        yield it


class Clock:
    """Time that passes only while the client pauses before another try."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.num_pauses = 0.0, 0
        for module in (calls, stream):
            fake = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
            monkeypatch.setattr(module, "time", fake)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.num_pauses += 1
        assert self.num_pauses < 1000, "it tries for ever"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def play(service, frames=FRAMES, **options) -> list:
    with connect(service.url).stream(25, encoding="png", **options) as stream:
        return list(stream.track(frames))


def rows(tracks: list) -> list:
    return [(t.track_id.tolist(), t.tlbr.tolist(), t.score.tolist()) for t in tracks]


def test_detect_and_stream(service):
    client = connect(service.url + "/")
    assert client.is_ready()
    found = client.detect(FRAMES[3], embeddings=True)
    assert found.embeddings.shape == (len(found), 8)
    assert client.detect(FRAMES[3]).embeddings.shape == (len(found), 0)
    assert len(client.detect(np.full((40, 60, 3), 128, np.uint8))) == 0
    tracks = play(service)
    assert len(tracks) == 40
    assert sum(len(t) for t in tracks) > 100
    assert tracks[0].to_mot(0)
    assert service.backend.session.table.count("everybody") == 0  # ended with the block


def test_one_ahead_is_the_same_as_many_and_as_several_calls(service):
    wanted = rows(play(service))
    assert rows(play(service, ahead=1)) == wanted
    assert rows(play(service, ahead=12)) == wanted
    with connect(service.url).stream(25, encoding="png") as stream:
        parts = [list(stream.track(FRAMES[start : start + 10])) for start in range(0, 40, 10)]
    assert rows([tracks for part in parts for tracks in part]) == wanted


def test_a_call_that_was_left_does_not_answer_for_the_next_one(service):
    """The next call gave the tracks of frames that the one before had sent ahead."""
    wanted = rows(play(service))
    with connect(service.url).stream(25, encoding="png") as stream:
        tracks = stream.track(FRAMES[:6])  # four of them are sent
        assert rows([next(tracks)]) == wanted[:1]
        tracks.close()
        assert rows(list(stream.track(FRAMES[4:6]))) == wanted[4:6]
        assert stream.num_answered == 6
        assert rows(list(stream.track(FRAMES[6:]))) == wanted[6:]


def test_a_closed_stream_stays_closed(service):
    told: list[int] = []
    with connect(service.url).stream(25, on_new_ids=told.append) as stream:
        tracks = stream.track(FRAMES)
        next(tracks)
    for after in (tracks, stream.track(FRAMES)):
        with pytest.raises(ServiceError, match="stream_ended: the stream was closed"):
            next(after)
    assert not told
    assert service.backend.session.table.count("everybody") == 0


def test_what_the_service_would_misread_is_refused_here(service):
    client = connect(service.url)
    assert client.stream(np.float32(25)).name
    with pytest.raises(ValueError, match=r"encoding: got 'PNG', expected png \| jpeg"):
        client.stream(encoding="PNG")
    with pytest.raises(ValueError, match=r"encoding: got 'gif', expected png \| jpeg"):
        encode(FRAMES[0], "gif")
    with pytest.raises(ValueError, match=r"url: got 'http://127.0.0.1/\?x=1', expected"):
        connect("http://127.0.0.1/?x=1")
    for token in ("secret\n", "a secret", "s\u20accret"):
        with pytest.raises(ValueError, match="token: got a space") as refused:
            connect(service.url, token)
        assert "cret" not in str(refused.value)


def test_a_token_that_is_needed():
    with running(tokens=(TOKEN,)) as service:
        with connect(service.url, TOKEN).stream(25) as stream:
            assert len(list(stream.track(FRAMES[:3]))) == 3
        with pytest.raises(ServiceError) as refused:
            connect(service.url).stream()
        assert refused.value.error == "no_token"


@pytest.mark.parametrize("every", [1, 7])
def test_lost_sessions_and_sockets_go_unnoticed(every):
    """The replica dies between frames, again and again; what no snapshot holds is sent again."""
    from dataclasses import replace

    with running(config=replace(CONFIG, snapshot_every=every)) as service:
        wanted = rows(play(service))
        got = []
        with connect(service.url).stream(25, encoding="png") as stream:
            for tracks in stream.track(FRAMES):
                got.append(tracks)
                if len(got) % 9 == 0:
                    service.backend.lose_session()
                if len(got) % 11 == 0:
                    stream._disconnect()
        assert rows(got) == wanted
        assert service.backend.session.num_resumed == 1


def test_a_session_lost_for_good_is_an_error_and_no_new_numbers():
    with running(with_snapshots=False) as service:
        stream = connect(service.url, patience_s=5).stream(25)
        tracks = stream.track(FRAMES)
        next(tracks)
        service.backend.lose_session()
        with pytest.raises(ServiceError) as lost:
            list(tracks)
        assert lost.value.error == "session_lost"
        stream.close()


def test_limits_of_frames_a_second_slow_the_client_down():
    with running(frames_per_second=20) as service:
        assert len(play(service, [frame(n % 40) for n in range(35)])) == 35


def test_a_frame_that_is_refused_for_good_ends_the_loop(service):
    with connect(service.url).stream(25) as stream:
        with pytest.raises(ServiceError) as refused:
            list(stream.track([FRAMES[0], b"no image"]))
        assert refused.value.error == "unsupported_type"


def test_time_stamps_reach_the_motion_model(service):
    times = [number / 25 for number in range(40)]
    with connect(service.url).stream(25, encoding="png") as stream:
        assert rows(list(stream.track(FRAMES, times))) == rows(play(service))


def test_no_service_is_an_error_after_its_patience():
    with pytest.raises(OSError, match=r"^no service at http://127.0.0.1:9: Connection refused$"):
        connect("http://127.0.0.1:9", patience_s=0.1).stream()


def test_what_cannot_go_well_is_told_at_once(tmp_path, clock):
    for url in ("127.0.0.1:8000", "localhost", "ftp://localhost", "", "http://"):
        with pytest.raises(ValueError, match=r"url: got .*, expected http://HOST:PORT"):
            connect(url)
    with running() as service:
        secure = connect(f"https://127.0.0.1:{service.port}")
        with pytest.raises(ConnectionError, match=r"^no TLS at https://127.0.0.1:\d+ \(WRONG_"):
            secure.stream()
    assert clock.now == 0  # without another try
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.touch()
    with pytest.raises(FileNotFoundError, match=r"ca_file: No such file .*missing"):
        connect("https://localhost", ca_file=str(missing))
    context = ssl.create_default_context()
    for values, text in (
        (("https://localhost", {"ca_file": str(empty)}), "ca_file: .* no certificates, expected"),
        (("http://localhost", {"ca_file": str(empty)}), "ca_file: got the address http://"),
        (("http://localhost", {"ssl_context": context}), "ssl_context: got the address http://"),
        (
            ("https://localhost", {"ssl_context": context, "ca_file": str(empty)}),
            "ca_file: got ssl_context too",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            connect(values[0], **values[1])


def test_the_block_about_certificates_runs_and_its_sockets_speak_tls(tmp_path, capsys):
    (block,) = (block for block in blocks() if "ssl_context=" in block.text)
    text = block.text
    with running(tokens=(TOKEN,)) as service:
        key, public = certificate(tmp_path)
        with in_front(service.port, key, public) as port:
            for old, new in {
                "https://video.example.com/people": f"https://localhost:{port}",
                "authority.pem": str(public),
            }.items():
                assert old in text
                text = text.replace(old, new)
            exec(text, {"token": TOKEN, "frames": FRAMES[:5]})  # noqa: S102
        with in_front(service.port, *certificate(tmp_path, "DNS:elsewhere.test")) as port:
            client = connect(f"https://localhost:{port}", TOKEN, ca_file=str(public))
            with pytest.raises(ConnectionError, match=r"Hostname mismatch.*'localhost'") as wrong:
                client.stream()
            assert "\n" not in str(wrong.value)
    said = capsys.readouterr().out.split()
    assert len(said) == 5
    assert all(int(number) > 0 for number in said)


def test_a_certificate_is_checked_and_another_authority_may_be_named(tmp_path, clock):
    key, public = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, key)
    answer = b'{"stream": "0-0", "model": "m", "expected": 0}'
    with answering([answer] * 3, context) as (port, asked):
        wrong = r"^the certificate of https://127\S+ is not accepted \(self-signed [^\n]*, expected"
        with pytest.raises(ConnectionError, match=wrong):
            connect(f"https://127.0.0.1:{port}").stream()
        assert clock.now == 0
        client = connect(f"https://127.0.0.1:{port}", ca_file=str(public))
        assert client.call("GET", "/v1/streams/0-0")["stream"] == "0-0"
        assert len(asked) == 1


def test_an_answer_that_is_cut_is_asked_for_again(clock):
    whole = b'{"stream": "0-0", "model": "m", "expected": 0}'
    with answering([whole[:9], None, whole]) as (port, asked):
        client = connect(f"http://127.0.0.1:{port}")
        assert client.call("GET", "/v1/streams/0-0")["stream"] == "0-0"
        assert len(asked) == 3
        assert clock.now == 2.0


@contextlib.contextmanager
def answering(parts: list[bytes | None], context: ssl.SSLContext | None = None):
    """A server that announces the last part's length and sends these in turn; None: nothing."""
    listening, asked = socket.create_server(("127.0.0.1", 0)), []
    length = len(parts[-1] or b"")

    def serve() -> None:
        left = list(parts)
        while left:
            try:
                connection, _ = listening.accept()
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65536))
                part = left.pop(0)
                if part is not None:
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
                    connection.sendall(head.encode() + part)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1], asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(60)


def test_nobody_there_is_told_within_seconds_and_a_restart_is_waited_for(clock, monkeypatch):
    real = calls.Calls.call_once

    def call_once(self, *arguments):
        clock.now += 0.01  # a try takes time
        return real(self, *arguments)

    monkeypatch.setattr(calls.Calls, "call_once", call_once)
    client = connect("http://127.0.0.1:9", connect_s=2.5, patience_s=30)
    for seconds in (2.5, 30):
        clock.now = 0.0
        with pytest.raises(ConnectionError, match=r"no service at http://127.0.0.1:9: .*refused"):
            client.detect(FRAMES[0])
        assert seconds < clock.now < seconds + 0.5
        client.has_answered = True


def test_patience_is_that_of_a_service_which_has_answered():
    client = connect("http://127.0.0.1:9", connect_s=0.3, patience_s=30)
    assert client.patience() == 0.3
    client.has_answered = True
    assert client.patience() == 30


def test_a_socket_closed_because_of_what_was_sent_is_no_lost_connection(service, clock):
    with connect(service.url).stream(25) as stream:
        with pytest.raises(ServiceError, match="time_s: got") as refused:
            list(stream.track(FRAMES[:3], [2e11, 3e11, 4e11]))
        assert refused.value.error == "invalid"
    with connect(service.url).stream(25, ahead=17) as stream:
        service.backend.may_detect.clear()
        with pytest.raises(ServiceError, match="more than 16 frames unanswered"):
            list(stream.track(FRAMES))
        service.backend.may_detect.set()
    assert clock.now == 0  # no connection was tried again


def test_fewer_times_than_frames_and_unix_times(service):
    with connect(service.url).stream(25) as stream:
        assert len(list(stream.track(FRAMES[:3], [1.8e9 + n / 25 for n in range(3)]))) == 3
        with pytest.raises(ValueError, match="times_s: got 1, expected one for each frame"):
            list(stream.track(FRAMES[:3], [1.8e9 + 1]))


def test_a_stream_that_is_lost_for_good_begins_anew_if_its_caller_wants_to_know():
    with running(with_snapshots=False) as service:
        anew, tracks = [], []
        with connect(service.url).stream(25, encoding="png", on_new_ids=anew.append) as stream:
            for answer in stream.track(FRAMES[:20]):
                tracks.append(answer)
                if len(tracks) == 9:
                    service.backend.lose_session()
                    stream._disconnect()
        assert len(tracks) == 20
        assert stream.num_answered == 20
        assert anew == [9]
        again = play(service, FRAMES[9:20])
        assert rows(tracks[9:]) == rows(again)  # ids begin at 1 again, and nothing is missing


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8), "frame.png", None,
    ],
)  # fmt: skip
def test_a_frame_that_is_none_is_refused_in_one_line(image):
    with pytest.raises(ValueError, match=r"image: got .*, expected .* uint8 RGB") as refused:
        encode(image)
    assert "\n" not in str(refused.value)
