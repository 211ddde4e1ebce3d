"""Following a directory of manifests on a real file system."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hookcast_app.subscriptions import Loaded, files, load, watch
from hookcast_core.configuration import Configuration
from hookcast_core.egress import EgressPolicy

KEY = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
POLICY = EgressPolicy([])
LOOK_MS = 100
PATIENCE = 15
"""Seconds after which a change that was not noticed is a failure."""


def subscription(name: str, url: str = "https://shop.example/hooks") -> str:
    """A document."""
    return (
        "---\napiVersion: hookcast.dev/v1alpha1\nkind: WebhookSubscription\n"
        f"metadata: {{name: {name}}}\nspec: {{endpoint: {{url: '{url}'}}, events: {{types: ['*']}}}}\n"
    )


@asynccontextmanager
async def watching(
    directory: Path, previous: Configuration | None = None
) -> AsyncGenerator[AsyncIterator[Loaded], None]:
    """The changes of a directory."""
    async with (
        asyncio.timeout(PATIENCE),
        aclosing(watch(directory, previous, lambda _: KEY, POLICY, look_ms=LOOK_MS)) as changes,
    ):
        yield changes


async def until(changes: AsyncIterator[Loaded], *urls: str) -> Loaded:
    """The first configuration with exactly these URLs; what was read half-way is passed over."""
    async for loaded in changes:
        if sorted(entry.url for entry in loaded.configuration.entries) == sorted(urls):
            return loaded
    raise AssertionError("the watch ended")


async def test_files_that_come_change_and_go_are_followed(tmp_path: Path) -> None:
    """Each change gives the configuration after it, sequences rising."""
    async with watching(tmp_path) as changes:
        empty = await until(changes)
        (tmp_path / "a.yaml").write_text(subscription("a", "https://one.example"))
        created = await until(changes, "https://one.example/")
        (tmp_path / "a.yaml").write_text(subscription("a", "https://two.example"))
        changed = await until(changes, "https://two.example/")
        (tmp_path / "a.yaml").unlink()
        removed = await until(changes)

    sequences = [loaded.configuration.sequence for loaded in (empty, created, changed, removed)]
    assert sequences == sorted(set(sequences))
    assert changed.configuration.entries[0].generation > created.configuration.entries[0].generation


async def test_the_watch_begins_where_the_load_ended(tmp_path: Path) -> None:
    """What changed between the two is the first thing given; what did not is not given again."""
    (tmp_path / "a.yaml").write_text(subscription("a", "https://one.example"))
    loaded = load(tmp_path, None, lambda _: KEY, POLICY)
    (tmp_path / "a.yaml").write_text(subscription("a", "https://two.example"))

    async with watching(tmp_path, loaded.configuration) as changes:
        first = await anext(changes)

    assert [entry.url for entry in first.configuration.entries] == ["https://two.example/"]
    assert first.configuration.sequence == 2


async def test_nothing_is_given_when_nothing_changed(tmp_path: Path) -> None:
    """A file that is written again as it was, or a foreign one, is no change: the next one given is the real one."""
    (tmp_path / "a.yaml").write_text(subscription("a"))
    loaded = load(tmp_path, None, lambda _: KEY, POLICY)

    async with watching(tmp_path, loaded.configuration) as changes:
        upcoming = asyncio.ensure_future(anext(changes))
        (tmp_path / "a.yaml").write_text(subscription("a"))
        (tmp_path / "notes.txt").write_text("not ours")
        (tmp_path / "b.yaml").write_text(subscription("b", "https://b.example"))
        first = await upcoming

    assert first.configuration.sequence == 2
    assert len(first.configuration.entries) == 2


async def test_a_mount_that_is_swapped_by_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    """As the kubelet updates a volume: files are links through ..data, which is replaced by a rename."""
    mount = tmp_path / "mount"
    for version in ("one", "two"):
        (mount / f"..{version}").mkdir(parents=True)
        (mount / f"..{version}" / "a.yaml").write_text(subscription("a", f"https://{version}.example"))
    (mount / "..data").symlink_to("..one")
    (mount / "a.yaml").symlink_to("..data/a.yaml")

    async with watching(mount) as changes:
        await until(changes, "https://one.example/")
        (mount / "..data_tmp").symlink_to("..two")
        (mount / "..data_tmp").rename(mount / "..data")
        await until(changes, "https://two.example/")


async def test_a_directory_behind_a_link_may_be_replaced(tmp_path: Path) -> None:
    """`current -> release-2`: the new directory is followed from then on."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(subscription("a", f"https://{version}.example"))
    current = tmp_path / "current"
    current.symlink_to("one")

    async with watching(current) as changes:
        await until(changes, "https://one.example/")
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(current)
        await until(changes, "https://two.example/")
        (tmp_path / "two" / "a.yaml").write_text(subscription("a", "https://three.example"))
        await until(changes, "https://three.example/")


async def test_a_directory_that_goes_leaves_the_last_good_configuration(tmp_path: Path) -> None:
    """It is reported, everything stays in force, and the directory is followed again when it is back."""
    directory = tmp_path / "manifests"
    directory.mkdir()
    (directory / "a.yaml").write_text(subscription("a", "https://one.example"))

    async with watching(directory) as changes:
        await until(changes, "https://one.example/")
        directory.rename(tmp_path / "gone")
        gone = await anext(changes)
        shutil.copytree(tmp_path / "gone", directory)
        (directory / "a.yaml").write_text(subscription("a", "https://two.example"))
        back = await until(changes, "https://two.example/")

    assert [entry.url for entry in gone.configuration.entries] == ["https://one.example/"]
    assert "manifests" in str(gone.problems[0])
    assert back.problems == ()


async def test_a_broken_file_is_reported_and_repaired(tmp_path: Path) -> None:
    """Problems come and go without the configuration changing."""
    (tmp_path / "a.yaml").write_text(subscription("a"))

    async with watching(tmp_path) as changes:
        good = await anext(changes)
        (tmp_path / "a.yaml").write_text("kind: [broken")
        broken = await anext(changes)
        while not broken.problems:
            broken = await anext(changes)
        (tmp_path / "a.yaml").write_text(subscription("a"))
        repaired = await anext(changes)
        while repaired.problems:
            repaired = await anext(changes)

    assert broken.configuration == good.configuration == repaired.configuration


async def test_a_directory_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """It is reported first, and followed from when it appears."""
    directory = tmp_path / "manifests"

    async with watching(directory) as changes:
        missing = await anext(changes)
        directory.mkdir()
        (directory / "a.yaml").write_text(subscription("a", "https://one.example"))
        await until(changes, "https://one.example/")

    assert "manifests" in str(missing.problems[0])


async def test_quiet_looks_give_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing changes the directory is looked at, and not read again."""
    looks, reads = asyncio.Event(), []
    seen = files._signature
    real = files.load

    def signature(directory: Path) -> files.Signature | None:
        signatures.append(seen(directory))
        if len(signatures) > 3:
            loop.call_soon_threadsafe(looks.set)
        return signatures[-1]

    def reading(*arguments: Any) -> Loaded:
        reads.append(arguments)
        return real(*arguments)

    signatures: list[files.Signature | None] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(files, "_signature", signature)
    monkeypatch.setattr(files, "load", reading)
    async with watching(tmp_path) as changes:
        await anext(changes)
        upcoming = asyncio.ensure_future(anext(changes))
        await looks.wait()
        assert not upcoming.done()
        upcoming.cancel()
        await asyncio.wait([upcoming])

    assert len(reads) == 1
