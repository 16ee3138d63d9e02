"""What is fetched from URLs, and what is not. Real HTTP, on loopback."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from aiohttp import web

from agent.errors import UserError
from agent.git import downloads
from agent.git.downloads import MAX_REDIRECTS, HttpDownloads


async def page(request: web.Request) -> web.Response:
    return web.Response(body=b"x" * 600_000)


async def labelled(request: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(b"content"), headers={"Content-Encoding": "gzip"})


async def onward(request: web.Request) -> web.Response:
    left = int(request.match_info["left"])
    raise web.HTTPFound(f"/onward/{left - 1}" if left else "/page")


async def astray(request: web.Request) -> web.Response:
    raise web.HTTPFound(request.query["to"])


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 10)
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.fixture
async def site() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_get("/labelled", labelled)
    app.router.add_get("/onward/{left}", onward)
    app.router.add_get("/astray", astray)
    app.router.add_get("/cut", cut)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        _, port = runner.addresses[0]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def fetched(url: str) -> bytes:
    async with aclosing(HttpDownloads().fetch(url)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def refusal(url: str) -> UserError:
    with pytest.raises(UserError) as refused:
        await fetched(url)
    return refused.value


async def test_what_lies_there_comes_whole(site: str) -> None:
    assert await fetched(f"{site}/page") == b"x" * 600_000


async def test_names_are_looked_up(site: str) -> None:
    assert len(await fetched(f"{site.replace('127.0.0.1', 'localhost')}/page")) == 600_000


async def test_a_compression_that_the_server_names_is_the_archives_own(site: str) -> None:
    assert gzip.decompress(await fetched(f"{site}/labelled")) == b"content"


async def test_a_few_redirects_are_followed(site: str) -> None:
    assert len(await fetched(f"{site}/onward/{MAX_REDIRECTS - 1}")) == 600_000


async def test_a_chain_of_redirects_is_given_up(site: str) -> None:
    refused = await refusal(f"{site}/onward/{MAX_REDIRECTS}")
    assert refused.code == "download.failed" and "more than 5 times" in refused.message


@pytest.mark.parametrize(
    "where",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://0xa9fea9fe/",  # 169.254.169.254 as one number
    ],
)
async def test_link_local_addresses_are_never_asked(site: str, where: str) -> None:
    assert (await refusal(where)).code == "download.forbidden"
    assert (await refusal(f"{site}/astray?to={where}")).code == "download.forbidden"


@pytest.mark.parametrize(
    "url", ["", "blog.tar.gz", "ftp://x/y", "file:///etc/passwd", "http://", "http://a\nb/", "-x", "http://2852039166/"]
)
async def test_what_is_no_web_address_is_refused(url: str) -> None:
    assert (await refusal(url)).code == "download.invalid"


async def test_a_redirect_to_a_file_is_refused(site: str) -> None:
    assert (await refusal(f"{site}/astray?to=file:///etc/passwd")).code == "download.invalid"


async def test_a_password_in_the_address_is_refused_and_not_repeated(site: str) -> None:
    refused = await refusal(site.replace("http://", "http://ada:hunter2@"))
    assert refused.code == "download.has-password" and "hunter2" not in refused.message + refused.hint


async def test_what_is_not_there_is_told_without_the_query(site: str) -> None:
    refused = await refusal(f"{site}/none?token=hunter2")
    assert refused.code == "download.failed" and "404" in refused.message and "hunter2" not in refused.message


async def test_a_connection_that_breaks_off_is_an_error(site: str) -> None:
    assert "broke off" in (await refusal(f"{site}/cut")).message


async def test_a_server_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "STALL_SECONDS", 0.2)

    async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
        await reader.read()  # until the other end has had enough
        writer.close()

    server = await asyncio.start_server(fall_silent, "127.0.0.1", 0)
    async with server:
        refused = await refusal(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/archive.tar")
    assert "it sent nothing for" in refused.message


async def test_a_port_where_nobody_listens_is_named() -> None:
    assert "nobody answers there" in (await refusal("http://127.0.0.1:1/x")).message


async def test_a_name_that_does_not_exist_is_named() -> None:
    assert "no such host" in (await refusal("http://nowhere.invalid/x")).message
