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


async def test_modules_in_the_repository_come_with_their_manifests_before_others_are_fetched() -> None:
    replaced = (
        "module x\ngo 1.22\nreplace example.com/a => ./libs/a // own\nreplace (\n\tb v1.0.0 => ./libs/b\n"
        "\tc => example.com/d v1.0.0\n\t// e => ./libs/e\n)\n"
    )
    files = {
        "go.mod": replaced, "go.sum": "", "main.go": MAIN, "libs/a/go.mod": "replace f => ./f", "libs/a/go.sum": "",
        "libs/b/go.mod": "", "libs/e/go.mod": "", "libs/a/f/go.mod": "",
    }  # fmt: skip
    agrees("go-replaced", await dockerfile(GO, files))


async def test_a_workspace_is_fetched_with_the_manifests_of_all_its_modules() -> None:
    work = 'go 1.23\n\nuse (\n\t.\n\t./shared // ours\n\t"./tools"\n)\nuse ./cli\n\nreplace x => ./patched\n'
    files = {
        "go.mod": MOD, "main.go": MAIN, "go.work": work, "go.work.sum": "", "cli/go.mod": "replace y => ../other",
        **{f"{name}/go.mod": "" for name in ("shared", "tools", "patched", "other", "alone")},
    }  # fmt: skip
    agrees("go-workspace", await dockerfile(GO, files))
    assert await why(GO, files) == "go.mod and go.work, so Go >=1.23; web: /app/bin/shop"


@pytest.mark.parametrize("place", ["../lib", "./a b", "./$(x)", "./x;y"])
async def test_modules_in_unusual_places_are_fetched_when_all_files_are_there(place: str) -> None:
    text = await dockerfile(GO, {"go.mod": f"module x\nreplace a => {place}\n", "main.go": MAIN})
    if " " in place:
        assert "COPY go.mod ./" in text  # no path, so Go will say what it is
    else:
        assert "go mod download" not in text and text.index("COPY . ./") < text.index("go build")


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
        ({"go.mod": MOD, "x.go": MAIN, "go.work": "go one\n"}, "Line 1 of go.work asks for Go 'one', which"),
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
