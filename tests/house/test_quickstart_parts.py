"""What quickstart does with an engine: the example's base comes from a registry or from here, and an engine that it
started ends, unless somebody else came to use it."""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Network
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from scripts.house import processes, quickstart
from scripts.house.boat import ROOT, Boat
from scripts.house.engine import Engine
from scripts.house.processes import Process
from scripts.house.quickstart import LOCAL_BASE, MADE_BY, REGISTRY_BASE


class Books:
    """What an engine holds that keeps books and does nothing else."""

    def __init__(self) -> None:
        self.images: dict[str, dict[str, str]] = {}
        """Labels by name."""
        self.registry: set[str] = set()
        """What can be pulled."""
        self.containers: list[str] = []
        self.imported: list[str] = []

    def answer(self, method: str, path: str, query: dict[str, list[str]]) -> tuple[int, object]:
        """Answer one call."""
        image = path.removeprefix("/images/").removesuffix("/json")
        match method, path:
            case "GET", "/networks":
                return 200, []
            case "GET", "/containers/json":
                return 200, [{"Id": name} for name in self.containers]
            case "POST", "/images/create" if "fromSrc" in query:
                name = f"{query['repo'][0]}:{query['tag'][0]}"
                self.imported.append(name)
                labels = [change.removeprefix("LABEL ") for change in query["changes"] if change.startswith("LABEL ")]
                self.images[name] = dict(label.split("=", 1) for label in labels)
                return 200, {}
            case "POST", "/images/create":
                name = f"{query['fromImage'][0]}:{query['tag'][0]}"
                if name not in self.registry:
                    return 500, {"message": "dial tcp: lookup of the registry: no such host"}
                self.images[name] = {}
                return 200, {}
            case "GET", _ if image in self.images:
                return 200, {"Config": {"Labels": self.images[image]}}
            case "DELETE", _ if image in self.images:
                del self.images[image]
                return 200, []
            case _:
                return 404, {"message": f"no such thing: {path}"}


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def engine(books: Books, tmp_path: Path) -> Iterator[Engine]:
    """An engine at a unix socket that has these books."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            target = urlsplit(self.path)
            status, words = books.answer(self.command, unquote(target.path), parse_qs(target.query))
            self.send_response(HTTPStatus(status))
            self.end_headers()
            self.wfile.write(json.dumps(words).encode())

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that the base class looks for

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    path = str(tmp_path / "engine.sock")
    with socketserver.UnixStreamServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Engine(path)
        server.shutdown()
        thread.join()


@pytest.fixture
def boat(tmp_path: Path, engine: Engine) -> Boat:
    return Boat(tmp_path / "home", "/usr/bin/python3", 2222, 8080, IPv4Network("10.200.0.0/18"), engine=engine)


def dockerfile_of(checkout: Path) -> str:
    """Return what the example is built from, as it is committed, in a work tree that has nothing else to say."""
    show = ["git", "-C", str(checkout), "show", "HEAD:Dockerfile"]
    committed = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert (checkout / "Dockerfile").read_text() == committed
    return committed


EXAMPLE = (ROOT / "examples" / "hello" / "Dockerfile").read_text()


@pytest.mark.parametrize("is_there", [True, False], ids=["which the engine has", "which can be pulled"])
def test_the_example_stays_as_it_is_on_an_image_of_a_registry(boat: Boat, books: Books, is_there: bool) -> None:
    if is_there:
        books.images[REGISTRY_BASE] = {}
    else:
        books.registry.add(REGISTRY_BASE)
    said = quickstart._check_out(boat, boat.folder / "hello")
    assert said == f"copied to {boat.folder / 'hello'}"
    assert dockerfile_of(boat.folder / "hello") == EXAMPLE
    assert f"FROM {REGISTRY_BASE}\n" in EXAMPLE
    assert books.imported == []
    assert set(books.images) == {REGISTRY_BASE}


def test_where_no_registry_answers_the_example_is_built_on_an_image_from_here(boat: Boat, books: Books) -> None:
    said = quickstart._check_out(boat, boat.folder / "hello")
    assert f"built on {LOCAL_BASE}, as no registry can be reached" in said
    assert dockerfile_of(boat.folder / "hello") == EXAMPLE.replace(REGISTRY_BASE, LOCAL_BASE)
    assert books.images == {LOCAL_BASE: {MADE_BY: str(boat.folder)}}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a quickstart that started an engine, and no agent."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "boat.json").write_text(json.dumps({"ssh": 2222, "http": 8080, "pool": "10.200.0.0/18"}))
    return folder


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[Process]:
    """What quickstart takes for the engine that it started."""
    process = processes.spawn(["sleep", "600"], log=tmp_path / "log", environment=dict(os.environ), folder=tmp_path)
    yield process
    processes.kill(process)


def test_an_engine_that_was_started_here_ends(
    home: Path, engine: Engine, dockerd: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    dockerd.save(home / "dockerd.process")
    assert quickstart.down(home, engine=engine) == 0
    assert not dockerd.is_alive
    assert re.search(
        r"^-----> Docker engine: stopped, as it was started here \(\d+\.\d s\)$", capsys.readouterr().out, re.M
    )
    assert not home.exists()


def test_an_engine_in_which_others_have_a_container_goes_on(
    home: Path, engine: Engine, books: Books, dockerd: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    dockerd.save(home / "dockerd.process")
    books.containers.append("somebody-else")
    assert quickstart.down(home, engine=engine) == 0
    assert dockerd.is_alive
    said = f"-----> Docker engine: left running, pid {dockerd.pid}: a container of others in it ("
    assert said in capsys.readouterr().out
    assert books.containers == ["somebody-else"]
    assert not home.exists()


def test_a_note_of_an_engine_that_is_gone_ends_nobody_who_got_its_pid(
    home: Path, engine: Engine, dockerd: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    Process(dockerd.pid, dockerd.started - 1).save(home / "dockerd.process")
    assert quickstart.down(home, engine=engine) == 0
    assert dockerd.is_alive
    assert "Docker engine" not in capsys.readouterr().out


@pytest.mark.parametrize("is_mine", [True, False], ids=["ours", "another quickstart's"])
def test_the_base_image_goes_with_the_quickstart_that_made_it(
    home: Path, engine: Engine, books: Books, is_mine: bool
) -> None:
    books.images[LOCAL_BASE] = {MADE_BY: str(home if is_mine else home.parent / "other")}
    assert quickstart.down(home, engine=engine) == 0
    assert (LOCAL_BASE in books.images) is not is_mine
