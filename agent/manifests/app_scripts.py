"""``scripts`` of an app.json: commands that a deploy runs once, under the names of Dokku, of Heroku and our own."""

from __future__ import annotations

import msgspec

from agent.manifests.reader import Reader, plain

OURS = "pushboat"
THEIRS = "dokku"
_PHASES = ("predeploy", "postdeploy")
_FOR_OTHERS = ("pr-predestroy", "test", "test-setup")
"""Of Heroku's CI and review apps."""


class Scripts(msgspec.Struct, frozen=True, kw_only=True):
    """Commands to be run once, each a line as in a Procfile."""

    predeploy: str | None = None
    """Before the release task of each deploy."""
    postdeploy: str | None = None
    """After each deploy, once it serves."""
    setup: str | None = None
    """After the first deploy of the app: Heroku's ``scripts.postdeploy``."""


def read_scripts(scripts: Reader, notes: list[str]) -> Scripts:
    """Return what the object says; what is noted for the user is added to `notes`.

    Raises:
        UserError: ``manifest.invalid``.
    """
    found: dict[str, str] = {}
    for owner in (THEIRS, OURS):
        if owner in scripts.values:
            found |= _phases(scripts.inner(owner), owner, found, notes)
    for key in scripts.values:
        if key in _FOR_OTHERS:
            notes.append(f"Pushboat does not act on {scripts.where}.{key} of {scripts.file}.")
        elif key not in (OURS, THEIRS, "postdeploy"):
            notes.append(f"Pushboat does not know {scripts.where}.{plain(key)} of {scripts.file}.")
    return Scripts(predeploy=found.get("predeploy"), postdeploy=found.get("postdeploy"), setup=_setup(scripts, notes))


def _phases(one: Reader, owner: str, found: dict[str, str], notes: list[str]) -> dict[str, str]:
    one.only(_PHASES)
    if owner == THEIRS and "predeploy" in one.values:
        notes.append(
            f"{one.where}.predeploy of {one.file} is run, and files that it changes are not kept: "
            "what has to be in the image belongs into the build."
        )
    if both := sorted(found.keys() & one.values.keys()):
        notes.append(f"{', '.join(both)} of {one.where} in {one.file} takes the place of Dokku's.")
    return {key: _command(one, key) for key in one.values}


def _setup(scripts: Reader, notes: list[str]) -> str | None:
    """Return Heroku's ``postdeploy``: a text, or an object with ``command`` and the size of the dyno."""
    if "postdeploy" not in scripts.values:
        return None
    if not isinstance(scripts.values["postdeploy"], dict):
        return _command(scripts, "postdeploy")
    one = scripts.inner("postdeploy")
    one.only(("command", "size"))
    if "size" in one.values:
        notes.append(f"Pushboat does not act on {one.where}.size of {one.file}.")
    return _command(one, "command")


def _command(one: Reader, key: str) -> str:
    command = one.text(key, default="").strip()
    if not command or any(not (character.isprintable() or character == "\t") for character in command):
        raise one.wrong(key, "must be a command on one line")
    return command
