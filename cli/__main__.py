"""The client: finds out which server and which app are meant, and becomes ssh.

It speaks no protocol of its own. A plain ``ssh -p 2222 pushboat@server <command>`` does all the same; the client only
spares typing, shares one connection, and brings the terminal along. It imports little, so that it starts fast.
"""

from __future__ import annotations

import os
import sys

from cli import completion, linking, places, ssh
from cli.trouble import Trouble

USAGE = """\
Usage: pushboat <command> [<app>] [<arguments>…] [--app <app>]

    pushboat link <server>[:<port>] [<app>]   have this folder's git remote "pushboat" name an app
    pushboat completion bash|zsh|fish         print a script that completes commands in your shell
    pushboat help                             what the server can do

The server and the app are those of the git remote "pushboat" of this folder (or the one that PUSHBOAT_GIT_REMOTE
names). Else the server is PUSHBOAT_HOST, or host in ~/.config/pushboat/config.toml. With them: PUSHBOAT_PORT,
PUSHBOAT_KEY, PUSHBOAT_APP. Root on the server itself needs none of these.
"""


def main() -> int:
    """Do what the command line asks for; return the exit status, or become ssh and never return."""
    words = sys.argv[1:]
    try:
        match words[:1]:
            case ["link"]:
                return linking.link(words[1:])
            case ["completion"]:
                return completion.print_script(words[1:])
            case ["__complete"]:
                return completion.complete(words[1:])
        return _forward(words)
    except Trouble as trouble:
        sys.stderr.write(trouble.text)
        return trouble.status
    except KeyboardInterrupt:
        return 130


def _forward(words: list[str]) -> int:
    place = places.find(os.environ)
    if place is None:
        if words and words[0] not in ("help", "--help", "-h"):
            raise Trouble(
                "I do not know which server you mean.",
                "Say it: pushboat link <server> [<app>], here in the app's folder, or set PUSHBOAT_HOST.",
            )
        sys.stdout.write(USAGE)
        return 0
    return ssh.become(place, words or ["help"])


if __name__ == "__main__":
    sys.exit(main())
