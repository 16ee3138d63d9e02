"""Joins the parts, starts them and stops them in order. The only place that knows all, and it keeps nothing.

``adapters`` opens what the core acts through, ``handlers`` and ``front`` join the core to it, ``memory`` opens the
database, ``running`` starts all of it and stops it. ``validity`` says what settings it would not start with,
``soundness`` what is wrong with what is stored, ``owner`` whose the data is.
"""

from agent.bootstrap.memory import add_key
from agent.bootstrap.owner import become_owner
from agent.bootstrap.running import running
from agent.bootstrap.soundness import Soundness, soundness
from agent.bootstrap.validity import check

__all__ = ["Soundness", "add_key", "become_owner", "check", "running", "soundness"]
