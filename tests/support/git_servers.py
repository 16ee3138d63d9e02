"""Git servers elsewhere: one that speaks https with a certificate of its own authority, one that speaks ssh.

Both serve the bare repositories in a folder, by git itself, and count who comes with what.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import shlex
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncssh
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


class HttpsServer:
    """Serves ``https://localhost:<port>/<name>``."""

    def __init__(self, root: Path, *, login: str = "") -> None:
        """`login`: ``user:password``, without which nobody is let in."""
        self.root = root
        self.port = 0
        self.ca_file = root / "ca.pem"
        self.requests: list[str] = []
        """Paths that were asked for."""
        self.headers: list[str] = []
        """What each request had as ``Authorization``."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """Awaited within each request that is let in."""
        self.leads_to = ""
        """Where every request is sent on to, if anywhere."""
        self._login = login

    def url(self, name: str) -> str:
        return f"https://localhost:{self.port}/{name}"

    @property
    def place(self) -> str:
        return f"localhost:{self.port}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        header = request.headers.get("Authorization", "")
        self.headers.append(header)
        if self.leads_to:
            raise web.HTTPMovedPermanently(f"{self.leads_to}{request.path_qs}")
        if self._login and header != f"Basic {base64.b64encode(self._login.encode()).decode()}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        if self.meanwhile is not None:
            await self.meanwhile()
        return await self._by_git(request)

    async def _by_git(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        environment = {
            **_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        # aiohttp has undone the request's compression already.
        git = await asyncio.create_subprocess_exec(
            *("git", "-c", "safe.directory=*", "http-backend"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        answer, _ = await git.communicate(body)
        head, _, content = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split(" ")[0])
        return web.Response(status=status, headers=headers, body=content)


@contextlib.asynccontextmanager
async def https_server(root: Path, *, login: str = "") -> AsyncIterator[HttpsServer]:
    """Run one for the length of a block."""
    server = HttpsServer(root, login=login)
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "localhost", 0, ssl_context=_certified(root))
        await site.start()
        server.port = runner.addresses[0][1]
        # "localhost" is two addresses, and with port 0 each gets a port of its own.
        await site.stop()
        site = web.TCPSite(runner, "localhost", server.port, ssl_context=_certified(root))
        await site.start()
        yield server
    finally:
        await runner.cleanup()


class SshServer:
    """Serves ``ssh://git@localhost:<port>/<name>`` to those who have `allowed` keys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = 0
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.allowed = ""
        """A public key, one line."""
        self.commands: list[str] = []
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    def url(self, name: str) -> str:
        return f"ssh://git@localhost:{self.port}/{name}"

    @property
    def place(self) -> str:
        return f"localhost:{self.port}"

    @property
    def public(self) -> str:
        """Type and base64 of the key that it shows."""
        return " ".join(self.key.export_public_key().decode().split()[:2])

    async def start(self) -> None:
        self._acceptor = await asyncssh.listen(
            "localhost",
            self.port,
            server_host_keys=[self.key],
            server_factory=lambda: _Gate(self),
            process_factory=self._serve,
            encoding=None,
        )
        self.port = self._acceptor.get_port()

    async def stop(self) -> None:
        assert self._acceptor is not None
        self._acceptor.close()
        await self._acceptor.wait_closed()
        for connection in tuple(self.connections):
            connection.abort()
            await connection.wait_closed()

    async def show_another_key(self) -> None:
        """Be another server at the same place."""
        await self.stop()
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        await self.start()

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self.commands.append(process.command or "")
        program, path = shlex.split(process.command or "")
        assert program == "git-upload-pack"
        git = await asyncio.create_subprocess_exec(
            *("git", "-c", "safe.directory=*", "upload-pack", str(self.root / path.lstrip("/"))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_ENVIRONMENT,
        )
        assert git.stdin is not None and git.stdout is not None
        asking = asyncio.create_task(_pump(process.stdin, git.stdin))
        try:
            while data := await git.stdout.read(65_536):
                process.stdout.write(data)
                await process.stdout.drain()
            process.exit(await git.wait())
        except ConnectionError:
            git.kill()
            await git.wait()
        finally:
            asking.cancel()
            await asyncio.wait((asking,))


async def _pump(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncssh.Error):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()


class _Gate(asyncssh.SSHServer):
    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._server.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        shown = key.export_public_key().decode().split()[:2]
        return username == "git" and shown == self._server.allowed.split()[:2]


@contextlib.asynccontextmanager
async def ssh_server(root: Path) -> AsyncIterator[SshServer]:
    """Run one for the length of a block."""
    server = SshServer(root)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _certified(root: Path) -> ssl.SSLContext:
    """Return what a server for ``localhost`` needs; its authority is in ``ca.pem``."""
    if not (root / "server.pem").exists():
        _make_certificates(root)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "server.pem")
    return context


def _make_certificates(root: Path) -> None:
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"The authority of {root}"[-64:])])
    now = datetime.datetime.now(datetime.UTC)

    def begun(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = begun(issuer, authority.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    server = begun(subject, key.public_key()).add_extension(names, False)
    (root / "ca.pem").write_bytes(ca.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (root / "server.pem").write_bytes(private + server.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
