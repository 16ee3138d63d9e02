"""The second half of ``scripts/quickstart``: packages, engine and Python are there; now Pushboat and its first app.

``python -m scripts.house.quickstart up|down FOLDER``. All that it makes is in the folder or found from it, see `Boat`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.house import processes
from scripts.house.addresses import LOOPBACK
from scripts.house.boat import ROOT, Boat, BoatError
from scripts.house.engine import Engine, EngineError

APP = "hello"
PORTS = (2222, 8080)
"""Of ssh and HTTP, where they are free."""
POOL = "10.213.0.0/16"
REGISTRY_BASE = "busybox:stable"
"""What examples/hello is built on where a registry can be reached."""
LOCAL_BASE = "pushboat/base:busybox"
"""What it is built on elsewhere: the same programs, from Debian's busybox-static."""
PULL_SECONDS = 15.0
ANSWER_SECONDS = 20.0
"""From the end of the push until the page answers; it takes one request."""
MADE_BY = "com.pushboat.quickstart"
"""Label of the local base image: the folder that it was made for."""


class Step:
    """One line about what was done; `note` adds a remark to it."""

    note = ""


@contextmanager
def step(words: str) -> Iterator[Step]:
    """Say `words`, a remark, and how long the block took."""
    current = Step()
    started = time.monotonic()
    yield current
    remark = f": {current.note}" if current.note else ""
    print(f"-----> {words}{remark} ({time.monotonic() - started:.1f} s)", flush=True)


def up(home: Path) -> int:
    """Start the agent, push the example, and show that it answers."""
    boat = Boat.moor(home, python=sys.executable, ports=PORTS, pool=POOL)
    with step("Firewall: apps reach public ports of this machine alone, and not its metadata address"):
        boat.firewall("apply")
    with step("Agent") as now:
        now.note = _start(boat)
    with step("Key") as now:
        boat.grant_key("quickstart")
        now.note = f"{boat.key}; the host's key is {_host_fingerprint(boat)}"
    _write_env(boat)
    checkout = home / APP
    with step("Example app") as now:
        now.note = _check_out(boat, checkout)
    print(f"\n$ cd {checkout} && git push pushboat main", flush=True)
    pushed = subprocess.run(["git", "push", "pushboat", "main"], cwd=checkout, check=False)
    if pushed.returncode:
        raise BoatError("The push failed; see above.")
    host = f"{APP}.{boat.domain}"
    url = f"http://{host}:{boat.http_port}/"
    print(f"\n$ curl {url}", flush=True)
    print(_page(boat, host).strip(), end="\n\n", flush=True)
    _say_how_to_go_on(boat, url)
    return 0


def _start(boat: Boat) -> str:
    """Start the agent, again if its code or settings changed since; return what was done."""
    made_from = boat.folder / "code"
    code = _fingerprint()
    running = boat.agent
    was_running = running is not None
    if was_running and made_from.exists() and made_from.read_text() == code:
        boat.start()
        return f"runs, pid {running.pid if running else '?'}"
    boat.stop()
    boat.start()
    made_from.write_text(code)
    process = boat.agent
    return f"{'restarted, as its code changed' if was_running else 'started'}, pid {process.pid if process else '?'}"


def _fingerprint() -> str:
    """Return a hash of all that the agent is made of."""
    digest = hashlib.sha256()
    for folder in ("agent", "proto", "scripts/pins"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _host_fingerprint(boat: Boat) -> str:
    """Return the fingerprint of the host key that the agent showed, for people to compare."""
    command = ["ssh-keygen", "-l", "-f", str(boat.known_hosts)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]


ENV_HELP = """\
# Where this Pushboat is: ssh answers at HOST, PORT for the private key KEY; HTTP is the port of HOST at which the app
# NAME answers as NAME.DOMAIN. For example:
#   GIT_SSH_COMMAND="ssh -i $PUSHBOAT_KEY" git push ssh://pushboat@$PUSHBOAT_HOST:$PUSHBOAT_PORT/blog main
#   ssh -i $PUSHBOAT_KEY -p $PUSHBOAT_PORT pushboat@$PUSHBOAT_HOST logs blog
#   curl -H "Host: blog.$PUSHBOAT_DOMAIN" http://$PUSHBOAT_HOST:$PUSHBOAT_HTTP/
"""


def _write_env(boat: Boat) -> None:
    """Write what a script needs to go on with plain git, ssh and curl."""
    words = {
        "PUSHBOAT_HOST": LOOPBACK,
        "PUSHBOAT_PORT": boat.ssh_port,
        "PUSHBOAT_KEY": boat.key,
        "PUSHBOAT_HTTP": boat.http_port,
        "PUSHBOAT_DOMAIN": boat.domain,
    }
    lines = [f"{name}={shlex.quote(str(value))}\n" for name, value in words.items()]
    (boat.folder / "env").write_text("".join([ENV_HELP, *lines, f"export {' '.join(words)}\n"]))


def _check_out(boat: Boat, checkout: Path) -> str:
    """Copy the example into a repository of its own; one that is there already is its user's and stays as it is."""
    if (checkout / ".git").exists():
        return f"{checkout}, as you left it"
    shutil.rmtree(checkout, ignore_errors=True)
    shutil.copytree(ROOT / "examples" / APP, checkout)
    note = f"copied to {checkout}"
    if not _has_base(boat.engine):
        boat.engine.make_base(LOCAL_BASE, labels=[f"{MADE_BY}={boat.folder}"])
        dockerfile = checkout / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text().replace(REGISTRY_BASE, LOCAL_BASE))
        note += f", and built on {LOCAL_BASE}, as no registry can be reached"
    git = ["git", "-c", "user.name=Quickstart", "-c", "user.email=quickstart@example.com"]
    for words in (
        ["init", "--quiet", "--initial-branch=main"],
        ["config", "core.sshCommand", boat.git_ssh_command],
        ["remote", "add", "pushboat", boat.remote(APP)],
        ["add", "--all"],
        ["commit", "--quiet", "--message=The example as it came"],
    ):
        subprocess.run([*git, *words], cwd=checkout, check=True)
    return note


def _has_base(engine: Engine) -> bool:
    """Tell whether the engine holds the registry's base image, or could pull it just now."""
    if engine.has_image(REGISTRY_BASE):
        return True
    name, _, tag = REGISTRY_BASE.partition(":")
    try:
        Engine(engine.path, seconds=PULL_SECONDS).call("POST", "/images/create", fromImage=name, tag=tag)
    except EngineError:
        return False
    return engine.has_image(REGISTRY_BASE)


def _page(boat: Boat, host: str) -> str:
    """Return the page that `host` answers, waiting for it for a while."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        answer = boat.http(host)
        if answer and answer.status == 200:
            return answer.text
        if time.monotonic() > deadline:
            raise BoatError(f"http://{host}:{boat.http_port}/ does not answer: {answer}\n{boat.end_of_log()}")
        time.sleep(0.1)


def _say_how_to_go_on(boat: Boat, url: str) -> None:
    here = os.path.relpath(boat.folder)
    pushboat = f"ssh -F {here}/ssh_config pushboat"
    print(f"""=====> {APP} is live at {url}
       Change it      cd {here}/{APP}; edit www/index.html; git commit -am "Other words"; git push pushboat main
       Follow it      {pushboat} logs {APP} -t
       Go back        {pushboat} releases:rollback {APP}
       What else?     {pushboat} help
       In scripts     source {here}/env
       End it all     scripts/quickstart --down""")


def down(home: Path, *, engine: Engine | None = None) -> int:
    """Remove what `up` made: agent, HAProxy, containers, networks, images, rules, the engine if it was started here.

    `engine`: another one than this machine's.
    """
    boat = Boat.moor(home, python=sys.executable)
    boat.engine = engine = engine or boat.engine
    dockerd = processes.load(home / "dockerd.process")
    with step("Pushboat") as now:
        base = engine.call("GET", f"/images/{LOCAL_BASE}/json")
        removed = boat.remove()
        left = ""
        if base and (base["Config"]["Labels"] or {}).get(MADE_BY) == str(home):
            try:
                engine.call("DELETE", f"/images/{LOCAL_BASE}")
                removed.append("base image")
            except EngineError as error:
                # Somebody else has come to use it. The engine, below, is still to be ended.
                left = f"; {LOCAL_BASE} is left: {error}"
        now.note = "removed " + ", ".join([*removed, str(home)]) + left
    if dockerd:
        with step("Docker engine") as now:
            now.note = _stop_engine(engine, dockerd)
    return 0


def _stop_engine(engine: Engine, dockerd: processes.Process) -> str:
    """End the dockerd that quickstart started, unless others have come to use it."""
    others = len(engine.call("GET", "/containers/json"))
    if others:
        theirs = "a container" if others == 1 else f"{others} containers"
        return f"left running, pid {dockerd.pid}: {theirs} of others in it"
    processes.end(dockerd, seconds=30)
    return "stopped, as it was started here"


def main() -> int:
    """Do what the command line says; return the exit status."""
    action, home = sys.argv[1], Path(sys.argv[2])
    try:
        return {"up": up, "down": down}[action](home)
    except (BoatError, EngineError) as error:
        print(f" !     {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
