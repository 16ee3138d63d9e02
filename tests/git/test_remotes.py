"""Repositories elsewhere are fetched over https and ssh, or refused with a sentence. Real git, real TLS, real ssh."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.archives.caps import Caps
from agent.errors import UserError
from agent.git.environment import command, upload_pack
from agent.git.process import output
from agent.git.remotes import GitRemotes
from agent.git.repos import GitRepos
from agent.ports.remotes import Access, Fetched, Login, Wanted, parse_address
from tests.git.conftest import APP
from tests.support.git_client import SUBMODULE, Client
from tests.support.git_servers import HttpsServer, SshServer, https_server, ssh_server
from tests.support.process_list import command_lines

pytestmark = pytest.mark.slow

TOKEN = "token-canary-7f3a9c"
FILES = {"Procfile": "web: serve\n", "a/b": "1"}


class Elsewhere:
    """Repositories on two servers, and Pushboat's side of them."""

    def __init__(self, repos: GitRepos, https: HttpsServer, ssh: SshServer, root: Path) -> None:
        self.repos = repos
        self.https, self.ssh = https, ssh
        self.root = root
        self.said: list[str] = []
        self.login = Access(logins={https.place: Login("ann", TOKEN)})
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        ssh.allowed = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        self.key = Access(hosts={ssh.place: (ssh.public,)}, key=private)

    def have(self, name: str = "app.git") -> Client:
        """Have a repository there."""
        return Client(self.root / name)

    async def fetch(
        self, url: str, ref: str = "", *, access: Access | None = None, onto: str = "", max_bytes: int = 1 << 30
    ) -> Fetched:
        remotes = GitRemotes(self.repos, ca_file=str(self.https.ca_file), max_bytes=max_bytes)
        wanted = Wanted(address=parse_address(url), ref=ref, onto=onto)

        async def tell(line: str) -> None:
            self.said.append(line)

        return await remotes.fetch(APP, wanted, access=access or self.login, tell=tell)

    async def refused(
        self, url: str, ref: str = "", *, access: Access | None = None, max_bytes: int = 1 << 30
    ) -> UserError:
        """Return why a fetch is refused; see that it has left nothing behind."""
        before = await self.branches()
        with pytest.raises(UserError) as refused:
            await self.fetch(url, ref, access=access, max_bytes=max_bytes)
        assert await self.branches() == before
        self.must_be_tidy()
        assert TOKEN not in f"{refused.value.message} {refused.value.hint}"
        return refused.value

    async def branches(self) -> dict[str, str | None]:
        return {name: await self.repos.tip(APP, name) for name in await self.repos.branches(APP)}

    def must_be_tidy(self) -> None:
        assert [path.name for path in self.repos.path(APP).parent.iterdir()] == [APP]
        assert list(Path(tempfile.gettempdir()).glob("pushboat-ssh-*")) == []

    async def files(self, commit: str) -> list[str]:
        return [entry.path for entry in await self.repos.tree(APP, commit).entries()]


@pytest.fixture
async def elsewhere(tmp_path: Path, repos: GitRepos, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Elsewhere]:
    root = tmp_path / "elsewhere"
    root.mkdir()
    # Sockets have short paths, and this one is for this test alone.
    scratch = tempfile.mkdtemp(prefix="t")
    monkeypatch.setattr(tempfile, "tempdir", scratch)
    async with https_server(root, login=f"ann:{TOKEN}") as https, ssh_server(root) as ssh:
        yield Elsewhere(repos, https, ssh, root)
    await asyncio.to_thread(shutil.rmtree, scratch)


async def test_a_branch_is_fetched_over_https_and_moves_the_one_of_the_same_name(elsewhere: Elsewhere) -> None:
    there = elsewhere.have()
    first = there.commit(FILES)
    fetched = await elsewhere.fetch(elsewhere.https.url("app.git"), "main")
    assert (fetched.commit, fetched.kind, fetched.branch, fetched.before) == (first, "branch", "main", None)
    assert await elsewhere.files(first) == ["Procfile", "a/b"]
    assert any(line.startswith("       Receiving objects: 100%") for line in elsewhere.said), elsewhere.said

    again = await elsewhere.fetch(elsewhere.https.url("app.git"), "main")
    assert (again.commit, again.before) == (first, first)

    second = there.commit_tree(there.tree(b""), message="Rewritten")
    rewritten = await elsewhere.fetch(elsewhere.https.url("app.git"), "main")
    assert (rewritten.commit, rewritten.before, rewritten.is_rewritten) == (second, first, True)
    assert await elsewhere.branches() == {"main": second}
    elsewhere.must_be_tidy()


async def test_what_is_checked_out_there_a_tag_and_a_commit_are_found(elsewhere: Elsewhere) -> None:
    there = elsewhere.have()
    old = there.commit(FILES, branch="production")
    new = there.commit({**FILES, "more": "2"}, branch="production")
    there.git("symbolic-ref", "HEAD", "refs/heads/production")
    there.git("-c", "user.name=Ann", "-c", "user.email=a@example.com", "tag", "-a", "-m", "One", "v1", old)
    url = elsewhere.https.url("app.git")
    head = await elsewhere.fetch(url)
    assert (head.commit, head.name, head.branch) == (new, "production", "production")
    tag = await elsewhere.fetch(url, "v1", onto="main")
    assert (tag.commit, tag.kind, tag.branch) == (old, "tag", "main")
    commit = await elsewhere.fetch(url, new, onto="main")
    assert (commit.commit, commit.kind, commit.before) == (new, "commit", old)
    assert await elsewhere.branches() == {"main": new, "production": new}


async def test_a_token_is_in_no_process_list_while_git_talks(
    elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere.have().commit(FILES)
    seen: list[bytes] = []

    async def look() -> None:
        seen.extend(await asyncio.to_thread(command_lines))

    elsewhere.https.meanwhile = look
    await elsewhere.fetch(elsewhere.https.url("app.git"), "main")
    assert any(b"git-remote-https" in line for line in seen)
    encoded = elsewhere.https.headers[-1].removeprefix("Basic ")
    assert encoded and not [line for line in seen if TOKEN.encode() in line or encoded.encode() in line]
    assert not [line for line in elsewhere.said if TOKEN in line or encoded in line]
    assert TOKEN not in caplog.text and encoded not in caplog.text
    stored = [path for path in elsewhere.repos.path(APP).rglob("*") if path.is_file()]
    assert not [path for path in stored if TOKEN.encode() in path.read_bytes()]


async def test_a_wrong_token_none_and_one_of_another_server_are_refused(elsewhere: Elsewhere) -> None:
    elsewhere.have().commit(FILES)
    url, place = elsewhere.https.url("app.git"), elsewhere.https.place
    wrong = Access(logins={place: Login("ann", "wrong")})
    strange = Access(logins={"localhost": Login("ann", TOKEN)})
    for access in (wrong, Access(), strange):
        refusal = await elsewhere.refused(url, "main", access=access)
        assert refusal.code == "git.refused" and f"git:auth {place} USER < token-file" in refusal.hint
    assert all(TOKEN not in header for header in elsewhere.https.headers)


async def test_a_redirect_is_not_followed_and_gets_no_token(elsewhere: Elsewhere, tmp_path: Path) -> None:
    elsewhere.have().commit(FILES)
    other = tmp_path / "other"
    other.mkdir()
    async with https_server(other) as trap:
        elsewhere.https.leads_to = f"https://localhost:{trap.port}"
        refusal = await elsewhere.refused(elsewhere.https.url("app.git"), "main")
        assert refusal.code == "git.redirected"
        assert trap.requests == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(elsewhere: Elsewhere) -> None:
    elsewhere.have().commit(FILES)
    elsewhere.https.ca_file = Path("/etc/ssl/certs/ca-certificates.crt")
    refusal = await elsewhere.refused(elsewhere.https.url("app.git"), "main")
    assert refusal.code == "git.certificate" and "ca_file" in refusal.hint
    assert elsewhere.https.requests == []


async def test_what_is_not_there_is_told(elsewhere: Elsewhere) -> None:
    there = elsewhere.have()
    there.commit(FILES)
    url = elsewhere.https.url("app.git")
    for ref in ("nope", "f" * 40):
        refusal = await elsewhere.refused(url, ref)
        assert refusal.code == "git.no-ref" and ref in refusal.message
    unborn = await elsewhere.refused(url)
    assert unborn.code == "git.no-ref" and "does not say which branch" in unborn.message
    assert (await elsewhere.refused(elsewhere.https.url("none.git"), "main")).code == "git.no-repository"
    assert (await elsewhere.refused("https://nowhere.invalid/a.git", "main")).code == "git.unreachable"
    for ref in ("--upload-pack=x", "a..b", "refs/heads/*", "a b", "main:other"):
        assert (await elsewhere.refused(url, ref)).code == "git.ref-name"


async def test_a_repository_with_more_than_may_come_is_refused(elsewhere: Elsewhere) -> None:
    noise = "".join(f"{number * 7919 % 1_000_003}\n" for number in range(40_000))
    elsewhere.have().commit({"large": noise})
    refusal = await elsewhere.refused(elsewhere.https.url("app.git"), "main", max_bytes=20_000)
    assert refusal.code == "source.too-large", refusal.message
    assert "19.5" in refusal.message


async def test_a_tree_that_breaks_a_cap_moves_no_branch(elsewhere: Elsewhere, tmp_path: Path) -> None:
    elsewhere.repos = GitRepos(tmp_path / "narrow", caps=Caps(entries=3))
    await elsewhere.repos.create(APP)
    elsewhere.have().commit({f"f{number}": str(number) for number in range(4)})
    assert (await elsewhere.refused(elsewhere.https.url("app.git"), "main")).code == "source.too-large"


async def test_a_private_repository_is_fetched_over_ssh_by_the_apps_own_key(elsewhere: Elsewhere) -> None:
    commit = elsewhere.have().commit(FILES)
    fetched = await elsewhere.fetch(elsewhere.ssh.url("app.git"), "main", access=elsewhere.key)
    assert fetched.commit == commit
    assert elsewhere.ssh.commands == ["git-upload-pack '/app.git'"] * 2
    elsewhere.must_be_tidy()


async def test_another_key_or_none_is_not_let_in_over_ssh(elsewhere: Elsewhere) -> None:
    elsewhere.have().commit(FILES)
    allowed, elsewhere.ssh.allowed = elsewhere.ssh.allowed, ""
    for access in (elsewhere.key, msgspec.structs.replace(elsewhere.key, key="")):
        refusal = await elsewhere.refused(elsewhere.ssh.url("app.git"), "main", access=access)
        assert refusal.code == "git.refused" and "git:generate-deploy-key" in refusal.hint
        elsewhere.ssh.allowed = allowed
    assert elsewhere.ssh.commands == []


async def test_a_server_that_is_unknown_or_shows_another_key_is_not_spoken_to(elsewhere: Elsewhere) -> None:
    elsewhere.have().commit(FILES)
    url, place = elsewhere.ssh.url("app.git"), elsewhere.ssh.place
    unknown = await elsewhere.refused(url, "main", access=msgspec.structs.replace(elsewhere.key, hosts={}))
    assert unknown.code == "git.unknown-host" and f"git:allow-host {place}" in unknown.hint
    await elsewhere.ssh.show_another_key()
    changed = await elsewhere.refused(url, "main", access=elsewhere.key)
    assert changed.code == "git.host-changed" and f"git:allow-host {place} --replace" in changed.hint
    assert elsewhere.ssh.commands == []


async def test_the_keys_of_an_ssh_server_are_shown_as_it_has_them(elsewhere: Elsewhere) -> None:
    (key,) = await GitRemotes(elsewhere.repos).host_keys(elsewhere.ssh.place)
    assert (key.public, key.fingerprint) == (elsewhere.ssh.public, elsewhere.ssh.key.get_fingerprint())
    with pytest.raises(UserError) as refused:
        await GitRemotes(elsewhere.repos).host_keys("localhost:1")
    assert refused.value.code == "git.unreachable"


def modules(*places: tuple[str, str]) -> str:
    return "".join(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, url in places)


async def test_submodules_are_fetched_and_built_as_files_in_their_places(elsewhere: Elsewhere) -> None:
    inner = elsewhere.have("inner.git").commit({"deep.txt": "deep"})
    lib = elsewhere.have("lib.git").commit(
        {"lib.py": "x = 1\n", ".gitmodules": modules(("in", "../inner.git")), "in": (SUBMODULE, inner.encode())}
    )
    files = {**FILES, ".gitmodules": modules(("vendor/lib", "../lib.git"))}
    commit = elsewhere.have().commit({**files, "vendor/lib": (SUBMODULE, lib.encode()), "lost": (SUBMODULE, b"1" * 40)})
    fetched = await elsewhere.fetch(elsewhere.https.url("app.git"), "main")
    assert fetched.commit == commit and fetched.notes == (
        "The submodule lost has no address in .gitmodules: it will be missing.",
    )
    assert await elsewhere.branches() == {"main": commit}
    tree = elsewhere.repos.tree(APP, commit)
    assert "vendor/lib/lib.py" in await elsewhere.files(commit)
    assert await tree.read("vendor/lib/in/deep.txt") == b"deep"
    archive = b"".join([piece async for piece in tree.archive()])
    assert b"vendor/lib/in/deep.txt" in archive
    served = upload_pack(elsewhere.repos.path(APP))
    shown = await output([*served[:-1], "--advertise-refs", served[-1]], limit=100_000)
    assert b"refs/heads/main" in shown and b"refs/whole" not in shown
    await output(command(elsewhere.repos.path(APP), "pack-refs", "--all", "--prune"), limit=100)
    # The same source is the same commit, and the same bytes, for the engine's cache.
    await elsewhere.fetch(elsewhere.https.url("app.git"), "main")
    assert b"".join([piece async for piece in elsewhere.repos.tree(APP, commit).archive()]) == archive
    elsewhere.must_be_tidy()


async def test_files_of_submodules_are_let_go_with_the_last_that_needs_them(elsewhere: Elsewhere) -> None:
    lib = elsewhere.have("lib.git").commit({"lib.py": "x = 1\n"})
    files = {**FILES, ".gitmodules": modules(("lib", "../lib.git")), "lib": (SUBMODULE, lib.encode())}
    commits = []
    for version in ("one", "two", "three"):
        commits.append(elsewhere.have().commit({**files, "version": version}))
        await elsewhere.fetch(elsewhere.https.url("app.git"), "main")
    git_dir = elsewhere.repos.path(APP)

    async def whole() -> list[str]:
        return [commit for commit in commits if "lib/lib.py" in await elsewhere.files(commit)]

    await elsewhere.repos.tidy(APP, kept=())
    assert await whole() == commits, "they are fresh: a branch or a deploy may be about to name them"
    for ref in (git_dir / "refs" / "whole").iterdir():
        os.utime(ref, (0, 0))
    await elsewhere.repos.tidy(APP, kept=commits[:1])
    assert await whole() == [commits[0], commits[2]]
    await output(command(git_dir, "pack-refs", "--all", "--prune"), limit=100)
    await elsewhere.repos.collect(APP, kept=())
    assert await whole() == [commits[2]], "a branch ends there"
    assert await elsewhere.repos.tree(APP, commits[0]).notes() != []
    assert (git_dir / "packed-refs").read_bytes().count(b" refs/whole/") == 1


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "/etc",
        "ext::sh -c id",
        "--upload-pack=touch x",
        "-u./payload",
        "../../../../../../etc",
        "http://localhost/lib.git",
        "https://user:secret@localhost/lib.git",
        "https://169.254.169.254/lib.git",
        "ssh://-oProxyCommand=id/lib.git",
    ],
)
async def test_a_submodule_anywhere_else_than_on_a_git_server_is_refused(elsewhere: Elsewhere, url: str) -> None:
    lib = elsewhere.have("lib.git").commit({"lib.py": "x = 1\n"})
    elsewhere.have().commit({".gitmodules": modules(("lib", url)), "lib": (SUBMODULE, lib.encode())})
    refusal = await elsewhere.refused(elsewhere.https.url("app.git"), "main")
    assert refusal.code.startswith("git.address") or refusal.code == "git.submodules", refusal.code
    assert "secret" not in refusal.message
    assert not [path for path in elsewhere.https.requests if "lib.git" in path]


async def test_a_submodule_of_another_server_gets_no_token_of_the_first(elsewhere: Elsewhere, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    lib = Client(other / "lib.git").commit({"lib.py": "x = 1\n"})
    async with https_server(other) as second:
        shutil.copy(second.ca_file, tmp_path / "both.pem")
        with (tmp_path / "both.pem").open("a") as both:
            both.write(elsewhere.https.ca_file.read_text())
        elsewhere.https.ca_file = tmp_path / "both.pem"
        elsewhere.have().commit(
            {".gitmodules": modules(("lib", second.url("lib.git"))), "lib": (SUBMODULE, lib.encode())}
        )
        fetched = await elsewhere.fetch(elsewhere.https.url("app.git"), "main")
        assert "lib/lib.py" in await elsewhere.files(fetched.commit)
        assert second.headers and set(second.headers) == {""}


async def hang() -> None:
    await asyncio.Event().wait()


async def test_a_fetch_that_is_broken_off_leaves_nothing_behind(elsewhere: Elsewhere) -> None:
    elsewhere.have().commit(FILES)
    started = asyncio.Event()

    async def begin() -> None:
        started.set()
        await hang()

    elsewhere.https.meanwhile = begin
    fetching = asyncio.create_task(elsewhere.fetch(elsewhere.https.url("app.git"), "main"))
    await started.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    elsewhere.must_be_tidy()
    assert await elsewhere.branches() == {}
    place = elsewhere.https.place.encode()
    assert not [line for line in command_lines() if place in line and b"git" in line]


async def test_one_who_stops_listening_ends_the_fetch(elsewhere: Elsewhere) -> None:
    elsewhere.have().commit(FILES)
    remotes = GitRemotes(elsewhere.repos, ca_file=str(elsewhere.https.ca_file))
    wanted = Wanted(address=parse_address(elsewhere.https.url("app.git")), ref="main")

    async def tell(line: str) -> None:
        # Git would wait for ever in its next request.
        elsewhere.https.meanwhile = hang
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await remotes.fetch(APP, wanted, access=elsewhere.login, tell=tell)
    elsewhere.must_be_tidy()
    assert await elsewhere.branches() == {}
