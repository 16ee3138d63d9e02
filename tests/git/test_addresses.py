"""Addresses of repositories elsewhere: what is one, what is none, and how what git says is told."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UserError
from agent.git.access import https_environment, known_hosts, ssh_config, ssh_environment
from agent.git.explained import explained
from agent.git.hostkeys import read_keys
from agent.git.process import GitFailed
from agent.git.progress import Progress
from agent.git.ssh_agent import Signer
from agent.git.submodules import read_modules
from agent.ports.remotes import Login, parse_address, parse_place
from tests.git.conftest import APP

URL = "https://git.example.com/team/app.git"


@pytest.mark.parametrize(
    ("text", "place", "url"),
    [
        (URL, "git.example.com", URL),
        ("https://Git.Example.com:443/a", "git.example.com", "https://git.example.com/a"),
        ("https://git.example.com:8443/a", "git.example.com:8443", "https://git.example.com:8443/a"),
        ("https://[2001:db8::1]/a", "[2001:db8::1]", "https://[2001:db8::1]/a"),
        ("ssh://git@git.example.com:2222/a.git", "git.example.com:2222", "ssh://git@git.example.com:2222/a.git"),
        ("ssh://git@git.example.com:22/~ann/a", "git.example.com", "ssh://git@git.example.com/~ann/a"),
        ("git@git.example.com:team/app.git", "git.example.com", "git@git.example.com:team/app.git"),
        ("git.example.com:/srv/app.git", "git.example.com", "git.example.com:/srv/app.git"),
    ],
)
def test_an_address_is_known_by_its_host_and_written_as_git_takes_it(text: str, place: str, url: str) -> None:
    address = parse_address(text)
    assert (address.place, address.url) == (place, url)
    assert parse_address(address.url) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/srv/app.git",
        "./app.git",
        "file:///srv/app.git",
        "http://git.example.com/app.git",
        "git://git.example.com/app.git",
        "ext::sh -c id",
        "-oProxyCommand=id",
        "--upload-pack=id",
        "https://-x/a",
        "ssh://-oProxyCommand=id/a",
        "ssh://git@-x/a",
        "-git@example.com:a",
        "git@example.com:-a",
        "git@example.com:a b",
        "https://example.com/a\nb",
        "https://example.com/a?x=1",
        "https://example.com/../a",
        "https://example.com:0/a",
        "https://example.com:99999/a",
        "https://example.com/a;id",
        "https://example.com/$(id)",
        "https://ann:secret@example.com/a",
        "https://secret@example.com/a",
        "ssh://git:secret@example.com/a",
        "https://169.254.169.254/a",
        "https://[::ffff:169.254.169.254]/a",
        "ssh://git@[fe80::1]/a",
        "https://example.com/" + "a" * 3_000,
    ],
)
def test_what_is_no_address_is_refused_and_a_password_in_it_not_repeated(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_address(text)
    assert refused.value.code.startswith("git.address") and refused.value.hint
    assert "secret" not in f"{refused.value.message}{refused.value.hint}"


@given(st.text(max_size=60))
def test_whatever_is_taken_for_an_address_can_be_no_option_and_no_other_protocol(text: str) -> None:
    try:
        url = parse_address(text).url
    except UserError:
        return
    assert not url.startswith("-") and "::" not in url.partition("[")[0] and not any(map(str.isspace, url))


def test_the_address_of_a_submodule_is_whole_or_beside_what_it_is_in() -> None:
    base = parse_address(URL)
    assert base.related("../lib.git").url == "https://git.example.com/team/lib.git"
    assert base.related("../../other/lib").url == "https://git.example.com/other/lib"
    assert base.related("./lib").url == "https://git.example.com/team/app.git/lib"
    assert base.related("git@other.example.com:lib").url == "git@other.example.com:lib"
    assert parse_address("git@example.com:team/app.git").related("../lib.git").url == "git@example.com:team/lib.git"
    for away in ("../../../../etc", "../../..", "../..", "lib.git", "../a/../../b"):
        with pytest.raises(UserError):
            base.related(away)


def test_a_place_is_a_host_with_the_port_that_is_not_the_usual_one() -> None:
    assert parse_place("Git.Example.com:443", scheme="https") == "git.example.com"
    assert parse_place("git.example.com:443", scheme="ssh") == "git.example.com:443"
    for text in ("", "-x", "a b", "a/b", "a:0", "a:99999", "a@b", "x" * 400, "169.254.1.1"):
        with pytest.raises(UserError):
            parse_place(text, scheme="ssh")


def test_a_login_is_a_header_for_its_server_alone() -> None:
    address = parse_address("https://git.example.com:8443/a.git")
    told = https_environment(address, login=Login("ann", "pass:wörd"))
    assert told["GIT_CONFIG_KEY_0"] == "http.https://git.example.com:8443/.extraHeader"
    assert told["GIT_CONFIG_VALUE_0"] == "Authorization: Basic YW5uOnBhc3M6d8O2cmQ="
    assert https_environment(address, login=None) == {"GIT_ALLOW_PROTOCOL": "https"}


def test_ssh_knows_the_server_by_the_given_keys_and_nothing_else() -> None:
    address = parse_address("ssh://git@git.example.com:2222/a")
    assert known_hosts(address, ("ssh-ed25519 AAAA",)) == "[git.example.com]:2222 ssh-ed25519 AAAA\n"
    assert known_hosts(parse_address("git@[2001:db8::1]:a"), ("k v",)) == "2001:db8::1 k v\n"
    config = ssh_config(Path("/a b"), has_key=False)
    for line in ("StrictHostKeyChecking yes", "GlobalKnownHostsFile none", 'UserKnownHostsFile "/a b/known_hosts"'):
        assert f"  {line}\n" in config
    assert '  IdentityAgent "none"\n' in config and "  IdentityFile none\n" in config


def test_git_speaks_ssh_by_a_program_and_not_by_a_line_for_a_shell() -> None:
    assert "GIT_SSH_COMMAND" not in ssh_environment(Path("/data/.a/ssh"))
    assert ssh_environment(Path("/data/.a/ssh"))["GIT_SSH"] == "/data/.a/ssh"
    assert ssh_config(Path("/a"), has_key=False, ssh="/usr/bin/ssh").startswith("#!/usr/bin/ssh -F\nHost *\n")


def test_an_agent_signs_with_its_key_and_answers_nothing_else() -> None:
    key = Ed25519PrivateKey.generate()
    signer = Signer(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())
    listed = signer.answer(b"\x0b")
    assert listed[:5] == b"\x0c\0\0\0\1"
    (length,) = struct.unpack_from(">I", listed, 5)
    blob = listed[9 : 9 + length]
    request = b"\x0d" + struct.pack(">I", length) + blob + struct.pack(">I", 5) + b"hello" + b"\0\0\0\0"
    signed = signer.answer(request)
    assert signed[:1] == b"\x0e"
    key.public_key().verify(signed[-64:], b"hello")
    other = request.replace(blob, blob[:-1] + bytes([blob[-1] ^ 1]))
    for question in (b"\x0d", b"\x0d\0\0\0\5abc", b"\x11", b"\x1b\0\0\0\1x", other):
        assert signer.answer(question) == b"\5"


def test_lines_of_a_scan_are_read_and_others_left_out() -> None:
    blob = "AAAAC3NzaC1lZDI1NTE5AAAAIJ4n2lHPlxYGXr0d5G0cYkxpUJbuoN5TvnC6w4p5t9Gh"
    text = (
        f"# a remark\ngit.example.com ssh-rsa AAAA\ngit.example.com ssh-ed25519 {blob}\nx ssh-dss AAAA\nx ssh-rsa A=B\n"
    )
    assert [key.public for key in read_keys(text)] == [f"ssh-ed25519 {blob}", "ssh-rsa AAAA"]


def test_submodules_are_read_by_their_paths() -> None:
    listed = "submodule.a.b.path\nvendor/a\0submodule.a.b.url\n../a\nx\0submodule.c.path\nc\0submodule.d.url\nd\0"
    assert read_modules(listed) == {"vendor/a": "../a\nx"}


async def test_progress_is_told_in_quarters_and_hostile_servers_are_cut_short() -> None:
    told: list[str] = []

    async def tell(line: str) -> None:
        told.append(line.strip())

    progress = Progress(tell)
    drawn = "".join(f"Receiving objects: {percent:3}% ({percent}/100)\r" for percent in range(100))
    for piece in (drawn[:50], drawn[50:], "Receiving objects: 100% (100/100), done.\n", "From https://x\n * [new] y\n"):
        await progress.hear(piece.encode())
    assert [line.partition("(")[0] for line in told] == [f"Receiving objects: {n:3}% " for n in (25, 50, 75, 100)]
    told.clear()
    counting = "".join(f"remote: Counting objects: {percent:3}% ({percent}/100)   \r" for percent in range(101))
    await progress.hear(f"remote: Enumerating objects: 9, done.\n{counting}remote: Total 9\n".encode())
    assert told == ["remote: Counting objects: 100% (100/100)"]
    await progress.hear(b"remote: spam\n" * 1_000 + b"x" * 100_000)
    assert len(told) == 200 - 4 and max(map(len, told)) < 2_100


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("fatal: Authentication failed for 'https://x/'", "git.refused"),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", "git.refused"),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", "git.refused"),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 302", "git.redirected"),
        ("fatal: repository 'https://x/a/' not found", "git.no-repository"),
        ("fatal: unable to access 'https://x/': server certificate verification failed.", "git.certificate"),
        ("fatal: unable to access 'https://x/': Failed to connect to x port 443", "git.unreachable"),
        ("fatal: couldn't find remote ref refs/heads/x", "git.no-ref"),
        ("error: Server does not allow request for unadvertised object 1", "git.no-ref"),
        ("fatal: write error: No space left on device", "disk.full"),
        ("error: index-pack died of signal 25\nfatal: fetch-pack: invalid index-pack output", "source.too-large"),
        ("Receiving objects: 1%\rfatal: fetch-pack: invalid index-pack output", "source.too-large"),
        ("fatal: pack is corrupted\nfatal: fetch-pack: invalid index-pack output", "git.unreachable"),
        ("", "git.unreachable"),
    ],
)
def test_what_git_says_is_told_with_what_to_do(text: str, code: str) -> None:
    error = GitFailed(["git", "fetch"], status=128, error=text)
    told = explained(error, address=parse_address(URL), ref="x", max_bytes="1 GiB")
    assert told.code == code and told.hint and APP not in told.message
