"""``pushboat-agent``: signals, the event loop, exit statuses. No logic."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop

from agent import bootstrap
from agent.errors import UserError
from agent.log import configure
from agent.settings import Settings, load
from proto import VERSION
from proto.wire import Exit

DEFAULT_FILE = Path("/etc/pushboat/pushboat.toml")


def main() -> None:
    """Run what the command line says, and exit with its status."""
    arguments = _parser().parse_args()
    status: int = Exit.FAILED
    try:
        status = _perform(arguments)
    except* UserError as errors:
        # Raised among tasks (the ssh port is taken, say) it comes in a group; tasks that it ended left nothing there.
        status = _tell(errors)
    sys.exit(status)


def _perform(arguments: argparse.Namespace) -> int:
    settings = load(_file(arguments.config), os.environ)
    bootstrap.check(settings)
    if arguments.command in ("check", "ssh-keys:add"):
        bootstrap.become_owner(settings.folder)
    if arguments.command == "check":
        return Exit.OK if arguments.is_settings_only else _report(uvloop.run(bootstrap.soundness(settings)))
    configure(format=settings.logs.format, level=settings.logs.level)
    if arguments.command == "ssh-keys:add":
        added = uvloop.run(bootstrap.add_key(settings, name=arguments.name, public=sys.stdin.read()))
        sys.stdout.write(f"-----> Added {arguments.name}: {added}\n")
        return Exit.OK
    return uvloop.run(_run(settings))


def _report(found: bootstrap.Soundness) -> int:
    """Say what was looked at and what is wrong; return the exit status."""
    for line in found.looked_at:
        sys.stdout.write(f"-----> {line}\n")
    for finding in found.findings:
        _complain(finding.message, finding.hint)
    return Exit.FAILED if found.findings else Exit.OK


def _complain(message: str, hint: str) -> None:
    sys.stderr.write(f" !     {message}\n")
    if hint:
        sys.stderr.write(f"       {hint}\n")


def _tell(errors: BaseExceptionGroup[UserError]) -> int:
    """Say what is wrong and what to do about it; return the exit status of the first."""
    status = 0
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            status = status or _tell(error)
        else:
            _complain(error.message, error.hint)
            status = status or error.status
    return status


async def _run(settings: Settings) -> int:
    """Run the agent until SIGTERM or SIGINT, or until it cannot go on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with bootstrap.running(settings) as agent:
        return await agent.until(stop)


def _file(given: str | None) -> Path | None:
    """Return the settings file: the one that was named, or the usual one if it is there."""
    if named := given or os.environ.get("PUSHBOAT_CONFIG"):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pushboat-agent", description="The Pushboat agent.")
    parser.add_argument("--version", action="version", version=f"pushboat-agent {VERSION}")
    parser.add_argument("--config", metavar="FILE", help=f"settings (default: {DEFAULT_FILE}, if it is there)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("run", help="serve until told to stop")
    check = commands.add_parser("check", help="say whether the settings are right and what is stored is sound")
    check.add_argument("--settings-only", dest="is_settings_only", action="store_true", help="leave out what is stored")
    add = commands.add_parser("ssh-keys:add", help="let the public key on standard input sign in, while no agent runs")
    add.add_argument("name", help="what the key is called from then on")
    return parser


if __name__ == "__main__":
    main()
