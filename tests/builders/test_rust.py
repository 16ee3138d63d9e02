"""What is made of Rust apps."""

from __future__ import annotations

import pytest

from agent.builders.rust import Rust
from agent.errors import UserError
from agent.ports.images import BuildOptions
from tests.builders.sketching import DEBIAN, agrees, dockerfile, refusal, sketch, store, why

RUST = Rust()
APP = {"Cargo.toml": '[package]\nname = "shop"\n', "Cargo.lock": "", "src/main.rs": "fn main() {}"}
SPACE = {
    "Cargo.toml": '[workspace]\nmembers = ["crates/*"]\n',
    "Cargo.lock": '[[package]]\nname = "openssl-sys"\n',
    "crates/web/Cargo.toml": '[package]\nname = "web"\nbuild = "gen.rs"\n',
    "crates/web/src/main.rs": "",
    "crates/web/gen.rs": "",
    "crates/core/Cargo.toml": '[package]\nname = "core"\n[lib]\npath = "lib.rs"\n',
    "crates/core/lib.rs": "",
    "crates/tools/Cargo.toml": '[package]\nname = "tools"\n[[bin]]\nname = "tidy"\npath = "tidy.rs"\n',
    "crates/tools/tidy.rs": "",
    "rust-toolchain.toml": '[toolchain]\nchannel = "1.85.0"\n',
}
VENDORED = {
    **APP,
    ".cargo/config.toml": '[source.crates-io]\nreplace-with = "vendored-sources"\n',
    "vendor/x/Cargo.toml": '[package]\nname = "x"\n',
    "vendor/x/src/lib.rs": "",
}


@pytest.mark.parametrize(("name", "files"), [("rust", APP), ("rust-workspace", SPACE), ("rust-vendored", VENDORED)])
async def test_the_dockerfile_reads_as_it_did(name: str, files: dict[str, str]) -> None:
    agrees(name, await dockerfile(RUST, files))


async def test_on_debian_its_own_packages_do() -> None:
    options, images = BuildOptions(base_image=DEBIAN), store(DEBIAN)
    agrees("rust-on-debian", await dockerfile(RUST, VENDORED, options, images=images))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (APP, "Cargo.lock, so Rust; web: /app/bin/shop"),
        (VENDORED, "Cargo.lock, so Rust with what is in vendor; web: /app/bin/shop"),
        (SPACE, "Cargo.lock and rust-toolchain.toml, so Rust 1.85.0; web: /app/bin/web"),
        ({**APP, "rust-toolchain": "nightly-2025-01-01\n"}, "Cargo.lock and rust-toolchain, so nightly; web: "
         "/app/bin/shop"),
        ({**APP, "rust-toolchain": "stable"}, "Cargo.lock and rust-toolchain, so Rust; web: /app/bin/shop"),
        ({**APP, "Cargo.toml": '[package]\nname = "shop"\nrust-version = "1.75"\n', "Procfile": "web: x"},
         "Cargo.lock and Cargo.toml, so Rust >=1.75"),
        ({**APP, "src/bin/worker.rs": "", "src/bin/http/main.rs": ""}, "Cargo.lock, so Rust; web: /app/bin/http"),
        ({**APP, "Cargo.toml": '[package]\nname = "shop"\ndefault-run = "b"\n', "src/bin/b.rs": ""},
         "Cargo.lock, so Rust; web: /app/bin/b"),
        ({**SPACE, "Cargo.toml": '[workspace]\ndefault-members = ["crates/tools"]\n'},
         "Cargo.lock and rust-toolchain.toml, so Rust 1.85.0; web: /app/bin/tidy"),
    ],
)  # fmt: skip
async def test_what_was_found_is_said(files: dict[str, str], says: str) -> None:
    assert await why(RUST, files) == says


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"Cargo.toml": '[package]\nname = "x"\n', "src/lib.rs": ""}, "There is a Cargo.toml, but no program"),
        ({"Cargo.toml": "[package\n"}, "Line 1 of Cargo.toml cannot be read"),
        ({**APP, "rust-toolchain": "1.8;x"}, "rust-toolchain asks for Rust '1.8;x', which is not a version"),
        ({"Cargo.toml": "[workspace]", "a/Cargo.toml": '[package]\nname = "a"', "a/src/main.rs": "",
          "b/Cargo.toml": '[package]\nname = "b"', "b/src/main.rs": ""}, "the programs are a, b. Say it in a file"),
    ],
)  # fmt: skip
async def test_mistakes_are_named_with_what_to_do(files: dict[str, str], says: str) -> None:
    assert says in await refusal(RUST, files)


async def test_a_channel_that_only_rustup_gets_is_refused_on_debian() -> None:
    files = {**APP, "rust-toolchain": "nightly"}
    assert "FROM rust:1-slim-bookworm" in await dockerfile(RUST, files)
    with pytest.raises(UserError, match="wants Rust's nightly") as refused:
        await dockerfile(RUST, files, BuildOptions(base_image=DEBIAN, app_name="blog"), images=store(DEBIAN))
    assert refused.value.hint.endswith("builder:set blog base-image <image>")


async def test_packages_with_unusual_names_are_built_with_their_files_there() -> None:
    files = {**APP, "Cargo.toml": '[package]\nname = "shop"\n[[bin]]\nname = "x"\npath = "a b.rs"\n', "a b.rs": ""}
    text = await dockerfile(RUST, {**files, "Procfile": "web: x"})
    assert text.count("cargo build") == 1 and "a b" not in text


async def test_a_python_package_with_parts_in_rust_is_left_to_python() -> None:
    files = {**APP, "pyproject.toml": '[build-system]\nrequires = ["maturin>=1"]\n'}
    assert await sketch(RUST, files) is None
