"""What is made of Go apps."""

from __future__ import annotations

import pytest

from agent.builders.go import Go
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why

GO = Go()
MOD = "module example.com/shop/v2\n\ngo 1.22\n"
MAIN = "// Serves.\npackage main\n\nfunc main() {}\n"


async def test_the_dockerfile_of_fetched_modules_reads_as_it_did() -> None:
    agrees("go", await dockerfile(GO, {"go.mod": MOD, "go.sum": "", "serve.go": MAIN}))


async def test_the_dockerfile_of_vendored_modules_reads_as_it_did() -> None:
    files = {
        "go.mod": "module x\ngo 1.19\n",
        "vendor/modules.txt": "",
        "cmd/web/main.go": MAIN,
        "cmd/worker/main.go": MAIN,
    }
    agrees("go-vendored", await dockerfile(GO, files))
    on_debian = await dockerfile(GO, files, BuildOptions(base_image=DEBIAN), images=store(DEBIAN))
    agrees("go-on-debian", on_debian)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"go.mod": MOD, "main.go": MAIN}, "go.mod, so Go >=1.22; web: /app/bin/shop"),
        ({"go.mod": "module x\n", "main.go": MAIN, "Procfile": "web: x"}, "go.mod, so Go"),
        ({"go.mod": MOD, "lib.go": "package shop", "cmd/one/x.go": MAIN}, "go.mod, so Go >=1.22; web: /app/bin/one"),
        ({"go.mod": MOD, "cmd/a/x.go": MAIN, "cmd/shop/x.go": MAIN}, "go.mod, so Go >=1.22; web: /app/bin/shop"),
    ],
)
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(GO, files) == says


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"go.mod": MOD, "lib.go": "package shop"}, "no package main at the root or in a folder below cmd"),
        ({"go.mod": MOD, "main_test.go": MAIN}, "no package main"),
        ({"go.mod": MOD, "cmd/$(x)/x.go": MAIN}, "no package main"),
        ({"go.mod": "module x\ngo 1.22;x\n", "x.go": MAIN}, "Line 2 of go.mod asks for Go '1.22;x', which is no"),
        ({"go.mod": MOD, "cmd/a/x.go": MAIN, "cmd/b/x.go": MAIN}, "the programs are a, b. Say it in a file"),
    ],
)  # fmt: skip
async def test_mistakes_are_named_with_what_to_do(files: dict[str, str], says: str) -> None:
    assert says in await refusal(GO, files)


async def test_a_module_with_a_strange_name_builds_a_program_with_a_plain_one() -> None:
    text = await dockerfile(GO, {"go.mod": "module example.com/$(x)\n", "main.go": MAIN})
    assert "-o bin/app ." in text and "$(x)" not in text


async def test_what_has_no_module_is_left_to_others() -> None:
    assert await sketch(GO, {"main.go": MAIN}) is None
