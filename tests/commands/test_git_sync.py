"""``git:sync`` and what lets it in: what is deployed, what is answered, and that nothing secret is."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from agent.ports.images import ImageInfo
from agent.ports.remotes import HostKey, Login
from proto.events import DeployKeyCreated, Event, HostKeysChanged, LoginChanged, decode
from proto.wire import Exit
from tests.commands.desk import DOCKERFILE, Desk
from tests.fakes.session import FakeSession

URL = "https://git.example.com/team/blog.git"
FIRST, SECOND = "1" * 40, "2" * 40
OTHER = {**DOCKERFILE, "more": "1"}
TOKEN = "token-canary-41"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4n2lHPlxYGXr0d5G0cYkxpUJbuoN5TvnC6w4p5t9Gh"
ANOTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4n2lHPlxYGXr0d5G0cYkxpUJbuoN5TvnC6w4p5t9Gi"

OF_ANOTHER_TYPE = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBAABAgMEBQYHCAkKCw"
    "wNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
)


async def test_a_repository_elsewhere_goes_live_as_a_push_does(desk: Desk) -> None:
    app = await desk.core.create("blog")
    desk.core.remotes.have(URL, FIRST, DOCKERFILE, ref="trunk")
    answer = await desk.meanwhile(f"git:sync --build blog {URL}")
    assert answer.status == 0, answer.err
    assert f"-----> Fetching blog from {URL}" in answer.out and "Receiving objects: 100%" in answer.out
    newest = await desk.database.read.deploys.newest(app.id)
    assert newest and (newest.kind, newest.status, newest.commit_id) == ("push", "live", FIRST)
    assert newest.why == f"sync of trunk from {URL}"
    assert await desk.database.read.properties.get(app.id, "git.deploy-branch") == "trunk"
    assert desk.core.repos.heads[app.id] == "trunk"


async def test_without_a_wish_to_build_it_is_fetched_and_waits_for_a_rebuild(desk: Desk) -> None:
    app, _ = await desk.deployed()
    desk.core.remotes.have(URL, FIRST, OTHER)
    answer = await desk.give(f"git:sync blog {URL}")
    assert answer.status == 0 and "To deploy it: ps:rebuild blog" in answer.out
    assert len(await desk.database.read.deploys.of_app(app.id)) == 1
    again = await desk.give(f"git:sync blog {URL}")
    assert again.status == 0 and "main is at 11111111 already: nothing has changed there" in again.out
    status = await desk.give("git:status blog --format json")
    assert status.json() == {
        "app": "blog",
        "deploy_branch": "main",
        "branches": {"main": FIRST},
        "live_sha": "c" * 40,
        "is_dirty": True,
    }
    assert (await desk.meanwhile("ps:rebuild blog")).status == 0
    newest = await desk.database.read.deploys.newest(app.id)
    assert newest and newest.commit_id == FIRST and newest.status == "live"
    assert "which is not live" not in (await desk.give("git:status blog")).out


async def test_what_was_deployed_last_is_built_again_only_when_that_is_said(desk: Desk) -> None:
    app = await desk.core.create("blog")
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    assert (await desk.meanwhile(f"git:sync --build-if-changes blog {URL}")).status == 0
    same = await desk.meanwhile(f"git:sync --build-if-changes blog {URL}")
    assert same.status == 0 and "Skipping build as no changes were detected" in same.out
    assert len(await desk.database.read.deploys.of_app(app.id)) == 1
    assert (await desk.meanwhile(f"git:sync --build blog {URL}")).status == 0
    assert len(await desk.database.read.deploys.of_app(app.id)) == 2
    both = await desk.give(f"git:sync --build --build-if-changes blog {URL}")
    assert both.status == Exit.FAILED and "Say one of them" in both.err


async def test_a_rollback_stays_until_there_is_something_new_and_a_failure_is_told(desk: Desk) -> None:
    app = await desk.core.create("blog")
    for commit, files in ((FIRST, DOCKERFILE), (SECOND, OTHER)):
        desk.core.remotes.have(URL, commit, files)
        assert (await desk.meanwhile(f"git:sync --build-if-changes blog {URL}")).status == 0
    assert (await desk.meanwhile("releases:rollback blog v1")).status == 0
    assert "Skipping build" in (await desk.meanwhile(f"git:sync --build-if-changes blog {URL}")).out
    desk.core.remotes.have(URL, "3" * 40, {"Dockerfile": "RUN false"})
    assert (await desk.meanwhile(f"git:sync --build-if-changes blog {URL}")).status == Exit.FAILED
    told = await desk.meanwhile(f"git:sync --build-if-changes blog {URL}")
    assert told.status == 0 and "has failed. To build it again: ps:rebuild blog" in told.out
    assert len(await desk.database.read.deploys.of_app(app.id)) == 4


async def test_what_was_fetched_and_not_recorded_is_deployed_by_asking_again(desk: Desk) -> None:
    app = await desk.core.create("blog")
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    assert (await desk.meanwhile(f"git:sync --build-if-changes blog {URL}")).status == 0
    desk.core.remotes.have(URL, SECOND, OTHER)
    # As a crash between git and the database leaves it.
    desk.core.repos.put(app.id, SECOND, OTHER)
    assert (await desk.meanwhile(f"git:sync --build-if-changes blog {URL}")).status == 0
    newest = await desk.database.read.deploys.newest(app.id)
    assert newest and newest.commit_id == SECOND and newest.status == "live"


async def test_a_named_branch_becomes_the_deploy_branch_unless_that_is_not_wanted(desk: Desk) -> None:
    app = await desk.core.create("blog")
    read = desk.database.read.properties
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    desk.core.remotes.have(URL, SECOND, OTHER, ref="next")
    desk.core.remotes.have(URL, "3" * 40, OTHER, ref="v3", kind="tag")
    assert (await desk.give(f"git:sync blog {URL}")).status == 0
    assert (await desk.give(f"git:sync --skip-deploy-branch blog {URL} next")).status == 0
    assert await read.get(app.id, "git.deploy-branch") == "main"
    assert await desk.core.repos.tip(app.id, "main") == SECOND
    assert (await desk.give(f"git:sync blog {URL} v3")).status == 0
    assert await desk.core.repos.tip(app.id, "main") == "3" * 40
    assert (await desk.give(f"git:sync blog {URL} next")).status == 0
    assert await read.get(app.id, "git.deploy-branch") == "next" and desk.core.repos.heads[app.id] == "next"
    # From now on that one is meant where none is named.
    assert (await desk.give(f"git:sync blog {URL}")).out.count(f"{URL}#next") == 1


async def test_who_leaves_while_it_is_fetched_has_changed_nothing(desk: Desk) -> None:
    app = await desk.core.create("blog")
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    desk.core.remotes.gate.clear()
    session = FakeSession()
    asked = asyncio.create_task(desk.give_as(f"git:sync --build blog {URL}", session))
    await session.printed("Receiving objects")
    session.left.set()
    assert (await asked).status == Exit.FAILED
    assert await desk.core.repos.branches(app.id) == []
    assert await desk.database.read.deploys.of_app(app.id) == []
    assert await desk.database.read.properties.get(app.id, "git.deploy-branch") is None


async def test_history_that_was_rewritten_and_what_is_missing_are_told(desk: Desk) -> None:
    await desk.core.create("blog")
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    assert "rewritten" not in (await desk.give(f"git:sync blog {URL}")).out
    desk.core.remotes.have(URL, SECOND, OTHER, is_rewritten=True, notes=("The submodule lib will be missing.",))
    told = (await desk.give(f"git:sync blog {URL}")).out
    assert " !     main was rewritten there: 11111111 is no part of it any more\n" in told
    assert " !     The submodule lib will be missing.\n" in told
    assert "main is at 22222222 now" in told


async def test_scripts_get_the_outcome_of_a_sync(desk: Desk) -> None:
    await desk.core.create("blog")
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    fetched = (await desk.give(f"git:sync blog {URL} --format json")).json()
    assert fetched == {"app": "blog", "branch": "main", "commit": FIRST, "changed": True, "notes": [], "deploy": None}
    built = (await desk.meanwhile(f"git:sync --build blog {URL} --format json")).json()
    assert built["changed"] is False and built["deploy"]["status"] == "live"  # type: ignore[index]


async def test_an_address_that_is_none_is_refused_and_a_password_in_it_is_not_repeated(desk: Desk) -> None:
    await desk.core.create("blog")
    for url in ("file:///etc", "http://git.example.com/a.git", "'ext::sh -c id'", "-u", "/srv/git", "git@-x:a"):
        answer = await desk.give(f"git:sync blog -- {url}")
        assert answer.status == Exit.FAILED and "is not the address of a repository" in answer.err, answer
    for url in (f"https://ann:{TOKEN}@git.example.com/a.git", f"https://{TOKEN}@git.example.com/a.git"):
        answer = await desk.give(f"git:sync blog {url}")
        assert "git:auth HOST USER < password-file" in answer.err and TOKEN not in answer.err
    assert (await desk.give(f"git:sync nope {URL}")).status == Exit.NO_SUCH_APP
    assert desk.core.remotes.accesses == []


async def test_a_login_is_sealed_shown_nowhere_and_can_be_forgotten(desk: Desk, tmp_path: Path) -> None:
    await desk.core.create("blog")
    set_ = await desk.give("git:auth Git.Example.com:443 ann", f"{TOKEN}\n".encode())
    assert set_.status == 0 and "Signing in at git.example.com as ann" in set_.out
    assert (await desk.give(f"git:auth other.example.com:8443 bob {TOKEN}")).status == 0
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    synced = await desk.give(f"git:sync blog {URL}")
    assert desk.core.remotes.accesses[-1].logins["git.example.com"] == Login("ann", TOKEN)
    report = await desk.give("git:report --global --git-global-auth-hosts")
    assert report.out == "ann@git.example.com bob@other.example.com:8443\n"
    everything = [set_, synced, report, await desk.give("git:report blog"), await desk.give("events")]
    assert not [answer for answer in everything if TOKEN in answer.out + answer.err]
    with sqlite3.connect(tmp_path / "state.db") as stored:
        assert TOKEN not in "\n".join(stored.iterdump()) and TOKEN.encode().hex() not in "\n".join(stored.iterdump())
    assert (await desk.give("git:auth git.example.com")).status == 0
    assert set(await desk.database.read.logins.users()) == {"other.example.com:8443"}
    assert "There was no login" in (await desk.give("git:auth git.example.com")).out
    events = [event for event in await emitted(desk) if isinstance(event, LoginChanged)]
    assert [(event.host, event.user) for event in events][::2] == [("git.example.com", "ann"), ("git.example.com", "")]


async def test_a_login_that_makes_no_sense_is_refused(desk: Desk) -> None:
    for line, stdin in (
        ("git:auth git.example.com ann", b""),
        ("git:auth git.example.com ann", b"two\nlines\n"),
        ("git:auth git.example.com a:b", b"x"),
        ("git:auth -- -o x", b"x"),
        ("git:auth 169.254.169.254 ann", b"x"),
        ("git:auth 'a b' ann", b"x"),
    ):
        answer = await desk.give(line, stdin)
        assert answer.status == Exit.FAILED, line
    assert (await desk.give("git:auth git.example.com ann", is_tty=True)).status == Exit.FAILED
    assert await desk.database.read.logins.users() == {}


async def test_a_server_is_known_by_the_keys_that_were_shown_until_it_is_replaced(desk: Desk) -> None:
    remotes = desk.core.remotes
    remotes.keys["git.example.com"] = [HostKey(KEY, "SHA256:first")]
    shown = await desk.give("git:allow-host git.example.com")
    assert shown.status == 0 and "SHA256:first (ssh-ed25519)" in shown.out and "Compare them" in shown.out
    assert "is known by these keys" in (await desk.give("git:allow-host git.example.com:22")).out
    remotes.keys["git.example.com"] = [HostKey(ANOTHER, "SHA256:second")]
    changed = await desk.give("git:allow-host git.example.com")
    assert changed.status == Exit.FAILED and "is known by other keys" in changed.err and "--replace" in changed.err
    # Who is in between can show the key that is known, and one of his own with it.
    remotes.keys["git.example.com"] = [HostKey(KEY, "SHA256:first"), HostKey(OF_ANOTHER_TYPE, "SHA256:his")]
    assert (await desk.give("git:allow-host git.example.com")).status == Exit.FAILED
    assert await desk.database.read.host_keys.all() == {"git.example.com": (KEY,)}
    remotes.keys["git.example.com"] = [HostKey(ANOTHER, "SHA256:second")]
    assert (await desk.give("git:allow-host git.example.com --replace")).status == 0
    beside = await desk.give(f"git:allow-host git.example.com --key '{OF_ANOTHER_TYPE}'")
    assert beside.status == 0
    assert set((await desk.database.read.host_keys.all())["git.example.com"]) == {ANOTHER, OF_ANOTHER_TYPE}
    assert (await desk.give(f"git:allow-host git.example.com --key '{KEY}'")).status == Exit.FAILED
    assert (await desk.give("git:allow-host git.example.com --replace")).status == 0
    given = await desk.give(f"git:allow-host other.example.com:2222 --key '{KEY}'")
    assert given.status == 0 and "Compare them" not in given.out
    assert await desk.database.read.host_keys.all() == {
        "git.example.com": (ANOTHER,),
        "other.example.com:2222": (KEY,),
    }
    assert (await desk.give("git:allow-host nowhere.example.com")).status == Exit.FAILED
    assert (await desk.give("git:allow-host git.example.com --key nonsense")).status == Exit.FAILED
    assert (await desk.give("git:allow-host git.example.com --remove")).status == 0
    assert "was not known" in (await desk.give("git:allow-host git.example.com --remove")).out
    assert (await desk.give("git:report --global --git-global-allowed-hosts")).out == "other.example.com:2222\n"
    assert len([event for event in await emitted(desk) if isinstance(event, HostKeysChanged)]) == 6


async def test_an_app_has_a_key_of_its_own_whose_private_half_goes_with_it(desk: Desk, tmp_path: Path) -> None:
    app = await desk.core.create("blog")
    none = await desk.give("git:public-key blog")
    assert none.status == Exit.FAILED and "git:generate-deploy-key blog" in none.err
    made = await desk.give("git:generate-deploy-key blog")
    public = (await desk.give("git:public-key blog")).out
    assert public.startswith("ssh-ed25519 AAAA") and public.endswith(" blog@pushboat\n")
    twice = await desk.give("git:generate-deploy-key blog")
    assert twice.status == Exit.FAILED and (await desk.give("git:public-key blog")).out == public
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    assert (await desk.give(f"git:sync blog {URL}")).status == 0
    private = desk.core.remotes.accesses[-1].key
    middle = private.splitlines()[2]
    assert "OPENSSH PRIVATE KEY" in private and middle not in made.out
    with sqlite3.connect(tmp_path / "state.db") as stored:
        assert middle not in "\n".join(stored.iterdump())
    assert (await desk.give("git:generate-deploy-key blog --force")).status == 0
    assert (await desk.give("git:public-key blog")).out != public
    fingerprint = (await desk.give("git:report blog --git-deploy-key")).out.strip()
    assert fingerprint.startswith("SHA256:")
    events = [event for event in await emitted(desk) if isinstance(event, DeployKeyCreated)]
    assert [event.app for event in events] == [app.id] * 2 and events[-1].fingerprint == fingerprint
    other = await desk.core.create("shop")
    desk.core.remotes.have(URL, FIRST, DOCKERFILE)
    assert (await desk.give(f"git:sync shop {URL}")).status == 0 and desk.core.remotes.accesses[-1].key == ""
    assert await desk.database.read.deploy_keys.get(other.id) is None
    assert (await desk.meanwhile("apps:destroy blog --force")).status == 0
    await desk.core.settle()
    with sqlite3.connect(tmp_path / "state.db") as stored:
        assert stored.execute("SELECT count(*) FROM deploy_keys").fetchone() == (0,)


async def test_a_repository_can_be_made_beforehand(desk: Desk) -> None:
    app = await desk.core.create("blog")
    for _ in range(2):
        assert (await desk.give("git:initialize blog")).status == 0
    assert app.id in desk.core.repos.made
    status = await desk.give("git:status blog")
    assert "There is no branch yet." in status.out and "Nothing is live yet." in status.out


async def test_an_image_that_is_live_is_deployed_again_only_when_that_is_said(desk: Desk) -> None:
    app = await desk.core.create("blog")
    for number, image in enumerate(("nginx:1", f"nginx@sha256:{'a' * 64}")):
        desk.core.images.have(ImageInfo(id=f"sha256:image{number}", ports=(80,)), image)
        assert (await desk.meanwhile(f"git:from-image blog {image}")).status == 0
        count = len(await desk.database.read.deploys.of_app(app.id))
        same = await desk.meanwhile(f"git:from-image blog {image}")
        assert same.status == 0 and f"No changes detected: blog runs {image} already" in same.out, same
        assert len(await desk.database.read.deploys.of_app(app.id)) == count
        assert (await desk.meanwhile(f"git:from-image blog {image} --force")).status == 0
        assert len(await desk.database.read.deploys.of_app(app.id)) == count + 1


REFERENCE = "registry.example.com/shop:1"


def shelve(desk: Desk, number: int) -> None:
    """Have the registry mean this image by `REFERENCE`."""
    digest = f"sha256:{number:064}"
    image = ImageInfo(id=f"sha256:shop{number}", ports=(80,), digests=(f"registry.example.com/shop@{digest}",))
    desk.core.images.registry[REFERENCE] = image
    desk.core.registries.digests[REFERENCE] = digest


async def test_a_tag_is_asked_for_in_its_registry_and_deployed_again_only_if_it_means_another_image(desk: Desk) -> None:
    app = await desk.core.create("blog")
    shelve(desk, 1)
    assert (await desk.meanwhile(f"git:from-image blog {REFERENCE}")).status == 0
    assert REFERENCE not in desk.core.images.tags, "the machine keeps it by a name of ours alone"
    assert desk.core.registries.asked == []
    same = await desk.meanwhile(f"git:from-image blog {REFERENCE}")
    assert same.status == 0 and f"No changes detected: blog runs {REFERENCE} already" in same.out
    assert "Asking registry.example.com whether" in same.out and f"git:from-image blog {REFERENCE} --force" in same.out
    by_digest = f"registry.example.com/shop@sha256:{1:064}"
    assert "No changes detected" in (await desk.meanwhile(f"git:from-image blog {by_digest}")).out
    assert len(await desk.database.read.deploys.of_app(app.id)) == 1
    assert (await desk.meanwhile(f"git:from-image blog {REFERENCE} --force")).status == 0
    shelve(desk, 2)
    assert (await desk.meanwhile(f"git:from-image blog {REFERENCE}")).status == 0
    releases = await desk.database.read.releases.of_app(app.id)
    assert [(release.image, release.plan.digest[-1]) for release in releases] == [
        ("sha256:shop2", "2"), ("sha256:shop1", "1"), ("sha256:shop1", "1"),
    ]  # fmt: skip
    # A registry that does not say is asked for the image itself, and what it says then is told.
    desk.core.registries.digests.clear()
    desk.core.images.registry.clear()
    assert "There is no image" in (await desk.meanwhile(f"git:from-image blog {REFERENCE}")).out


async def test_a_release_is_pinned_to_the_digest_that_it_came_by_and_so_is_what_goes_back_to_it(desk: Desk) -> None:
    app = await desk.core.create("blog")
    for number in (1, 2):
        shelve(desk, number)
        assert (await desk.meanwhile(f"git:from-image blog {REFERENCE}")).status == 0
    pinned = f"registry.example.com/shop@sha256:{1:064}"
    assert f"From:            {pinned}" in (await desk.give("releases:info blog v1")).out
    assert (await desk.give("releases:info blog v1 --format json")).json()["digest"] == pinned  # type: ignore[index]
    # The tag means the second by now, and does not matter.
    assert (await desk.meanwhile("releases:rollback blog v1")).status == 0
    for line in ("ps:restart blog", "ps:rebuild blog"):
        assert (await desk.meanwhile(line)).status == 0
    releases = await desk.database.read.releases.of_app(app.id)
    assert [(one.image, one.plan.digest) for one in releases][:3] == [("sha256:shop1", pinned)] * 3
    async with desk.database.transaction() as tx:
        await tx.releases.forget_image(app.id, 2)
    gone = await desk.give("releases:rollback blog v2")
    assert gone.status == Exit.FAILED
    assert f"git:from-image blog registry.example.com/shop@sha256:{2:064}" in gone.err


async def test_whether_builds_get_a_git_folder_is_true_or_false(desk: Desk) -> None:
    await desk.core.create("blog")
    assert (await desk.give("git:report blog --git-computed-keep-git-dir")).out == "false\n"
    assert (await desk.give("git:set blog keep-git-dir yes")).status == Exit.FAILED
    assert (await desk.give("git:set blog keep-git-dir true")).status == 0
    assert (await desk.give("git:report blog --git-computed-keep-git-dir")).out == "true\n"


async def emitted(desk: Desk) -> list[Event]:
    """Return every event so far."""
    return [decode(stored.body) for stored in await desk.database.read.outbox.events(limit=1_000)]


async def test_processes_know_their_commit_by_the_variable_that_was_chosen_or_by_none(desk: Desk) -> None:
    await desk.deployed()
    for value, expected in (("REVISION", {"REVISION": "c" * 40}), ("''", {})):
        assert (await desk.give(f"git:set blog rev-env-var {value}")).status == 0
        assert (await desk.meanwhile("ps:restart blog")).status == 0
        wishes = list(desk.core.scheduler.wishes.values())
        newest = max(wish.release for wish in wishes)
        told = [wish.env for wish in wishes if wish.release == newest]
        assert told and all(
            {key: env[key] for key in ("GIT_REV", "REVISION") if key in env} == expected for env in told
        )
