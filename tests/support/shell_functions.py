"""Functions of ``scripts/*.sh``, called as the scripts call them, with stand-ins for the programs that act."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = (
    *(
        "awk",
        "bash",
        "cat",
        "chmod",
        "cp",
        "cut",
        "dirname",
        "env",
        "grep",
        "mkdir",
        "rm",
        "sed",
        "sleep",
        "tail",
        "tr",
    ),
    *("ssh-keygen", "wc"),
)
"""What reads and writes files; a machine has it in any case. All else is there where a test puts a stand-in."""


@dataclass(frozen=True)
class Called:
    """How a script ended."""

    status: int
    out: str
    err: str


class Machine:
    """A machine with few programs, whose stand-ins note what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        self._calls = folder / "calls"
        for name in TOOLS:
            found = shutil.which(name)
            assert found is not None, f"there is no {name} here"
            (self.programs / name).symlink_to(found)
        (self.programs / "python3").symlink_to(sys.executable)

    def stand_in(self, name: str, script: str = "") -> None:
        """Put a program there that notes its name and arguments, and then does what `script` says."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!{self.programs}/bash\necho "${{0##*/}} $*" >>"{self._calls}"\n{script}\n')
        path.chmod(0o755)

    def calls(self, *names: str) -> list[str]:
        """Return the command lines of these stand-ins since the last time, in their order."""
        said = self._calls.read_text().splitlines() if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return [line for line in said if line.split(" ")[0] in names]

    def run(self, script: str, *, files: tuple[str, ...] = ("machine.sh",)) -> Called:
        """Run `script`, which has what `files` define."""
        # machine.sh adds the folders where Debian has more programs; here there is nothing but what a test put there.
        lines = [*(f'source "{ROOT}/scripts/{name}"' for name in files), f'PATH="{self.programs}"', script]
        done = subprocess.run(
            [str(self.programs / "bash"), "-c", "\n".join(lines)],
            capture_output=True,
            text=True,
            env={"PATH": str(self.programs), "HOME": "/nonexistent"},
            timeout=60,
            check=False,
        )
        return Called(done.returncode, done.stdout, done.stderr)

    def step(self, words: str, command: str, *, given: str = "") -> Called:
        """Run one command as a step of a script. `given`: what the script sets first, other functions included."""
        return self.run(f'{given}\nbegin_log "{self.folder}/steps.log"\nstep "{words}" {command}')
