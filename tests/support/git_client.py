"""A user's side of git: a repository whose commits are made by plumbing, and pushes into a repository of ours."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from agent.git.environment import environment, receive_pack

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_AUTHOR_DATE": "2024-05-06T07:08:09Z",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
    "GIT_COMMITTER_DATE": "2024-05-06T07:08:09Z",
}

REGULAR = "100644"
EXECUTABLE = "100755"
LINK = "120000"
SUBMODULE = "160000"


class Client:
    """Somebody's clone (bare: trees are written straight into the object store)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True, env=_ENVIRONMENT)

    def git(self, *arguments: str, data: bytes | None = None, index: Path | None = None) -> bytes:
        """Run git; return its output; raise on failure."""
        env = _ENVIRONMENT if index is None else {**_ENVIRONMENT, "GIT_INDEX_FILE": str(index)}
        command = ["git", f"--git-dir={self.folder}", *arguments]
        return subprocess.run(command, input=data, check=True, capture_output=True, env=env).stdout

    def blob(self, data: bytes) -> str:
        """Store a blob."""
        return self.git("hash-object", "-w", "--stdin", data=data).decode().strip()

    def tree(self, entries: bytes) -> str:
        """Store a tree from its raw bytes, however hostile."""
        made = self.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=entries)
        return made.decode().strip()

    def commit(
        self, files: Mapping[str, bytes | str | tuple[str, bytes]], *, message: str = "A change", branch: str = "main"
    ) -> str:
        """Commit exactly `files` (content, or mode and content) on `branch`; return the commit's id."""
        index = self.folder / "index.new"
        index.unlink(missing_ok=True)
        lines = []
        for path, value in files.items():
            mode, content = value if isinstance(value, tuple) else (REGULAR, value)
            data = content.encode() if isinstance(content, str) else content
            oid = data.decode() if mode == SUBMODULE else self.blob(data)
            lines.append(f"{mode} {oid}\t{path}".encode("utf-8", "surrogateescape") + b"\0")
        self.git("update-index", "-z", "--index-info", data=b"".join(lines), index=index)
        tree = self.git("write-tree", "--missing-ok", index=index).decode().strip()
        return self.commit_tree(tree, message=message, branch=branch)

    def commit_tree(self, tree: str, *, message: str = "A change", branch: str = "main") -> str:
        """Commit a stored tree."""
        commit = self.git("commit-tree", tree, data=message.encode()).decode().strip()
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def push(
        self, repo: Path, *refspecs: str, max_bytes: int = 1 << 30, traced: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Push into `repo` through the very command and environment that the agent uses.

        `traced`: a file for what git tells of itself, one JSON object a line (Trace2 API).
        """
        settings = [f"{name}={value}" for name, value in environment().items()]
        settings += [f"GIT_TRACE2_EVENT={traced}"] if traced else []
        script = self.folder / "receive-pack.sh"
        served = shlex.join(["env", "-i", *settings, *receive_pack(repo, max_bytes=max_bytes)])
        script.write_text(f"#!/bin/sh\nexec {served}\n")
        script.chmod(0o755)
        command = ["git", f"--git-dir={self.folder}", "push", f"--receive-pack={script}", str(repo), *refspecs]
        return subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
