"""What large registries have before them: nobody is let in without a token, which another server gives for a password.

(https://distribution.github.io/distribution/spec/auth/token/.) The registry behind it lets everybody in.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from scripts.house.addresses import LOOPBACK

HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding", "content-encoding"}


class Gate:
    """Gives tokens to one user, and passes on what comes with one."""

    def __init__(self, behind: str, *, user: str, password: str) -> None:
        self._behind = behind
        self._user = user
        self._password = password
        self._token = secrets.token_hex(16)
        self.address = ""
        """``127.0.0.1:PORT``."""
        self.given = 0
        """How many tokens were given."""

    async def token(self, request: web.Request) -> web.Response:
        """Answer both ways of asking: GET with basic authentication, and the POST of OAuth 2."""
        if request.method == "POST":
            form = await request.post()
            who = form.get("username"), form.get("password")
        else:
            kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
            user, _, password = base64.b64decode(encoded).decode().partition(":") if kind == "Basic" else ("", "", "")
            who = user, password
        if who != (self._user, self._password):
            return web.json_response({"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}, status=401)
        self.given += 1
        return web.json_response({"token": self._token, "access_token": self._token, "expires_in": 300})

    async def registry(self, request: web.Request) -> web.StreamResponse:
        """Pass on what has a token."""
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            realm = f'Bearer realm="http://{self.address}/token",service="gate",scope="repository:any:pull,push"'
            body = {"errors": [{"code": "UNAUTHORIZED", "message": "a token, please"}]}
            return web.json_response(body, status=401, headers={"WWW-Authenticate": realm})
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        url = f"http://{self._behind}{request.raw_path}"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, url, headers=headers, data=await request.read()) as answer,
        ):
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            if request.method == "HEAD":
                passed["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, headers=passed, body=await answer.read())


@asynccontextmanager
async def token_gate(behind: str, *, user: str, password: str) -> AsyncIterator[Gate]:
    """Run a gate before the registry at `behind`, which lets in one user."""
    gate = Gate(behind, user=user, password=password)
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/token", gate.token)
    app.router.add_route("*", "/{path:.*}", gate.registry)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, 0)
        await site.start()
        gate.address = f"{LOOPBACK}:{runner.addresses[0][1]}"
        yield gate
    finally:
        await runner.cleanup()
