"""The embedded Redis: durable, private, alive as long as the app and not a moment longer. A real valkey-server."""

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from hookcast_app.redis import EmbeddedRedis, create_redis
from hookcast_app.redis.binary import Binary, find_binary
from hookcast_app.redis.embedded import RedisDied
from hookcast_app.redis.locks import lock
from hookcast_core.errors import InvalidInput, Reason
from tests.integration.standin_process import group_members, refused, served, until


@asynccontextmanager
async def started(data_dir: Path) -> AsyncIterator[tuple[EmbeddedRedis, Redis]]:
    """An embedded Redis that is supervised, and a client."""
    embedded = EmbeddedRedis(data_dir)
    redis = create_redis(await embedded.start())
    supervisor = asyncio.create_task(embedded.run())
    try:
        yield embedded, redis
    finally:
        await redis.aclose()
        await embedded.stop()
        await supervisor


async def come_true(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    """Waits for `condition`; errors of Redis mean that it is not true yet."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(OSError, Exception):
                if await condition():
                    return
            await asyncio.sleep(0.02)


async def test_what_it_holds_is_there_after_a_restart(tmp_path: Path) -> None:
    """Stopped and started again on the same directory, nothing is lost."""
    async with started(tmp_path / "data") as (_, redis):
        await redis.set("kept", "yes")

    async with started(tmp_path / "data") as (_, redis):
        assert await redis.get("kept") == b"yes"


async def test_it_is_durable_private_and_evicts_nothing(tmp_path: Path) -> None:
    """Fsync before each answer, no TCP port, nobody else may read its files or speak to it."""
    async with started(tmp_path / "data") as (_, redis):
        config = await redis.config_get("*")

        wanted = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}
        wanted |= {"port": "0", "aof-load-truncated": "yes"}
        assert {name: config[name] for name in wanted} == wanted
        directory = tmp_path / "data" / "redis"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "redis.sock").stat().st_mode) == 0o600
        for path in directory.rglob("*"):
            assert not path.stat().st_mode & 0o077, path


async def test_killed_it_comes_back_with_everything(tmp_path: Path) -> None:
    """SIGKILL of Redis: the app survives, Redis comes back with acknowledged writes, nothing is left over."""
    async with started(tmp_path / "data") as (embedded, redis):
        first = embedded.pid
        assert first is not None
        await redis.set("acknowledged", "yes")

        os.kill(first, signal.SIGKILL)

        async def is_back() -> bool:
            return embedded.pid != first and await redis.get("acknowledged") == b"yes"

        await come_true(is_back)
        assert group_members(first) == []


async def test_stopped_it_leaves_nothing_running(tmp_path: Path) -> None:
    """After `stop` there is no process of its group, and the directory can be used at once."""
    embedded = EmbeddedRedis(tmp_path)
    await embedded.start()
    group = embedded.pid
    assert group is not None
    assert len(group_members(group)) == 2

    await embedded.stop()

    await come_true(lambda: _true(not group_members(group)), 2)
    assert embedded.pid is None
    held = await lock(tmp_path / "hookcast.lock", wait_s=0)
    assert held is not None
    os.close(held)


async def test_what_keeps_ending_is_given_up(tmp_path: Path) -> None:
    """A Redis that ends six times within a minute takes the app down, with its last words."""
    embedded = EmbeddedRedis(tmp_path)
    await embedded.start()
    supervisor = asyncio.create_task(embedded.run())
    killed: set[int] = set()

    while not supervisor.done():
        if embedded.pid is not None and embedded.pid not in killed:
            killed.add(embedded.pid)
            with suppress(ProcessLookupError):
                os.kill(embedded.pid, signal.SIGKILL)
        await asyncio.sleep(0.01)

    with pytest.raises(RedisDied, match="ended 6 times within a minute"):
        await supervisor
    await embedded.stop()


async def test_data_that_cannot_be_loaded_is_told_with_redis_own_words(tmp_path: Path) -> None:
    """A broken append-only file is the user's to mend: one line with the file's trouble, no endless restart."""
    async with started(tmp_path) as (_, redis):
        for number in range(20):
            await redis.set(f"key{number}", "value" * 10)
    (written,) = (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")
    content = bytearray(written.read_bytes())
    content[100:120] = b"x" * 20
    written.write_bytes(content)

    with pytest.raises(InvalidInput, match="Bad file format") as caught:
        await EmbeddedRedis(tmp_path).start()

    assert caught.value.reason is Reason.REDIS_UNFIT
    assert caught.value.field == "data_dir"


async def test_a_program_that_breaks_later_is_reported_too(tmp_path: Path) -> None:
    """Redis cannot be started again (its program is gone): after the same number of tries the failure surfaces."""
    program = tmp_path / "valkey-server"
    program.symlink_to(find_binary().path)
    embedded = EmbeddedRedis(tmp_path / "data", find=lambda: Binary(program, (9, 0, 0)))
    await embedded.start()
    program.unlink()
    assert embedded.pid is not None

    os.kill(embedded.pid, signal.SIGKILL)

    with pytest.raises(RedisDied, match="not found"):
        await embedded.run()
    await embedded.stop()


async def test_a_truncated_tail_is_survived(tmp_path: Path) -> None:
    """A write cut short by a crash does not keep Redis from starting; what was before it is there."""
    async with started(tmp_path) as (_, redis):
        await redis.set("first", "1")
        await redis.set("second", "2" * 1000)
    (written,) = (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")
    written.write_bytes(written.read_bytes()[:-500])

    async with started(tmp_path) as (_, redis):
        assert await redis.get("first") == b"1"
        assert await redis.get("second") is None


@pytest.mark.parametrize("name", ["with space and 'quotes'", "x" * 60 + "/" + "y" * 60, "ü" * 50])
async def test_any_directory_will_do(tmp_path: Path, name: str) -> None:
    """Spaces, quotes, and paths far beyond what fits a unix socket; nothing is left outside the directory."""
    async with started(tmp_path / name) as (_, redis):
        socket = Path(redis.connection_pool.connection_kwargs["path"])
        assert await redis.ping()
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700

    assert socket.parent == tmp_path / name / "redis" or not socket.parent.exists()


async def test_a_squatted_socket_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shared temporary directory somebody else may have made the name first: it is not used."""
    data = tmp_path / ("x" * 120)
    shared = Path(tempfile.mkdtemp(prefix="h"))
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    async with started(data) as (_, redis):
        place = Path(redis.connection_pool.connection_kwargs["path"]).parent
    assert place.parent == shared
    place.mkdir(mode=0o755)

    with pytest.raises(InvalidInput, match="belongs to somebody else"):
        await EmbeddedRedis(data).start()
    shutil.rmtree(shared)


@pytest.mark.parametrize("path", ["file", "file/below", "dangling"])
async def test_an_unusable_directory_is_named(tmp_path: Path, path: str) -> None:
    """One error that names the directory, not a traceback from the depth."""
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "else")

    with pytest.raises(InvalidInput, match=str(tmp_path / path)) as caught:
        await EmbeddedRedis(tmp_path / path).start()

    assert caught.value.reason is Reason.DATA_DIR_UNUSABLE


async def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A directory in the lock's place is told like every other trouble with the directory."""
    (tmp_path / "hookcast.lock").mkdir()

    with pytest.raises(InvalidInput, match=r"hookcast\.lock"):
        await EmbeddedRedis(tmp_path).start()


async def test_a_large_log_is_set_aside(tmp_path: Path) -> None:
    """Redis's log does not grow for ever; the one before is kept."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "redis.log").write_bytes(b"old\n" * 300_000)

    async with started(tmp_path):
        assert (tmp_path / "redis" / "redis.log").stat().st_size < 100_000
        assert (tmp_path / "redis" / "redis.log.1").stat().st_size == 1_200_000


async def test_a_start_given_up_leaves_nothing(tmp_path: Path) -> None:
    """Cancelled while it waits for an old Redis, the directory is free again."""
    (tmp_path / "redis").mkdir()
    held = await lock(tmp_path / "redis" / "redis.lock", wait_s=0)
    assert held is not None
    starting = asyncio.create_task(EmbeddedRedis(tmp_path).start())
    await come_true(lambda: _true((tmp_path / "hookcast.lock").exists()))

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    os.close(held)

    async with started(tmp_path) as (_, redis):
        assert await redis.ping()


def test_a_second_server_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """One line that names the directory, exit status 2; the first one is not disturbed."""
    with served(tmp_path) as server:
        pid = server.event("redis")["pid"]

        arguments = ("serve", "--port", "0", "--admin-port", "0", "--data-dir", str(tmp_path / "data"))
        status, said = refused(*arguments, cwd=tmp_path)

        assert status == 2
        line = f"hookcast: --data-dir: another Hookcast server runs on {tmp_path / 'data'};"
        assert said.splitlines()[-1].startswith(line)
        assert "Traceback" not in said
        assert pid in group_members(pid)
        assert server.ends(signal.SIGTERM) == 0


def test_redis_does_not_outlive_a_killed_server(tmp_path: Path) -> None:
    """SIGKILL of the server: Redis and its watcher are gone within 2 s, and a new server starts at once on the data."""
    with served(tmp_path, name="first") as server:
        seen = server.event("redis")
        server.event("listening")

        server.process.kill()
        server.process.wait()
        with served(tmp_path, name="second") as again:
            assert again.event("redis")["instance"] == seen["instance"]
            assert group_members(seen["pid"]) == []

            again.process.kill()
            again.process.wait()
            until(lambda: not group_members(again.event("redis")["pid"]), 2)


async def _true(value: bool) -> bool:  # noqa: FBT001
    return value
