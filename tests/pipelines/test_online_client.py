"""The Python client against a service that loses sessions, connections and patience."""

from __future__ import annotations

import numpy as np
import pytest
from online_service import CONFIG, TOKEN, frame, running

from pipelines.online import ServiceError, connect

FRAMES = [frame(number) for number in range(40)]


@pytest.fixture(scope="module")
def service():
    with running() as it:
        yield it


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
    assert service.backend.sessions.table.count("everybody") == 0  # ended with the block


def test_one_ahead_is_the_same_as_many_and_as_several_calls(service):
    wanted = rows(play(service))
    assert rows(play(service, ahead=1)) == wanted
    assert rows(play(service, ahead=12)) == wanted
    with connect(service.url).stream(25, encoding="png") as stream:
        parts = [list(stream.track(FRAMES[start : start + 10])) for start in range(0, 40, 10)]
    assert rows([tracks for part in parts for tracks in part]) == wanted


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
                    service.backend.lose_sessions()
                if len(got) % 11 == 0:
                    stream._disconnect()
        assert rows(got) == wanted
        assert service.backend.sessions.num_resumed == 1


def test_a_session_lost_for_good_is_an_error_and_no_new_numbers():
    with running(with_snapshots=False) as service:
        stream = connect(service.url, patience_s=5).stream(25)
        tracks = stream.track(FRAMES)
        next(tracks)
        service.backend.lose_sessions()
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
    with pytest.raises(OSError, match="refused"):
        connect("http://127.0.0.1:9", patience_s=0.1).stream()
