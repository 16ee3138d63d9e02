"""Joining a person's terminal with a program in a container, until one of the two leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.docker.frames import FrameReader
from agent.docker.raw import RawStream
from agent.ports.session import Terminal

Resize = Callable[[int, int], Awaitable[None]]
"""Tells the program's tty its columns and rows."""


async def converse(stream: RawStream, terminal: Terminal, *, resize: Resize) -> bool:
    """Carry bytes both ways. Return true once the program's output has ended, false if the person left before.

    The end of the person's input closes the program's input alone: what it still prints is carried on.

    Raises:
        Unavailable: the engine went away.
    """
    output = asyncio.create_task(_carry_output(stream, terminal))
    gone = asyncio.create_task(terminal.gone())
    tasks = [output, gone, asyncio.create_task(_carry_input(stream, terminal))]
    if terminal.is_tty:
        tasks.append(asyncio.create_task(_carry_sizes(terminal, resize)))
    try:
        await asyncio.wait({output, gone}, return_when=asyncio.FIRST_COMPLETED)
        return output.done() and await output
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


async def _carry_output(stream: RawStream, terminal: Terminal) -> bool:
    frames = None if terminal.is_tty else FrameReader()
    try:
        while data := await stream.read():
            if frames is None:
                await terminal.write(data)
                continue
            for source, payload in frames.feed(data):
                await (terminal.write if source == "stdout" else terminal.write_error)(payload)
    except ConnectionError:
        return False
    return True


async def _carry_input(stream: RawStream, terminal: Terminal) -> None:
    try:
        while data := await terminal.read():
            await stream.write(data)
    except ConnectionError:
        return
    stream.end_input()


async def _carry_sizes(terminal: Terminal, resize: Resize) -> None:
    await resize(*terminal.size())
    while True:
        await resize(*await terminal.resized())
