"""The Redis client, what is checked of a server, and noticing one that came back empty. A real valkey-server."""

import asyncio
import re
from pathlib import Path

import pytest
from redis.asyncio import Connection, Redis
from redis.exceptions import ResponseError

from hookcast_app.health import RedisWatch
from hookcast_app.redis import ServerState, check_server, create_redis, first_contact, translated
from hookcast_core.errors import InvalidInput, Reason, Unavailable
from tests.support.certificates import Authority
from tests.support.lanes import KEYS
from tests.support.valkey import running_valkey


@pytest.fixture
def url(redis_url: str) -> str:
    """The server behind the client `redis`."""
    return redis_url


class Proxy:
    """A TCP way to a unix-socket Redis that can lose answers."""

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("unix://")
        self.answers_to_lose = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(self._path)
        await asyncio.gather(self._pipe(reader, forth, lossy=False), self._pipe(back, writer, lossy=True))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, lossy: bool) -> None:
        while data := await reader.read(65536):
            if lossy and self.answers_to_lose and re.match(rb":\d", data):
                self.answers_to_lose -= 1
            else:
                writer.write(data)
        writer.close()


async def test_a_certificate_that_does_not_hold_is_named_as_the_reason(tmp_path: Path) -> None:
    """Without addresses; "cannot be reached" would send its user to look at the network."""
    authority = Authority()
    context = authority.sign("redis.example").server_context()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    trusted = tmp_path / "ca.crt"
    trusted.write_text(authority.pem)
    async with server:
        url = f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for query, why in (("", "certificate"), (f"?ssl_ca_certs={trusted}&ssl_check_hostname=true", "another host")):
            client = create_redis(url + query)
            with pytest.raises(Unavailable, match=why) as refused, translated("be checked"):
                await client.ping()
            assert "127.0.0.1" not in refused.value.detail
            await client.aclose()


async def test_a_write_whose_answer_is_lost_is_not_sent_again(url: str, redis: Redis) -> None:
    """redis-py's own default sends it again: what publishes would then publish twice."""
    proxy = Proxy(url)
    async with proxy as address:
        client = create_redis(address, timeout_s=0.2)
        await client.ping()
        proxy.answers_to_lose = 1

        with pytest.raises(Unavailable, match="did not answer in time"), translated("count"):
            await client.incr("n")

        await client.aclose()
    assert await redis.get("n") == b"1"


async def test_pooled_connections_survive_a_restart_without_an_error() -> None:
    """Connections that Redis closed are noticed before they are used."""
    async with running_valkey() as url:
        path = Path(url.removeprefix("unix://"))
        client = create_redis(url)
        await asyncio.gather(*(client.ping() for _ in range(20)))
        await client.client_kill_filter(_type="normal", skipme=False)

        assert all(await asyncio.gather(*(client.ping() for _ in range(20))))
        assert path.exists()
        await client.aclose()


async def test_more_commands_at_once_than_connections_are_refused(url: str) -> None:
    """They do not pile up: the caller is told to come back."""
    client = create_redis(url, max_connections=1)

    async def slow() -> None:
        with translated("wait"):
            await client.blpop(["nothing"], timeout=1)

    results = await asyncio.gather(slow(), slow(), return_exceptions=True)

    assert [str(result) for result in results if result] == ["Redis cannot wait now: all connections are in use"]
    await client.aclose()


@pytest.mark.parametrize("bad", ["redis://:secret@h:port", "redis://:secret@h/0?socket_timeout=secret", "ftp://secret"])
def test_an_unreadable_url_is_refused_without_repeating_it(bad: str) -> None:
    """It may hold a password."""
    with pytest.raises(InvalidInput) as caught:
        create_redis(bad)

    assert caught.value.field == "redis_url"
    assert "secret" not in str(caught.value)


def test_an_unknown_option_in_the_url_is_refused_at_once() -> None:
    """Not only when the first command is sent."""
    with pytest.raises(InvalidInput):
        create_redis("redis://127.0.0.1/0?bogus=1")


async def test_our_own_mistakes_are_not_called_unavailable(redis: Redis) -> None:
    """WRONGTYPE is a bug: saying 'try again later' would hide it."""
    await redis.set("text", "x")

    with pytest.raises(ResponseError, match="WRONGTYPE"), translated("push"):
        await redis.lpush("text", "y")


async def test_a_server_without_memory_is_unavailable(redis: Redis) -> None:
    """OOM passes when the operator of that Redis mends it."""
    await redis.config_set("maxmemory", "1")

    with pytest.raises(Unavailable, match="out of memory"), translated("write"):
        await redis.set("key", "value")


async def test_an_empty_server_is_claimed_once(redis: Redis) -> None:
    """It gets an instance key and our schema's version; both stay."""
    state = await check_server(redis)

    assert state.version >= (6, 2)
    assert state.policy == "noeviction"
    assert await redis.get(KEYS.schema) == b"1"
    assert (await check_server(redis)).instance == state.instance


async def test_keys_of_a_newer_layout_are_refused(redis: Redis) -> None:
    """An older app must not write into what it does not understand."""
    await redis.set(KEYS.schema, 2)

    with pytest.raises(InvalidInput, match="layout 2, written by a newer Hookcast") as caught:
        await check_server(redis)

    assert caught.value.reason is Reason.REDIS_UNFIT


async def test_an_old_server_is_refused(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 6.2 commands that we need are missing."""

    async def info(*_: object) -> dict[str, str]:
        return {"redis_version": "6.0.16"}

    monkeypatch.setattr(redis, "info", info)

    with pytest.raises(InvalidInput, match=r"is Redis 6\.0\.16; Hookcast needs 6\.2"):
        await check_server(redis)


async def test_a_wrong_password_is_told_at_once(url: str, redis: Redis) -> None:
    """No waiting for what will not pass."""
    await redis.config_set("requirepass", "right")
    client = create_redis(url.replace("unix://", "unix://:wrong@"))

    with pytest.raises(InvalidInput, match="refuses our user or password") as caught:
        await first_contact(client, patience_s=30)

    assert "wrong" not in str(caught.value)
    await client.aclose()


@pytest.mark.parametrize(
    "rights",
    [
        ("~*", "&*", "+ping", "+hello"),
        ("~other:*", "&*", "+@all"),
        ("~hookcast:*", "resetchannels", "+@all"),
        ("~hookcast:*", "&hookcast:*", "+@all", "-evalsha"),
    ],
)
async def test_what_is_forbidden_is_told_at_once(url: str, redis: Redis, rights: tuple[str, ...]) -> None:
    """A user without the rights to a command, our keys or our channels is a mistake in the setup."""
    await redis.execute_command("ACL", "SETUSER", "weak", "on", ">pw", *rights)  # type: ignore[no-untyped-call]
    client = create_redis(url.replace("unix://", "unix://weak:pw@"))

    with pytest.raises(InvalidInput, match="forbids our user a command, a key or a channel"):
        await first_contact(client)

    await client.aclose()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01"])
async def test_what_is_no_redis_is_told_at_once(answer: bytes) -> None:
    """The URL names another server's port: waiting would not help."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as other:
        client = create_redis(f"redis://127.0.0.1:{other.sockets[0].getsockname()[1]}")

        with pytest.raises(InvalidInput, match="redis_url: what answers there is no Redis"):
            await first_contact(client)

        await client.aclose()


async def test_a_server_that_is_only_starting_is_waited_for(tmp_path: Path) -> None:
    """PATIENCE is bounded; then it is Unavailable."""
    client = create_redis(f"unix://{tmp_path}/nothing")

    with pytest.raises(Unavailable, match="cannot be reached"):
        await first_contact(client, patience_s=0.3, pause_s=0.1)

    await client.aclose()


async def test_a_late_server_is_found() -> None:
    """What comes up within the patience is used."""
    async with running_valkey() as url:
        redis = create_redis(url)
        await redis.config_set("maxmemory", "1")
        waiting = asyncio.create_task(first_contact(redis, pause_s=0.05))
        await asyncio.sleep(0.1)
        assert not waiting.done()

        await redis.config_set("maxmemory", "0")

        assert (await waiting).instance
        await redis.aclose()


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.now


class Watched:
    """A RedisWatch with everything that it was told to call."""

    def __init__(self, redis: Redis, state: ServerState) -> None:
        self.clock = Clock()
        self.restored = 0
        self.trouble: Exception | None = None
        self.latencies: list[float] = []
        self.watch = RedisWatch(redis, state, on_empty=self.restore, on_latency=self.latencies.append, clock=self.clock)

    async def restore(self) -> None:
        """Counts, or fails as it was told."""
        if self.trouble:
            raise self.trouble
        self.restored += 1


async def test_a_blip_does_not_make_it_unready(redis: Redis) -> None:
    """Only after 15 s without an answer, and no longer than that lasts."""
    watched = Watched(redis, await check_server(redis))
    await watched.watch.look()
    await redis.config_set("maxmemory", "1")
    watched.clock.now += 14
    await watched.watch.look()
    assert watched.watch.check() is None

    watched.clock.now += 2
    await watched.watch.look()

    assert watched.watch.check() == "Redis cannot answer a probe now: it is out of memory"
    await redis.config_set("maxmemory", "0")
    await watched.watch.look()
    assert watched.watch.check() is None
    assert len(watched.latencies) == 2
    assert 0 < await redis.ttl(KEYS.alive) <= 60


async def test_how_full_it_is_is_seen(redis: Redis) -> None:
    """Bytes in use, and the limit."""
    watched = Watched(redis, await check_server(redis))
    assert (watched.watch.used_memory, watched.watch.max_memory) == (0, 0)
    await redis.config_set("maxmemory", "100mb")

    await watched.watch.look()

    assert 100_000 < watched.watch.used_memory < 100_000_000
    assert watched.watch.max_memory == 104_857_600


async def test_a_policy_that_evicts_makes_it_unready_until_it_is_mended(redis: Redis) -> None:
    """The reason names the policy and what to set."""
    watched = Watched(redis, await check_server(redis))
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    await watched.watch.look()

    assert "maxmemory-policy is allkeys-lru" in str(watched.watch.check())

    await redis.config_set("maxmemory-policy", "noeviction")
    await watched.watch.look()
    assert watched.watch.check() is None


@pytest.mark.parametrize("how", ["flushed", "claimed by another process"])
async def test_an_emptied_redis_is_noticed_by_every_process(redis: Redis, how: str) -> None:
    """Also by the one that looks after another has put things right. Unready until what must be there is written."""
    watched = Watched(redis, await check_server(redis))
    await redis.flushall()
    if how != "flushed":
        await check_server(redis)
    watched.trouble = Unavailable("not yet")
    await watched.watch.look()
    assert "came back empty" in str(watched.watch.check())

    watched.trouble = None
    await watched.watch.look()
    await watched.watch.look()

    assert watched.watch.check() is None
    assert watched.restored == 1
    assert await redis.get(KEYS.instance) is not None


async def test_it_keeps_looking_until_it_is_cancelled(redis: Redis) -> None:
    """Its task never ends by itself."""
    watched = Watched(redis, await check_server(redis))
    looked = asyncio.Semaphore(0)
    watch = RedisWatch(
        redis, await check_server(redis), on_empty=watched.restore, on_latency=lambda _: looked.release()
    )
    task = asyncio.create_task(watch.run(beat=0.01))
    async with asyncio.timeout(10):
        for _ in range(3):
            await looked.acquire()
    assert not task.done()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "command", [("SCRIPT LOAD", b"return 1"), ("SET", "k", b"\x00\xff"), (b"GET", "é"), ("EXPIRE", "k", 5), ("X", 1.5)]
)
def test_commands_are_packed_as_redis_py_packs_them(command: tuple[bytes | str | float, ...]) -> None:
    """In C instead of Python: the same bytes."""
    ours = create_redis("redis://127.0.0.1:1").connection_pool.make_connection()  # type: ignore[no-untyped-call]

    assert b"".join(ours.pack_command(*command)) == b"".join(Connection().pack_command(*command))
