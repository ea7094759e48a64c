"""The log of requests: flat lines, none lost, and no call held up by what they go to."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from serving_service import CONFIG, TOKEN, frame, png, running
from websockets.sync.client import connect

from jde_ray.pipelines.serving import request_log
from jde_ray.pipelines.serving.launch import _relayed
from jde_ray.pipelines.serving.request_log import RequestLog


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_there_when_it_is_closed_and_files_are_appended_to(tmp_path):
    path = tmp_path / "log"
    for start in (0, 1000):
        log = RequestLog(str(path))
        for number in range(start, start + 1000):
            log.add({"number": number, "text": "a\nb"})
        log.close()
    found = lines(path)
    assert [line["number"] for line in found] == list(range(2000))
    assert found[0]["time"].endswith("Z")
    with pytest.raises(ValueError, match=r"request_log: .* cannot be written"):
        RequestLog(str(tmp_path / "missing" / "log"))
    RequestLog("none").add({"number": 1})


def test_what_stands_still_holds_up_nobody_and_lines_left_out_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log, "_MOST_WAITING", 10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = RequestLog(str(pipe))
    for number in range(3000):
        log.add({"number": number, "text": "x" * 200})
    parts, is_over = [], threading.Event()

    def read() -> None:
        while not is_over.wait(0.005):
            try:
                parts.append(os.read(reader, 1 << 16))
            except BlockingIOError:
                continue

    thread = threading.Thread(target=read)
    thread.start()
    while log._lines.qsize() > 5:
        is_over.wait(0.01)
    log.add({"number": -1})
    log.close()
    is_over.set()
    thread.join()
    parts.append(os.read(reader, 1 << 16))
    os.close(reader)
    found = [json.loads(line) for line in b"".join(parts).splitlines()]
    assert found[-1]["number"] == -1
    left_out = sum(line.get("lines_left_out", 0) for line in found)
    assert left_out > 1000
    assert len(found) - 1 + left_out == 3000


def test_a_relay_brings_every_line_to_standard_error(tmp_path, capfd):
    pipe = tmp_path / "requests"
    with _relayed(pipe):
        log = RequestLog(str(pipe))
        for number in range(3000):
            log.add({"number": number})
        log.close()
    found = [json.loads(line)["number"] for line in capfd.readouterr().err.splitlines()]
    assert found == list(range(3000))


def test_calls_and_sockets_leave_their_lines(tmp_path):
    path = tmp_path / "log"
    with running(tokens=(TOKEN,), config=replace(CONFIG, request_log=str(path))) as service:
        stream, image = service.open(TOKEN), png(frame(0))
        at = f"/v1/streams/{stream}/frames/"
        assert service.call("POST", f"{at}0", image, token=TOKEN, x_request_id="r-1")[0] == 200
        assert service.call("POST", f"{at}9", image, token=TOKEN)[0] == 409
        assert service.call("GET", "/v1/streams/x")[0] == 401
        header = {"authorization": f"Bearer {TOKEN}"}
        url = f"ws://127.0.0.1:{service.port}/v1/streams/{stream}/ws"
        with connect(url, additional_headers=header) as socket:
            socket.recv()
            for seq in (1, 2):
                socket.send(png(frame(seq)))
                socket.recv()
    text = path.read_text()
    assert TOKEN not in text
    opened, first, gap, stranger, socket_line = lines(path)
    assert opened["call"] == "open"
    assert {name: first[name] for name in ("request_id", "client", "stream", "seq", "status")} == {
        "request_id": "r-1", "client": "127.0.0.1", "stream": stream, "seq": 0, "status": 200,
    }  # fmt: skip
    assert first["token"] == gap["token"] == socket_line["token"]
    assert (gap["status"], gap["error"], gap["seq"]) == (409, "sequence_gap", 9)
    assert (stranger["status"], stranger["error"]) == (401, "no_token")
    assert "token" not in stranger
    assert (socket_line["method"], socket_line["frames"], socket_line["status"]) == ("WS", 2, 101)
