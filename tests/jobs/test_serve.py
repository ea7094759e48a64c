"""`jde serve`: its files of settings, its signals, and what it leaves in the log of requests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import ROOT
from serving_service import call, free_port

from jde_ray.jobs import cli
from jde_ray.jobs import serve as serve_module
from jde_ray.jobs.console.serve_file import read_file
from jde_ray.jobs.serve import serve
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.processes import descendants, is_alive, started_at

SHIPPED = ROOT / "jobs/recipes/serve.yaml"


def test_a_whole_file_of_serve_gives_the_address_and_says_what_is_not_used(tmp_path, capsys):
    args, http = read_file(SHIPPED)
    assert http == {"host": "127.0.0.1", "port": 8000}
    assert args["num_detectors"] == 4
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for name in ("logging_config", "proxy_location", "http_options.keep_alive_timeout_s"):
        assert name in told
    path = tmp_path / "args.yaml"
    path.write_text("args: {num_detectors: 2}\n")
    assert read_file(path) == ({"num_detectors": 2}, {})
    path.write_text("num_detectors: 3\n")
    assert read_file(path) == ({"num_detectors": 3}, {})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("typed", "wanted"), [("2", 2), ("auto", 7)])
def test_a_number_of_detectors_is_taken_from_the_command_line(typed, wanted, monkeypatch):
    asked = []
    monkeypatch.setattr(serve_module, "_serve", lambda args, *_: asked.append(args))
    monkeypatch.setattr(serve_module, "_fitting", lambda device: 7)
    assert cli.run(["serve", "--num-detectors", typed]) == ExitCode.DONE
    assert asked[0]["num_detectors"] == wanted


def test_a_section_of_the_file_that_is_none_is_refused(tmp_path, capsys):
    path = tmp_path / "args.yaml"
    path.write_text("track: 5\n")
    assert cli.run(["serve", "--config", str(path), "--track-buffer", "9"]) == ExitCode.REFUSED
    assert "track: got 5 in the file, expected a mapping" in capsys.readouterr().err


def test_a_number_of_detectors_that_is_none_is_refused(capsys):
    assert cli.run(["serve", "--num-detectors", "0"]) == ExitCode.REFUSED
    assert (
        capsys.readouterr().err == "jde: error: num-detectors: got '0', expected auto or from 1\n"
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("applications: [{args: {}}, {args: {}}]", "several applications"),
        ("{applications: [{}], http_options: {port: '80'}}", "port of .* got '80'"),
        ("{applications: [{}], http_options: {host: 8}}", "host of .* got 8"),
        ("{applications: [3]}", "not a Ray Serve file"),
        ("{applications: [{}], http_options: [1]}", "not a Ray Serve file"),
        ("[1]", "no mapping"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, text, part):
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(RunError, match=part) as refused:
        read_file(path)
    assert refused.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(refused.value)


def test_the_address_of_the_file_is_taken_and_flags_win_over_it(tmp_path, monkeypatch):
    asked = []

    def running(args, **door):
        asked.append(door)
        raise RunError("enough", ExitCode.REFUSED)

    monkeypatch.setattr("jde_ray.pipelines.serving.launch.running", running)
    path = tmp_path / "serve.yaml"
    path.write_text("{applications: [{args: {}}], http_options: {host: 127.0.0.9, port: 8123}}")
    for flags in ({}, {"port": 9000}, {"host": "127.0.0.1"}):
        with pytest.raises(RunError, match="enough"):
            serve(config=path, **flags)
    with pytest.raises(RunError, match="enough"):
        serve()
    doors = [(door["host"], door["port"]) for door in asked]
    assert doors == [
        *[("127.0.0.9", 8123), ("127.0.0.9", 9000), ("127.0.0.1", 8123), ("127.0.0.1", 8000)],
    ]


def test_the_ray_to_run_on_is_no_setting_of_the_service(monkeypatch):
    asked = []

    def running(args, *, address, **_):
        asked.append((address, "address" in args))
        raise RunError("enough", ExitCode.REFUSED)

    monkeypatch.setattr("jde_ray.pipelines.serving.launch.running", running)
    for flags in ({}, {"address": "auto"}):
        with pytest.raises(RunError, match="enough"):
            serve(**flags)
    assert asked == [("local", False), ("auto", False)]


def test_a_request_log_that_cannot_be_written_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(RunError, match=r"request-log: .* cannot be written \(No such file"):
        serve(request_log=str(tmp_path / "missing" / "log"))


def start(port: int, *flags: str, **streams) -> subprocess.Popen:
    command = [sys.executable, "-m", "jde_ray.jobs.cli", "serve", "--port", str(port), *flags]
    return subprocess.Popen(
        [*command, "--device", "cpu", "--num-detectors", "1"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        **streams,
    )


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("after_s", [1, 3, 6, 9, 12])
def test_sigterm_while_it_starts_is_143_or_when_it_is_up_0(after_s):
    process = start(free_port(), stderr=subprocess.PIPE)
    time.sleep(after_s)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    wanted = (0,) if b"jde serves" in out else (143, -signal.SIGTERM)
    assert process.returncode in wanted, (process.returncode, err)
    assert b"Traceback" not in err


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("where", ["stderr", "file"])
def test_every_call_has_its_line_and_readyz_says_that_it_goes(tmp_path, where):
    """SIGTERM comes while calls are: each one answered has a line, and the token is in none."""
    tokens, log, port = tmp_path / "tokens", tmp_path / "log", free_port()
    tokens.write_text("a-token-of-this-test\n")
    flags = ["--token-file", str(tokens)]
    flags += ["--request-log", str(log)] if where == "file" else []
    asked, states = [], []
    with (tmp_path / "err").open("wb") as err:
        process = start(port, *flags, stderr=err)
        assert b"jde serves" in process.stdout.readline()
        for number in range(150):
            name = f"call-{number}"
            try:
                status, *_ = call(
                    *(port, "GET", f"/v1/streams/{name}"),
                    token="a-token-of-this-test",  # noqa: S106
                    x_request_id=name,
                )
                states.append(call(port, "GET", "/readyz")[0])
            except OSError:
                break
            asked.append((name, status))
            if number == 100:
                process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.wait(120) == 0
    text = (log if where == "file" else tmp_path / "err").read_text()
    assert "a-token-of-this-test" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    found = {line["request_id"]: line for line in lines}
    assert len(asked) > 101
    for name, status in asked:
        line = found[name]
        assert (line["status"], line["stream"], line["error"]) == (status, name, "no_such_stream")
        assert line["client"] == "127.0.0.1"
        assert len(line["token"]) == 16
    assert set(states[:100]) == {200}
    assert 503 in states[101:]


def listening(pids: set[int]) -> list[str]:
    """Addresses on which these processes listen, as the kernel writes them."""
    sockets = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(path))
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.append(fields[1])
    return found


@pytest.mark.slow
@pytest.mark.ray
def test_sigterm_for_all_of_its_processes_drains_like_sigterm_for_one(tmp_path):
    """As systemd sends it to a whole control group: calls are still answered for a while."""
    port, states = free_port(), []
    with (tmp_path / "err").open("wb") as err:
        process = start(port, "--request-log", "none", stderr=err)
        assert b"jde serves" in process.stdout.readline()
        own = (process.pid, started_at(process.pid))
        family = {own} | descendants({own})
        assert len(family) > 8
        addresses = listening({pid for pid, _ in family})
        assert f"0100007F:{port:04X}" in addresses
        assert len(addresses) > 8
        assert not [address for address in addresses if "0100007F:" not in address]  # 127.0.0.1
        for pid, _ in family:
            os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            while True:
                states.append(call(port, "GET", "/readyz")[0])
                time.sleep(0.05)
        assert process.wait(120) == 0
    assert (tmp_path / "err").read_text() == ""
    assert states[-1] == 503
    assert len(states) > 10
    assert not [each for each in family if is_alive(each)]
