"""Node apps with packages, patches and programs in their own repository, and what is removed after a build."""

from __future__ import annotations

import pytest

from agent.builders.node import Node
from agent.builders.node_local import UNUSUAL
from agent.builders.static import Static
from tests.builders.sketching import agrees, dockerfile, sketch
from tests.builders.test_node import BUILT, SPACES, app

NODE = Node()
NPM = {"package-lock.json": "{}"}
BERRY = {"yarn.lock": "__metadata:\n"}


async def before_install(files: dict[str, str], install: str) -> str:
    """Return what of the build comes before the installation of packages."""
    text = await dockerfile(NODE, files)
    assert text.count(install) == 1
    return text.partition(install)[0]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (
            "node-local",
            {**app(dependencies={"lib": "file:./libs/lib", "ms": "2", "odd": "file:odd-1.0.0.tgz"}), **NPM,
             "libs/lib/package.json": "{}", "libs/lib/index.js": "", "odd-1.0.0.tgz": ""},
        ),
        (
            "node-berry-local",
            {**app(packageManager="yarn@3.8.7", devDependencies={"typescript": "5"}), **BERRY,
             ".yarnrc.yml": "yarnPath: .yarn/releases/yarn-3.8.7.cjs\n", ".yarn/releases/yarn-3.8.7.cjs": ""},
        ),
    ],
)  # fmt: skip
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(NODE, files))


@pytest.mark.parametrize(
    "value", ["file:libs/lib", "file:./libs/lib/", "link:./libs/lib", "portal:libs/lib", "./libs/lib"]
)
@pytest.mark.parametrize("table", ["dependencies", "devDependencies", "optionalDependencies"])
async def test_a_package_in_a_folder_comes_with_the_manifests(table: str, value: str) -> None:
    files = {**app(**{table: {"lib": value}}), **NPM, "libs/lib/package.json": "{}"}
    before = await before_install(files, "npm ci")
    assert "COPY libs/lib/ libs/lib/" in before and "COPY . ./" not in before
    found = await sketch(NODE, files)
    assert found is not None and found.notes == ()


async def test_a_package_that_a_workspace_names_is_found_from_its_own_folder() -> None:
    files = {
        **SPACES,
        "packages/web/package.json": '{"dependencies": {"lib": "file:../../libs/lib"}}',
        "libs/lib/a.js": "",
    }
    assert "COPY libs/lib/ libs/lib/" in await before_install(files, "npm ci")


async def test_a_package_of_a_workspace_with_a_program_is_there_whole_so_that_scripts_can_call_it() -> None:
    files = {**SPACES, "packages/lib/package.json": '{"bin": {"tool": "cli.js"}}', "packages/lib/cli.js": ""}
    before = await before_install(files, "npm ci")
    assert "COPY packages/lib/ packages/lib/" in before and "COPY packages/web/ " not in before


@pytest.mark.parametrize(
    ("files", "copied"),
    [
        ({**app(pnpm={"patchedDependencies": {"a@1.0.0": "patches/a@1.0.0.patch"}}), "pnpm-lock.yaml": ""},
         "patches/a@1.0.0.patch"),
        ({**app(), "pnpm-lock.yaml": "", "pnpm-workspace.yaml": "patchedDependencies:\n  a@1: 'patches/a.patch'\n"},
         "patches/a.patch"),
        ({**app(patchedDependencies={"b@1": "patches/b.patch"}), "bun.lock": ""},
         "patches/b.patch"),
        ({**app(resolutions={"a": "patch:a@npm%3A1.0.0#./fixes/a.patch"}), **BERRY}, "fixes/a.patch"),
        ({**app(), "pnpm-lock.yaml": "", ".pnpmfile.cjs": ""}, ".pnpmfile.cjs"),
    ],
)  # fmt: skip
async def test_patches_come_with_the_manifests(files: dict[str, str], copied: str) -> None:
    text = await dockerfile(NODE, {**files, copied: ""})
    install = next(word for word in ("pnpm install", "yarn install", "bun install") if word in text)
    before = text[: text.index(f"{install} -")]
    assert copied in before and "COPY . ./" not in before


async def test_yarns_own_files_come_with_the_manifests() -> None:
    files = {**app(), **BERRY, ".yarnrc.yml": "", ".yarn/plugins/@yarnpkg/plugin x.cjs": ""}
    before = await before_install(files, "yarn install")
    assert "COPY .yarn/ .yarn/" in before and "COPY . ./" not in before
    mirror = {**app(), "yarn.lock": "", ".yarnrc": 'yarn-offline-mirror "./mirror"\n', "mirror/a.tgz": ""}
    assert "COPY mirror/ mirror/" in await before_install(mirror, "yarn install")


@pytest.mark.parametrize("value", ["file:.", "file:../lib", "file:/lib", "link:a b", "file:$(x)"])
async def test_what_cannot_be_copied_by_itself_makes_all_files_come_first(value: str) -> None:
    files = {**app(dependencies={"lib": value}), **NPM, "a b/package.json": "{}", "$(x)/package.json": "{}"}
    assert "COPY . ./" in await before_install(files, "npm ci")
    found = await sketch(NODE, files)
    patched = {**app(patchedDependencies={"@s/a@1": "patches/@s%2Fa@1.patch"}), **NPM, "patches/@s%2Fa@1.patch": ""}
    assert "COPY . ./" in await before_install(patched, "npm ci")
    assert found is not None and found.notes == (f"Every change of the app installs all again, as {UNUSUAL}",)


async def test_a_package_that_is_not_there_is_left_to_the_package_manager_to_miss() -> None:
    text = await dockerfile(NODE, {**app(dependencies={"lib": "file:none", "x": 7, "y": "file:"}, bin=1), **NPM})
    assert "none" not in text


async def test_yarn_removes_what_only_a_build_needs_where_nothing_is_built_too() -> None:
    dev = {"devDependencies": {"typescript": "5"}}
    second = await dockerfile(NODE, {**app(**dev, packageManager="yarn@2.4.3"), **BERRY})
    third = await dockerfile(NODE, {**app(**dev, packageManager="yarn@4.9.2"), **BERRY})
    assert third.index("delete found.devDependencies") < third.index("COPY . ./")
    assert "yarn install --mode=skip-build" in third and "cli-dist@4.9.2" in third
    assert "yarn install --skip-builds" in second and "npm install --global --force yarn@2.4.3" in second
    assert "devDependencies" not in await dockerfile(NODE, {**app(), **BERRY})
    # What is served are files, so nothing that was installed is in the image.
    pages = {**app(**dev, scripts={"build": "vite build"}), **BERRY}
    assert "devDependencies" not in await dockerfile(Static(), pages)


@pytest.mark.parametrize(
    ("lock", "bare", "pruned"),
    [
        (
            {"package-lock.json": "{}"},
            "npm ci --no-audit --no-fund --omit=dev",
            "npm prune --omit=dev --ignore-scripts",
        ),
        ({"pnpm-lock.yaml": ""}, "pnpm install --frozen-lockfile --prod\n", "--prod --ignore-scripts"),
        ({"yarn.lock": ""}, "--non-interactive --production\n", "--production --ignore-scripts --prefer-offline"),
        ({"bun.lock": ""}, "bun install --frozen-lockfile --production\n", "rm -rf node_modules"),
    ],
)
async def test_every_manager_leaves_what_only_a_build_needs_out_or_removes_it(
    lock: dict[str, str], bare: str, pruned: str
) -> None:
    text = await dockerfile(NODE, {**app(devDependencies={"typescript": "5"}), **lock})
    assert bare in text and pruned not in text
    text = await dockerfile(NODE, {**app(**BUILT), **lock})
    assert text.index("run build") < text.index(pruned)
