"""The checker that keeps shells out: what it catches, each way around it by name, and what it lets pass."""

from __future__ import annotations

import ast

import pytest

from tests.support.shell_ban import doors, findings, named_shells

EVASIONS = {
    "the plain call": "import os\nos.system(words)",
    "imported by its name": "from os import system\nsystem(words)",
    "imported under another name": "from os import system as quietly\nquietly(words)",
    "the module under another name": "import os as o\no.system(words)",
    "the module under another name, assigned": "import os\no = os\no.system(words)",
    "the function kept for later": "import os\nrun = os.system",
    "the function handed to somebody": "import os\nawait_in_thread(os.system, words)",
    "everything imported": "from os import *\nsystem(words)",
    "an import inside a function": "def f():\n    import os as o\n    o.system(words)",
    "an attribute by its text": "import os\ngetattr(os, 'sys' + 'tem')(words)",
    "the module's names": "import os\nvars(os)['system'](words)",
    "the module's dictionary": "import os\nos.__dict__['system'](words)",
    "a function's globals": "f.__globals__['os'].system(words)",
    "by sys.modules": "import sys\nsys.modules['os'].system(words)",
    "by __import__": "__import__('os').system(words)",
    "by importlib": "import importlib\nimportlib.import_module('os').system(words)",
    "by importlib, imported by its name": "from importlib import import_module as get\nget('os').system(words)",
    "the module below os": "import posix\nposix.system(words)",
    "popen": "import os\nos.popen(words)",
    "popen, by its name": "from os import popen\npopen(words)",
    **{
        f"os.{name}": f"import os\nos.{name}('/bin/sh', words)"
        for name in (
            *("execl", "execle", "execlp", "execlpe", "execv", "execve", "execvp", "execvpe"),
            *("spawnl", "spawnle", "spawnlp", "spawnlpe", "spawnv", "spawnve", "spawnvp", "spawnvpe"),
            *("posix_spawn", "posix_spawnp"),
        )
    },
    "pty.spawn": "import pty\npty.spawn(words)",
    "pty, by name": "from pty import spawn\nspawn(words)",
    "commands": "import commands\ncommands.getoutput(words)",
    "getoutput": "import subprocess\nsubprocess.getoutput(words)",
    "getstatusoutput, by name": "from subprocess import getstatusoutput as ask\nask(words)",
    "shell=True": "import subprocess\nsubprocess.run(words, shell=True)",
    "a truthy shell": "import subprocess\nsubprocess.run(words, shell=1)",
    "a shell that is worked out": "import subprocess\nsubprocess.Popen(words, shell=bool(words))",
    "shell=True under another name": "from subprocess import run as go\ngo(words, shell=True)",
    "shell=True for who calls it later": "import functools\nfunctools.partial(start, shell=True)",
    "options unpacked": "import subprocess\nsubprocess.run(words, **options)",
    "options unpacked for asyncio": "import asyncio\nasyncio.create_subprocess_exec(*words, **options)",
    "the ninth argument": "import subprocess\nsubprocess.Popen(words, -1, None, None, None, None, None, True, True)",
    "arguments unpacked": "import subprocess\nsubprocess.Popen(*everything)",
    "a starter kept for later": "import subprocess\nrun = subprocess.run\nrun(words, **options)",
    "a starter filled in": "import functools, subprocess\nfunctools.partial(subprocess.run, words)",
    "a text for a vector": "import subprocess\nsubprocess.run(f'git {words}')",
    "a sum of texts for a vector": "import subprocess\nsubprocess.run('git ' + words)",
    "a shell in the vector": "import subprocess\nsubprocess.run(['/bin/sh', '-c', words])",
    "a shell as the program": "import asyncio\nasyncio.create_subprocess_exec('bash', '-c', words)",
    "a shell as executable": "import subprocess\nsubprocess.run(words, executable='/usr/bin/zsh')",
    "asyncio's shell": "import asyncio\nasyncio.create_subprocess_shell(words)",
    "asyncio's shell, by name": "from asyncio import create_subprocess_shell as start\nstart(words)",
    "asyncio's shell, from where it is": "from asyncio.subprocess import create_subprocess_shell\n",
    "asyncio's shell, below its module": "import asyncio\nasyncio.subprocess.create_subprocess_shell(words)",
    "the loop's shell": "loop.subprocess_shell(factory, words)",
    "eval": "eval(words)",
    "exec": "exec(words)",
    "compile": "compile(words, '', 'exec')",
    "eval, from builtins": "import builtins\nbuiltins.eval(words)",
    "eval, from builtins, by name": "from builtins import eval as read\nread(words)",
    "eval, handed to somebody": "list(map(eval, words))",
    "__builtins__": "__builtins__['eval'](words)",
    "pickle": "import pickle\npickle.loads(words)",
    "pickle, by name": "from pickle import loads\nloads(words)",
    "the module through one that has it": "import shutil\nshutil.os.system(words)",
    "the module through a part of itself": "import os.path as p\np.os.system(words)",
    "the module through one of ours": "from agent.git.process import os\nos.system(words)",
    "the module through one of ours, renamed": "from agent.git.process import subprocess as s\ns.getoutput(words)",
    "subprocess through asyncio's": "import asyncio\nasyncio.subprocess.subprocess.getoutput(words)",
    "a module passed on": "import shutil\ngetattr(getattr(shutil, 'o' + 's'), 'sys' + 'tem')(words)",
    "a module of a module, by its text": "getattr(thing, 'o' + 's').system(words)",
    "asyncio's loop": "loop.subprocess_exec(factory, '/bin/sh', '-c', words)",
    "what is below subprocess": "import _posixsubprocess\n_posixsubprocess.fork_exec(words)",
    "what subprocess keeps to itself": "import subprocess\nsubprocess._fork_exec(words)",
    "multiprocessing": "from multiprocessing.util import spawnv_passfds\nspawnv_passfds(b'/bin/sh', words, ())",
    "os.fork": "import os\nos.fork()",
    "globals()": "globals()['os'].system(words)",
    "locals()": "locals()['os'].system(words)",
    "vars() of nothing": "vars()['os'].system(words)",
    "a frame": "import sys\nsys._getframe().f_globals['os'].system(words)",
    "a frame of something": "error.__traceback__.tb_frame.f_globals['os'].system(words)",
    "every class there is": "().__class__.__base__.__subclasses__()",
    "the getter itself": "thing.__getattribute__('system')(words)",
    "a loader": "thing.__loader__.load_module('os').system(words)",
    "pkgutil": "from pkgutil import resolve_name\nresolve_name('os:system')(words)",
    "pydoc": "import pydoc\npydoc.pipepager('', words)",
    "timeit": "import timeit\ntimeit.timeit(words)",
    "a profiler": "import cProfile\ncProfile.run(words)",
    "a debugger": "import pdb\npdb.run(words)",
    "a function made of code": "import types\ntypes.FunctionType(words, {})()",
    "a loader of importlib": "from importlib.machinery import SourceFileLoader\nSourceFileLoader('x', words)",
    "importlib.util": "import importlib.util\nimportlib.util.module_from_spec(words)",
    "importlib's own __import__": "import importlib\nimportlib.__import__('os').system(words)",
    "a browser": "import webbrowser\nwebbrowser.open(words)",
    "env": "import subprocess\nsubprocess.run(['/usr/bin/env', '-S', words])",
    "busybox": "import asyncio\nasyncio.create_subprocess_exec('busybox', applet, words)",
    "python": "import asyncio, sys\nasyncio.create_subprocess_exec(sys.executable, '-c', words)",
    "perl": "import subprocess\nsubprocess.run(['perl', '-e', words])",
    "another executable": "import subprocess\nsubprocess.run(words, executable=shell)",
    "a function before the program": "import subprocess\nsubprocess.run(words, preexec_fn=start)",
    "a shell in pieces": "import subprocess\nsubprocess.run(['/bin/' + 's' + 'h', '-c', words])",
    "a shell for asyncssh": "connect(host, proxy_command=words)",
    "an attribute getter": "import operator, shutil\noperator.attrgetter('os.system')(shutil)(words)",
    "a method caller": "from operator import methodcaller\nmethodcaller('system', words)",
    "a library of SQLite's": "connection.load_extension(words)",
    "text evaluated as a type": "import typing\ntyping.ForwardRef(words)",
    "an archive, unpacked": "import tarfile\ntarfile.open(path).extractall(folder)",
    "an archive, unpacked by shutil": "import shutil\nshutil.unpack_archive(path)",
}

FINE = {
    "a vector": "import subprocess\nsubprocess.run(['git', *words], cwd=folder, check=True)",
    "a vector that is a sum": "import subprocess\nsubprocess.run(['git'] + words)",
    "a vector of asyncio": "import asyncio\nasyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.PIPE)",
    "shell=False": "import subprocess\nsubprocess.run(words, shell=False)",
    "a type": "import subprocess\ndef f() -> subprocess.Popen[bytes]: ...\nx: list[subprocess.Popen[bytes]] = []",
    "a compiled pattern": "import re\nre.compile(words)",
    "other things of the watched modules": "import os, sys\nos.environ, os.path.join(a, b), sys.stdin.read()",
    "a method of the same name": "self.engine.exec(words)\nplan.compile()",
    "options unpacked for others": "start(words, **options)",
    "words for a container": "('/bin/sh', '-c', words)",
    "a package of the same name": "from agent.commands import apps\nfrom . import commands",
    "resources": "from importlib import resources\nresources.files('agent')",
}


@pytest.mark.parametrize("source", EVASIONS.values(), ids=EVASIONS.keys())
def test_a_way_around_the_ban_is_caught(source: str) -> None:
    assert findings(source)


@pytest.mark.parametrize("source", FINE.values(), ids=FINE.keys())
def test_what_is_harmless_passes(source: str) -> None:
    assert findings(source) == []


def test_a_finding_says_where_what_and_why() -> None:
    [found] = findings("import os as o\n\no.system(words)")
    assert found == (3, "os.system", "a shell would read what users wrote")


@pytest.mark.parametrize("text", ["/bin/sh", "bash", "bash -c 'ls'", "/usr/bin/zsh -lc ls"])
def test_a_text_that_is_a_shell_is_found(text: str) -> None:
    assert [one.value for one in named_shells(ast.parse(f"x = {text!r}"))] == [text]


@pytest.mark.parametrize(
    "text",
    [
        *("GIT_SSH_COMMAND", "GIT_PAGER", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "GIT_PROXY_COMMAND"),
        *(
            "GIT_EXTERNAL_DIFF",
            "core.sshCommand=ssh",
            "alias.x=!ls",
            "credential.helper=!ls",
            "uploadpack.packObjectsHook=ls",
        ),
        *("filter.x.smudge=ls", "diff.x.textconv=ls", "merge.x.driver=ls", "ext::ls", "  ProxyCommand nc %h %p\n"),
        *("LocalCommand ls", "KnownHostsCommand ls", "Match exec ls"),
    ],
)
def test_what_makes_git_or_ssh_start_a_shell_is_found(text: str) -> None:
    assert [line for line, _ in doors(ast.parse(f"x = {text!r}"))] == [1]


@pytest.mark.parametrize("text", ["ProxyCommand none", "PermitLocalCommand no", "GIT_SSH", "core.fsmonitor=false"])
def test_what_forbids_it_passes(text: str) -> None:
    assert list(doors(ast.parse(f"x = {text!r}"))) == []
