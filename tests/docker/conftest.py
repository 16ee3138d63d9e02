"""Fixtures of this package."""

from tests.support.fixtures import docker

__all__ = ["docker"]
