"""What is made of Elixir apps."""

from __future__ import annotations

import pytest

from agent.builders.elixir import Elixir
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why

ELIXIR = Elixir()
PLAIN = {"mix.exs": 'def project, do: [app: :shop, version: "1", elixir: "~> 1.14"]\n', "lib/shop.ex": ""}
PHOENIX = {
    "mix.exs": '[app: :shop, elixir: "~> 1.15"]\n{:phoenix, "~> 1.7"}\n"assets.deploy": ["esbuild shop"]\n',
    "mix.lock": '%{\n  "phoenix": {:hex, :phoenix, "1.7.14"},\n}\n',
    "config/config.exs": "",
    "config/prod.exs": "",
    "config/runtime.exs": "",
    "rel/overlays/bin/server": "",
}
FRONT_END = {"assets/package.json": "{}", "assets/package-lock.json": "{}"}
OWN = {"mix.exs": '[app: :shop, deps: [{:greeting, path: "deps/greeting"}]]', "deps/greeting/mix.exs": ""}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("elixir", PLAIN),
        ("elixir-phoenix", PHOENIX),
        ("elixir-phoenix-node", {**PHOENIX, "mix.exs": f'{PHOENIX["mix.exs"]}"assets.deploy"', **FRONT_END}),
        ("elixir-mix", {**PHOENIX, "Procfile": "web: mix phx.server"}),
    ],
)
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(ELIXIR, files))


async def test_on_debian_a_release_runs_where_no_elixir_is_unless_mix_starts_it() -> None:
    options, images = BuildOptions(base_image=DEBIAN), store(DEBIAN)
    agrees("elixir-on-debian", await dockerfile(ELIXIR, OWN, options, images=images))
    text = await dockerfile(ELIXIR, {**PLAIN, "Procfile": "web: mix run --no-halt"}, options, images=images)
    assert "openssl elixir erlang-dev" in text and "mix release" not in text


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (PLAIN, "mix.exs, so Elixir ~> 1.14 and the release shop; web: /app/bin/shop start"),
        (PHOENIX, "mix.lock and mix.exs, so Elixir ~> 1.15 and the release shop; Phoenix, so web: /app/bin/server"),
        ({**PHOENIX, **FRONT_END, "Procfile": "web: mix phx.server"},
         "mix.lock and mix.exs, so Elixir ~> 1.15 with mix, and Node with npm for assets/package.json"),
        ({**PLAIN, ".tool-versions": "erlang 27.1\nelixir 1.17.3-otp-27\n", "Procfile": "web: bin/shop start"},
         "mix.exs and .tool-versions, so Elixir 1.17.3 and the release shop"),
        ({**PLAIN, "elixir_buildpack.config": "erlang_version=26\nelixir_version=1.16.2\n", "Procfile": "web: x"},
         "mix.exs and elixir_buildpack.config, so Elixir 1.16.2 and the release shop"),
        ({"mix.exs": '[apps_path: "apps", releases: [all: [applications: []]]]'},
         "mix.exs, so Elixir and the release all; web: /app/bin/all start"),
        ({**PLAIN, "mix.exs": '[app: :x, elixir: ">= 1.14.0 and < 2.0.0 or ~> 3.0"]', "Procfile": "web: x"},
         "mix.exs, so Elixir >= 1.14.0 and < 2.0.0 or ~> 3.0 and the release x"),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(ELIXIR, files) == says


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"mix.exs": ""}, "mix.exs names no app (app: :name), so what to release is not clear. An umbrella names"),
        ({**PLAIN, "mix.exs": '[app: :x, elixir: "; x"]'}, "mix.exs asks for Elixir '; x', which is not a version"),
    ],
)
async def test_mistakes_are_named_with_what_to_do(files: dict[str, str], says: str) -> None:
    assert says in await refusal(ELIXIR, files)


async def test_hex_is_fetched_for_packages_of_others_alone() -> None:
    assert "mix local.hex" in await dockerfile(ELIXIR, PHOENIX)
    assert "mix local.hex" not in await dockerfile(ELIXIR, OWN)


async def test_phoenix_is_said_to_want_a_secret() -> None:
    found = await sketch(ELIXIR, PHOENIX)
    assert found is not None and "config:set <app> SECRET_KEY_BASE" in found.notes[0]
    assert await sketch(ELIXIR, {"lib/x.ex": ""}) is None
