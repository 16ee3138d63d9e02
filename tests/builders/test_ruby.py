"""What is made of Ruby apps."""

from __future__ import annotations

import json

import pytest

from agent.builders.ruby import Ruby
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why

RUBY = Ruby()


def lock(*gems: str, platforms: str = "x86_64-linux", more: str = "") -> str:
    """Return a lock file with these gems."""
    specs = "".join(f"    {gem} (1.0.0)\n      other (>= 1)\n" for gem in gems)
    return f"{more}GEM\n  remote: https://example.com/\n  specs:\n{specs}\nPLATFORMS\n  {platforms}\n\nDEPENDENCIES\n"


RACK = {"Gemfile": 'gem "rack"\n', "Gemfile.lock": lock("rack", "rackup"), "config.ru": ""}
RAILS = {
    "Gemfile": 'ruby "3.3.6"\ngem "rails"\n',
    "Gemfile.lock": lock("rails", "railties", "puma", "propshaft", "pg"),
    "config/application.rb": "",
    "config.ru": "",
}
FRONT_END = {
    "package.json": json.dumps({"scripts": {"build": "esbuild"}, "engines": {"node": "22"}}),
    "package-lock.json": "{}",
}
OWN = "PATH\n  remote: vendor/greeting\n  specs:\n    greeting (1.0.0)\n\n"


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("ruby-rack", RACK),
        ("ruby-rails", RAILS),
        ("ruby-rails-assets", {**RAILS, **FRONT_END}),
        ("ruby-vendored", {**RACK, "vendor/cache/rack-1.0.0.gem": "", ".ruby-version": "ruby-3.2.2\n"}),
    ],
)
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(RUBY, files))


async def test_on_debian_its_own_packages_do_and_gems_of_the_app_need_no_compiler() -> None:
    options, images = BuildOptions(base_image=DEBIAN), store(DEBIAN)
    files = {"Gemfile": "", "Gemfile.lock": lock(more=OWN), "Procfile": "web: x", "vendor/greeting/a.rb": ""}
    agrees("ruby-on-debian", await dockerfile(RUBY, files, options, images=images))
    assets = {**RAILS, **FRONT_END, "Gemfile": "", "package.json": '{"scripts": {"build": "x"}}'}
    text = await dockerfile(RUBY, assets, options, images=images)
    assert "install --no-install-recommends nodejs npm >" in text and "AS node" not in text


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (RACK, "Gemfile.lock, so Ruby with Bundler; config.ru, so web: bundle exec rackup --host 0.0.0.0 "
         '--port "${PORT:-5000}" config.ru'),
        (RAILS, "Gemfile.lock and Gemfile, so Ruby 3.3.6 with Bundler; Rails and puma, so web: bundle exec puma "
         '--port "${PORT:-5000}"'),
        ({**RAILS, **FRONT_END, "Procfile": "web: x"},
         "Gemfile.lock and Gemfile, so Ruby 3.3.6 with Bundler, and Node 22 with npm for package.json"),
        ({**RACK, **FRONT_END, "Procfile": "web: x"}, "Gemfile.lock, so Ruby with Bundler"),
        ({**RAILS, "Gemfile.lock": lock("rails")},
         "Gemfile.lock and Gemfile, so Ruby 3.3.6 with Bundler; Rails, so web: bundle exec rails server "
         '--binding 0.0.0.0 --port "${PORT:-5000}"'),
        ({"Gemfile": 'ruby "~> 3.2", "<3.4"\ngem "puma"', "config.ru": ""},
         "Gemfile, so Ruby ~> 3.2 <3.4 with Bundler; config.ru and puma, so web: bundle exec puma "
         '--port "${PORT:-5000}"'),
        ({**RACK, ".tool-versions": "nodejs 20.1.0\nruby 3.3.1 # x\n", "Procfile": "web: x"},
         "Gemfile.lock and .tool-versions, so Ruby 3.3.1 with Bundler"),
        ({**RACK, "Gemfile.lock": f"{lock('rack')}\nRUBY VERSION\n   ruby 3.2.2p53\n", "Procfile": "web: x"},
         "Gemfile.lock, so Ruby 3.2.2 with Bundler"),
        ({**RACK, "mise.toml": '[tools]\nruby = "3.4"\n', "Procfile": "web: x"},
         "Gemfile.lock and mise.toml, so Ruby 3.4 with Bundler"),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(RUBY, files) == says


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({**RACK, ".ruby-version": "3.2; rm\n"}, ".ruby-version asks for Ruby '3.2; rm', which is not a version"),
        ({**RACK, "Gemfile.lock": lock("rack", platforms="arm64-darwin-23")},
         "Gemfile.lock was made for arm64-darwin-23 alone, and apps run on Linux. Run: bundle lock --add-platform"),
        ({"Gemfile": "", "Gemfile.lock": lock("json")}, "there is no Procfile, and there is no config.ru. Say it in"),
        ({"Gemfile": "", "Gemfile.lock": lock("json"), "config.ru": ""}, "no server is among the gems that config.ru"),
    ],
)  # fmt: skip
async def test_mistakes_are_named_with_what_to_do(files: dict[str, str], says: str) -> None:
    assert says in await refusal(RUBY, files)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({**RACK, "Gemfile": 'eval_gemfile "x"'}, "the Gemfile reads other files"),
        ({**RACK, "Gemfile.lock": lock("rack", more=OWN.replace("vendor/greeting", "."))}, "the app is a gem itself"),
        ({**RACK, "Gemfile.lock": lock("rack", more=OWN.replace("vendor", "$(x)"))}, "folders with unusual names"),
    ],
)
async def test_what_gems_are_installed_from_is_there_first(files: dict[str, str], reason: str) -> None:
    text = await dockerfile(RUBY, files)
    assert text.index("COPY . ./") < text.index("bundle install") and "$(" not in text
    found = await sketch(RUBY, files)
    assert found is not None and reason in found.notes[0]


async def test_a_procfile_with_nothing_but_a_release_task_leaves_the_web_process_to_be_guessed() -> None:
    assert "so web: bundle exec rackup" in await why(RUBY, {**RACK, "Procfile": "release: x"})


async def test_without_a_lock_file_it_says_so_and_does_not_insist_on_one() -> None:
    files = {"Gemfile": "gem 'rack'\n", "config.ru": ""}
    found = await sketch(RUBY, files)
    assert found is not None and found.notes == (
        "There is no Gemfile.lock: two builds may get different versions. Commit it",
    )
    assert "BUNDLE_DEPLOYMENT" not in await dockerfile(RUBY, files)
