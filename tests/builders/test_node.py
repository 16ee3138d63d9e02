"""What is made of Node apps."""

from __future__ import annotations

import json

import pytest

from agent.builders.files import Files
from agent.builders.node import Node
from agent.builders.node_manifests import resolved
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why
from tests.fakes.source import FakeTree

NODE = Node()


def app(**package: object) -> dict[str, str]:
    """Return an app with these words in its package.json."""
    start: dict[str, object] = {"scripts": {"start": "node server.js"}}
    return {"package.json": json.dumps({**start, **package}), "server.js": ""}


BUILT = {"scripts": {"build": "tsc", "start": "node dist/main.js --x='a b'"}, "devDependencies": {"typescript": "5"}}
SPACES = {
    **app(workspaces=["packages/*"], engines={"node": "20.x"}),
    "packages/web/package.json": "{}",
    "packages/lib/package.json": "{}",
    "node_modules/x/package.json": "{}",
    "package-lock.json": "{}",
    ".npmrc": "",
}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("node-npm", {**app(), "package-lock.json": "{}", ".nvmrc": "v22.11.0\n"}),
        ("node-npm-built", {**app(**BUILT), "package-lock.json": "{}"}),
        ("node-npm-workspaces", SPACES),
        ("node-pnpm", {**app(**BUILT), "pnpm-lock.yaml": "lockfileVersion: '9.0'\n"}),
        ("node-yarn", {**app(**BUILT), "yarn.lock": "# yarn lockfile v1\n"}),
        ("node-berry", {**app(**BUILT, packageManager="yarn@4.5.1+sha512.x"), "yarn.lock": "__metadata:\n"}),
        ("node-bun", {**app(**BUILT), "bun.lock": "{}"}),
    ],
)
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(NODE, files))


async def test_a_procfile_at_another_place_says_what_to_run_as_well() -> None:
    tree = FakeTree("1" * 40, {"package.json": b"{}", "deploy/Procfile": b"web: node deploy/serve.js"})
    assert await (await Files.of(tree, BuildOptions(procfile_path="deploy/Procfile"))).has_processes()
    assert not await (await Files.of(tree, BuildOptions())).has_processes()


async def test_on_debian_the_package_manager_stays_behind_unless_it_starts_the_app() -> None:
    options, images = BuildOptions(base_image=DEBIAN), store(DEBIAN)
    agrees("node-on-debian", await dockerfile(NODE, {**app(), "package-lock.json": "{}"}, options, images=images))
    files = {**app(), "Procfile": "web: npm run serve"}
    assert "install --no-install-recommends ca-certificates nodejs npm" in await dockerfile(
        NODE, files, options, images=images
    )


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({**app(), "package-lock.json": "{}"}, "package-lock.json, so Node with npm; web: node server.js"),
        ({**app(engines={"node": "^20 || >=22"}), "yarn.lock": ""},
         "yarn.lock and package.json, so Node ^20 || >=22 with yarn; web: node server.js"),
        ({**app(), ".nvmrc": "lts/iron"}, "package.json and .nvmrc, so Node 20 with npm; web: node server.js"),
        ({"package.json": '{"main": "lib/app.js"}', "lib/app.js": ""},
         "package.json, so Node with npm; web: node lib/app.js"),
        ({"package.json": "{}", "Procfile": "web: node x.js"}, "package.json, so Node with npm"),
        (app(scripts={"start": "next start", "build": "next build"}),
         "package.json, so Node with npm; web: next start"),
        (app(scripts={"prestart": "node migrate.js", "start": "node server.js"}),
         "package.json, so Node with npm; web: node migrate.js && exec node server.js"),
        (app(scripts={"start": "yarn serve", "serve": "npm run x", "x": "node $MAIN"}),
         "package.json, so Node with npm; web: node $MAIN"),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(NODE, files) == says


@pytest.mark.parametrize(
    "package",
    [
        {"scripts": {"build": "vite build"}},
        {"scripts": {"build": "react-scripts build", "start": "react-scripts start"}},
        {"scripts": {"build": "ng build", "start": "ng serve --port 1"}},
        {"name": "nothing-but-tools"},
    ],
)
async def test_what_has_nothing_to_start_is_left_to_others(package: dict[str, object]) -> None:
    assert await sketch(NODE, {"package.json": json.dumps(package), "index.html": ""}) is None


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"package.json": '{\n  "name": x\n}'}, "Line 2 of package.json cannot be read: Expecting value"),
        ({"package.json": "[" * 100_000}, "package.json cannot be read: it nests too deeply"),
        ({"package.json": "[]"}, "Line 1 of package.json is no object"),
        (app(engines={"node": "20; echo"}), "package.json asks for Node '20; echo', which is not a version"),
    ],
)
async def test_mistakes_are_named_with_what_to_do(files: dict[str, str], says: str) -> None:
    assert says in await refusal(NODE, files)


@pytest.mark.parametrize("evil", ["npm@1.2.3\nRUN x", "pnpm@$(x)", "yarn@../x", "evil@1.2.3", 7, {"a": 1}])
async def test_a_package_manager_that_is_none_is_not_taken(evil: object) -> None:
    text = await dockerfile(NODE, {**app(packageManager=evil), "package-lock.json": "{}"})
    assert text == await dockerfile(NODE, {**app(), "package-lock.json": "{}"})


@pytest.mark.parametrize("start", ['node "x\\', "node x\nRUN evil", 'node "]\n', "node 'é'; $(x) `y`"])
async def test_a_start_script_stays_in_its_line_whatever_it_is(start: str) -> None:
    text = await dockerfile(NODE, app(scripts={"start": start}))
    command = [line for line in text.splitlines() if line.startswith("CMD ")]
    assert len(command) == 1 and "evil" not in "".join(line for line in text.splitlines() if line.startswith("RUN"))
    assert all(isinstance(word, str) for word in json.loads(command[0].removeprefix("CMD ")))


async def test_scripts_that_run_at_installation_need_the_apps_files_first() -> None:
    files = {**app(scripts={"start": "node server.js", "postinstall": "prisma generate"}), "package-lock.json": "{}"}
    text = await dockerfile(NODE, files)
    assert text.index("COPY . ./") < text.index("npm ci")
    found = await sketch(NODE, files)
    assert found is not None
    assert found.notes == ("Every change of the app installs all again, as package.json has a script postinstall",)


async def test_packages_of_a_workspace_count_for_what_installation_needs_and_what_the_build_leaves() -> None:
    built = {**SPACES, **app(workspaces=["packages/*"], scripts={"build": "tsc -b", "start": "node server.js"})}
    assert "prune" not in await dockerfile(NODE, built)
    assert "npm prune" in await dockerfile(
        NODE, {**built, "packages/lib/package.json": '{"devDependencies": {"x": "1"}}'}
    )
    files = {**SPACES, "packages/lib/package.json": '{"scripts": {"prepare": "node make.js"}}'}
    text = await dockerfile(NODE, files)
    assert text.index("COPY . ./") < text.index("npm ci")
    found = await sketch(NODE, files)
    assert found is not None
    assert found.notes == (
        "Every change of the app installs all again, as packages/lib/package.json has a script prepare",
    )


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "", '{"scripts": 7, "devDependencies": []}'])
async def test_a_package_json_below_that_cannot_be_read_may_be_an_example(text: str) -> None:
    assert await dockerfile(NODE, {**SPACES, "packages/lib/package.json": text}) == await dockerfile(NODE, SPACES)


async def test_without_a_lock_file_it_says_so() -> None:
    found = await sketch(NODE, app())
    assert found is not None and found.notes[0].startswith("There is no lock file for npm")


async def test_large_lock_files_tell_their_kind_too() -> None:
    much = "# x\n" * 100_000
    assert "pnpm@8" in await dockerfile(NODE, {**app(), "pnpm-lock.yaml": f"lockfileVersion: '6.0'\n{much}"})
    assert "cli-dist@4" in await dockerfile(NODE, {**app(), "yarn.lock": f"__metadata:\n{much}"})


def test_a_script_that_only_runs_another_is_followed_and_a_circle_is_nothing() -> None:
    assert resolved({"start": "npm run a", "a": "pnpm b", "b": "node x"}, "start") == "node x"
    assert resolved({"start": "npm run a", "a": "node x", "prea": "y"}, "start") == "npm run a"
    assert resolved({"start": "npm run a", "a": "npm run start"}, "start") == ""
    assert resolved({}, "start") == ""
