"""Moving everything from one Redis to another: real Valkeys, real servers, real processes that are killed."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from hookcast_app import cli, entry
from hookcast_app.migration import abandon, command, copying, migrate
from hookcast_app.redis import Keys, Mark, Phase, check_server, create_redis, read_mark, swap_mark
from hookcast_core.errors import HookcastError, InvalidInput, Unavailable
from tests.support.app import RunningApp, eventually, running_app, settings_for
from tests.support.receiver import Receiver, Reply, Request
from tests.support.serving import COMMAND, serving
from tests.support.valkey import running_valkey

KEYS = Keys()


@pytest.fixture
async def target_url() -> AsyncIterator[str]:
    """A second, empty Valkey."""
    async with running_valkey() as url:
        yield url


@pytest.fixture
async def target(target_url: str) -> AsyncIterator[Redis]:
    client = create_redis(target_url)
    yield client
    await client.aclose()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests without a server that would have to take notice; and in small pieces."""
    monkeypatch.setattr(command, "NOTICE_SECONDS", 0)
    monkeypatch.setattr(copying, "PIECE_ITEMS", 500)
    monkeypatch.setattr(copying, "BATCH_KEYS", 50)
    monkeypatch.setattr(copying, "BATCH_BYTES", 5_000)


@pytest.fixture
async def filled(redis: Redis) -> Redis:
    """Some of every kind that Hookcast uses, large and small, with and without a time to live."""
    await check_server(redis)
    pipeline = redis.pipeline(transaction=False)
    for number in range(100):
        pipeline.hset(KEYS.event(f"e{number}"), mapping={"m": "{}", "b": bytes(range(256)), "n": number})
        pipeline.xadd(KEYS.lane("u", "waiting"), {"e": f"e{number}"})
        pipeline.hset(KEYS.remembered, f"e{number}", b"\x00\xff1")
        pipeline.xadd(KEYS.remembered_order, {"e": b"\x00\xff" + f"e{number}".encode()})
        pipeline.hset(KEYS.task(f"t{number}"), mapping={"step": "done"})
        pipeline.pexpire(KEYS.task(f"t{number}"), 86_400_000 + number)
    for number in range(1_300):
        pipeline.xadd(KEYS.events, {"e": f"e{number}", "b": number}, id=f"{number + 1}-7")
        pipeline.zadd(KEYS.lane("u", "later"), {f"e{number}": 1_700_000_000_000 + number})
    pipeline.xadd(KEYS.lane("u", "dead"), {"e": "e"}, id="5-5")
    pipeline.xadd(KEYS.lane("u", "dead"), {"e": "e"}, id="6-6")
    pipeline.xdel(KEYS.lane("u", "dead"), "6-6")
    pipeline.xadd(KEYS.lane("v", "waiting"), {"e": "e"}, id="9-9")
    pipeline.xdel(KEYS.lane("v", "waiting"), "9-9")
    pipeline.sadd(KEYS.hungry, *(f"u{number}" for number in range(300)))
    pipeline.hset(KEYS.disabled, "u", "{}")
    pipeline.hset(KEYS.failing, "u", "{}")
    pipeline.hset(KEYS.kept("subscriptions"), "u", "sealed")
    pipeline.sadd(KEYS.buried, "u")
    pipeline.set(KEYS.stored, 1_299)
    pipeline.set("stranger", "stays")
    await pipeline.execute()
    return redis


async def content(redis: Redis) -> dict[bytes, Any]:
    """Everything of ours, as Redis's own commands show it."""
    found: dict[bytes, Any] = {}
    async for key in redis.scan_iter("hookcast:*"):
        match await redis.type(key):
            case b"string":
                found[key] = await redis.get(key)
            case b"hash":
                found[key] = await redis.hgetall(key)
            case b"set":
                found[key] = await redis.smembers(key)
            case b"zset":
                found[key] = await redis.zrange(key, 0, -1, withscores=True)
            case b"stream":
                info = await redis.xinfo_stream(key)
                found[key] = (info["last-generated-id"], await redis.xrange(key))
    no_data = {KEYS.mark, KEYS.dispatchers, KEYS.alive}
    return {key: value for key, value in found.items() if key.decode() not in no_data}


async def moved(source: str, target: str, *, force: bool = False) -> list[str]:
    """Migrates; the lines that it said."""
    lines: list[str] = []
    await migrate(source, target, Path("nowhere"), lines.append, force=force)
    return lines


async def phase_of(redis: Redis) -> Phase | None:
    mark = await read_mark(redis)
    return mark.phase if mark else None


def failing(app: RunningApp) -> dict[str, str]:
    return app.application.health.ready()


async def test_what_was_accepted_before_is_delivered_after(
    redis_url: str, target_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """Waiting, later, delivered and dead: each once, with its history, and ids that were used stay used.

    The server on the source takes no more, says why, and lets end what is in flight; the one on the target was started
    before the copy was whole, and waits for it.
    """
    release = asyncio.Event()
    is_repaired = False

    async def behave(request: Request) -> Reply:
        if request.path == "/slow":
            await release.wait()
        return Reply({"/dead": 400, "/later": 200 if is_repaired else 503}.get(request.path, 200))

    receiver.behaviour = behave
    suspended = f"{receiver.url}/waiting"
    async with running_app(settings_for(redis_url, tmp_path)) as old:
        for name in ("ok", "dead", "slow"):
            await old.subscribe(f"{receiver.url}/{name}", f"{name}.*", name=name)
        await old.subscribe(f"{receiver.url}/later", "later.*", name="later", delivery={"retry": {"schedule": ["6s"]}})
        await old.subscribe(suspended, "waiting.*", name="waiting", suspend=True)
        ids = {kind: (await old.publish(f"{kind}.x", id=f"id-{kind}", source="/s", data=kind))["id"]
               for kind in ("ok", "dead", "slow", "later", "waiting")}  # fmt: skip
        before = {kind: await of_event(old, kind, status) for kind, status in
                  {"ok": "delivered", "dead": "dead", "later": "later", "waiting": "waiting"}.items()}  # fmt: skip
        async with running_app(settings_for(target_url, tmp_path)) as new:
            moving = asyncio.create_task(moved(redis_url, target_url))
            await eventually(lambda: "are being moved to" in failing(old).get("redis", ""))
            await eventually(lambda: "not all here yet" in failing(new).get("redis", ""))
            for app in (old, new):
                answer = await app.client.post("/api/v1/events", json={"type": "ok.y"})
                assert answer.status_code == 503
                assert "moved to another Redis" in answer.json()["detail"]
            assert not moving.done()
            is_repaired = True

            release.set()
            lines = await moving
            await eventually(lambda: not failing(new))

            assert lines[-2].startswith("moved ")
            await eventually(lambda: "were moved to" in failing(old)["redis"])
            await new.subscribe(suspended, "waiting.*", name="waiting")
            for kind in ids:
                await of_event(new, kind, "dead" if kind == "dead" else "delivered")
            dead = await of_event(new, "dead", "dead")
            assert dead == before["dead"]
            assert await of_event(new, "ok", "delivered") == before["ok"]
            again = await new.publish("ok.x", id="id-ok", source="/s", data="ok")
            assert again == {"id": "id-ok", "matched": 1, "duplicate": True}
            assert {item["event"]["id"] for item in await items(new, "/api/v1/events")} == set(ids.values())
            await new.publish("ok.z")
            await eventually(lambda: Counter(request.path for request in receiver.requests)["/ok"] == 2)
    arrived = Counter(request.path for request in receiver.requests)
    assert arrived == {"/ok": 2, "/dead": 1, "/slow": 1, "/waiting": 1, "/later": 2}


async def of_event(app: RunningApp, kind: str, status: str) -> dict[str, Any]:
    """The one delivery of an event, once it has this status."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        answer = await app.client.get("/api/v1/deliveries", params={"event": f"id-{kind}", "source": "/s"})
        found[:] = answer.json()["items"]
        return [item["status"] for item in found] == [status]

    await eventually(there)
    return found[0]


async def items(app: RunningApp, path: str) -> list[dict[str, Any]]:
    answer = await app.client.get(path)
    listed: list[dict[str, Any]] = answer.json()["items"]
    return listed


@pytest.mark.usefixtures("at_once")
async def test_every_key_arrives_as_it_was(redis_url: str, filled: Redis, target_url: str, target: Redis) -> None:
    """Bytes, orders, scores, stream ids, also the last one of an emptied stream, and times to live; no other's keys."""
    await target.set("neighbour", "stays")

    await moved(redis_url, target_url)

    assert await content(target) == await content(filled)
    assert await target.get("stranger") is None
    assert await target.get("neighbour") == b"stays"
    assert abs(await target.pttl(KEYS.task("t7")) - await filled.pttl(KEYS.task("t7"))) < 5_000
    assert await target.ttl(KEYS.event("e7")) == -1
    assert await read_mark(target) is None
    assert await phase_of(filled) is Phase.MOVED
    assert await moved(redis_url, target_url) == [f"all of {redis_url} was moved to {target_url} already"]


@pytest.mark.timeout(180)
async def test_killed_at_any_moment_and_run_again_it_ends_right(
    redis_url: str, filled: Redis, target_url: str, target: Redis
) -> None:
    """SIGKILL at random moments. Never are both open; the last run finishes."""
    rng = random.Random()  # noqa: S311  any moment will do
    pipeline = filled.pipeline(transaction=False)
    for number in range(5_000):
        pipeline.hset(KEYS.event(f"f{number}"), mapping={"m": "{}", "b": "body"})
    await pipeline.execute()
    wanted = await content(filled)
    arguments = [str(COMMAND), "migrate", "--from", redis_url, "--to", target_url]
    moments = [rng.uniform(*when) for when in ((0, 2), (2, 3), (2, 4), (2, 4))]
    for moment in moments:
        process = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.DEVNULL)
        started = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.to_thread(read_once, redis_url), within=30)
        await asyncio.sleep(max(0.0, moment - (asyncio.get_running_loop().time() - started)))
        if process.returncode is None:
            process.kill()
        await process.wait()

        source, copy = await read_mark(filled), await read_mark(target)
        assert source is not None, moments
        assert copy is not None or source.phase is Phase.MOVED, moments

    status, said = await run("--from", redis_url, "--to", target_url)

    assert status == 0, (moments, said)
    assert await content(target) == wanted == await content(filled), moments
    assert await read_mark(target) is None


async def run(*arguments: str) -> tuple[int | None, str]:
    """`hookcast migrate` as a process: its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(COMMAND, "migrate", *arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    return process.returncode, said.decode()


def read_once(url: str) -> bool:
    """Whether the source is marked: the process has begun."""

    async def look() -> bool:
        redis = create_redis(url)
        mark = await read_mark(redis)
        await redis.aclose()
        return mark is not None

    return asyncio.run(look())


async def test_ctrl_c_leaves_the_source_as_it_was(redis_url: str, filled: Redis, target_url: str) -> None:
    """Whoever ends it by hand goes on with what there was."""
    arguments = [str(COMMAND), "migrate", "--from", redis_url, "--to", target_url]
    process = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
    await eventually(lambda: asyncio.to_thread(read_once, redis_url), within=30)

    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()

    assert process.returncode in {cli.FAILED, entry.INTERRUPTED}
    assert (
        said.decode().splitlines()[-1] == f"hookcast: {redis_url} is as it was; what was copied is refused by servers"
    )
    assert await read_mark(filled) is None


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("is_done", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("step", range(1, 6), ids=["filling", "draining", "copying", "moved", "opened"])
async def test_killed_at_each_of_its_steps_and_run_again_it_ends_right(
    redis_url: str, filled: Redis, target_url: str, target: Redis, monkeypatch: pytest.MonkeyPatch, step: int, is_done: bool  # noqa: FBT001, E501
) -> None:  # fmt: skip
    """The same, at the very moments that count: around each change of a mark."""
    wanted = await content(filled)
    steps = 0

    async def swap(redis: Redis, before: Mark | None, after: Mark | None) -> bool:
        nonlocal steps
        steps += 1
        if steps > step or (steps == step and not is_done):
            raise Killed
        assert await swap_mark(redis, before, after)
        if steps == step:
            raise Killed
        return True

    with monkeypatch.context() as patch:
        patch.setattr(command, "swap_mark", swap)
        with pytest.raises(Killed):
            await moved(redis_url, target_url)
    source, copy = await read_mark(filled), await read_mark(target)
    assert source is None or copy is not None or source.phase is Phase.MOVED

    await moved(redis_url, target_url)

    assert await content(target) == wanted
    assert await read_mark(target) is None


async def test_a_move_that_fails_leaves_the_source_as_it_was(
    redis_url: str, target_url: str, target: Redis, tmp_path: Path, receiver: Receiver
) -> None:
    """Here a target without memory: the server on the source goes on, and a later move ends right."""
    async with running_app(settings_for(redis_url, tmp_path)) as app:
        await app.subscribe(receiver.url)
        for number in range(30):
            await app.publish(id=f"{number}", source="/s", data="x" * 100_000)
        await receiver.wait_for(30)
        await target.config_set("maxmemory", "2mb")

        with pytest.raises(Unavailable, match="take the copy now: it is out of memory"):
            await moved(redis_url, target_url)

        await eventually(lambda: not failing(app))
        await app.publish(data="after")
        await receiver.wait_for(31)
        await target.config_set("maxmemory", "0")
        await moved(redis_url, target_url)
    source = create_redis(redis_url)
    assert await content(target) == await content(source)
    await source.aclose()


@pytest.mark.usefixtures("at_once")
async def test_a_target_that_is_not_empty_is_refused(
    redis_url: str, filled: Redis, target_url: str, target: Redis
) -> None:
    """It says what is there and changes nothing; by force it is replaced, whatever it was."""
    await check_server(target)
    await target.hset(KEYS.event("theirs"), "m", "{}")
    before = await content(target)

    with pytest.raises(InvalidInput, match="holds 1 keys of Hookcast's, 0 events among them; name an empty one"):
        await moved(redis_url, target_url)

    assert await content(target) == before
    assert await read_mark(filled) is None
    assert await read_mark(target) is None
    await moved(redis_url, target_url, force=True)
    assert await content(target) == await content(filled)


@pytest.mark.usefixtures("at_once")
async def test_a_target_that_comes_into_use_meanwhile_is_refused(
    redis_url: str, filled: Redis, target_url: str, target: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may accept its first event between the look and the mark."""

    async def swap(redis: Redis, before: Mark | None, after: Mark | None) -> bool:
        if not await target.exists(KEYS.event("theirs")):
            await target.hset(KEYS.event("theirs"), "m", "{}")
        return await swap_mark(redis, before, after)

    monkeypatch.setattr(command, "swap_mark", swap)

    with pytest.raises(InvalidInput, match="holds 1 keys"):
        await moved(redis_url, target_url)

    assert await target.exists(KEYS.event("theirs"))
    assert await read_mark(target) is None
    assert await read_mark(filled) is None


@pytest.mark.usefixtures("at_once")
async def test_one_redis_under_two_names_is_noticed(redis_url: str, filled: Redis) -> None:
    """Even by force: it would delete what it is to move."""
    before = await content(filled)

    with pytest.raises(InvalidInput, match="is the very Redis that --from names"):
        await moved(redis_url, f"{redis_url}?db=0", force=True)

    assert await content(filled) == before
    assert await read_mark(filled) is None


@pytest.mark.usefixtures("at_once")
async def test_a_run_that_was_overtaken_writes_nothing_more(
    redis_url: str, filled: Redis, target_url: str, target: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hung, while another was started, ended, and the target came into use."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    real = copying._read_some

    async def slow(*arguments: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(copying, "_read_some", slow)
        first = asyncio.create_task(moved(redis_url, target_url))
        await reached.wait()
    await moved(redis_url, target_url)
    await target.flushall()
    await target.set(Keys().instance, "of a later time")

    go_on.set()

    with pytest.raises(HookcastError, match="another `hookcast migrate` has taken over"):
        await first
    assert await target.keys() == [Keys().instance.encode()]
    assert await phase_of(filled) is Phase.MOVED


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("what", ["a list", "a stream with consumer groups"])
async def test_what_cannot_be_moved_is_not_left_behind(
    redis_url: str, filled: Redis, target_url: str, what: str
) -> None:
    """A kind of value that Hookcast does not use ends the move before the source is left."""
    if what == "a list":
        await filled.rpush(KEYS.lane("u", "odd"), "x")
    else:
        await filled.xgroup_create(KEYS.events, "theirs")

    with pytest.raises(InvalidInput, match=f"is {what}, which this version"):
        await moved(redis_url, target_url)

    assert await read_mark(filled) is None


@pytest.mark.usefixtures("at_once")
async def test_a_copy_that_is_wrong_is_not_opened(
    redis_url: str, filled: Redis, target_url: str, target: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is read again and compared."""
    real = copying.copy

    async def careless(source: Redis, copy: Redis, mark: Mark, progress: Callable[[str, int], None]) -> int:
        count = await real(source, copy, mark, progress)
        await copy.zrem(KEYS.lane("u", "later"), "e1299")
        return count

    monkeypatch.setattr(command, "copy", careless)

    with pytest.raises(HookcastError, match="lane:u:later is not what the source holds"):
        await moved(redis_url, target_url)

    assert await read_mark(filled) is None
    assert await phase_of(target) is Phase.FILLING


async def test_an_interrupted_move_can_be_abandoned(redis_url: str, filled: Redis) -> None:
    """The source is served again; unless it was left for good."""
    lines: list[str] = []
    instance = (await check_server(filled)).instance or ""
    for phase in (Phase.COPYING, None):
        if phase is not None:
            await swap_mark(filled, None, Mark(phase, "run", instance, 0, "redis://gone"))
        await abandon(redis_url, Path("nowhere"), lines.append)
        assert await read_mark(filled) is None

    assert "is served again" in lines[0]
    assert lines[1].endswith("is not being moved")
    await swap_mark(filled, None, Mark(Phase.MOVED, "run", instance, 0, "redis://gone"))
    with pytest.raises(InvalidInput, match="was moved to redis://gone"):
        await abandon(redis_url, Path("nowhere"), lines.append)


async def test_the_embedded_redis_can_be_left(tmp_path: Path, target_url: str, target: Redis) -> None:
    """Its server has to be stopped for it, and says so; then all is in the target, and a server finds it there."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "all.json").write_text("")
    with serving(tmp_path, MANIFESTS=str(manifests)) as server:
        server.start()
        await server.ready()
        where = ["--from", "embedded", "--to", target_url, "--data-dir", str(server.data_dir)]
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": server.api_key}) as client:
            answer = await client.post("/api/v1/events", json={"type": "a.b", "id": "1", "source": "/s"})
            assert answer.status_code == 202
        status, said = await run(*where)
        assert status == 2
        assert said.startswith("hookcast: --data-dir: another Hookcast server runs on")
        assert said.count("\n") == 1
        assert server.stop() == 0

        status, said = await run(*where)

    assert status == 0, said
    assert f"moved 8 keys from the embedded Redis in {server.data_dir} to {target_url}" in said
    assert await target.xlen(KEYS.events) == 1
    manifests.joinpath("all.json").unlink()
    settings = settings_for(target_url, tmp_path)
    async with running_app(settings) as app:
        (event,) = await items(app, "/api/v1/events")
        assert event["event"]["id"] == "1"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--from", "redis://:secret@127.0.0.1:1"], "--from: Redis cannot be checked now: it cannot be reached"),
        (["--from", "{source}", "--to", "redis://:secret@127.0.0.1:1"], "--to: Redis cannot be checked now: it cannot"),
        (["--from", "{source}", "--to", "http://:secret@h"], "--to: cannot be read as redis://"),
        (["--from", "{source}", "--to", "redis://u:1/secret@h"], "--to: write the characters / ? # of a password as"),
        (["--from", "{source}", "--to", "embedded"], "--to: cannot be read as redis://"),
        (["--from", "embedded", "--data-dir", "nowhere"], "--data-dir: there is no embedded Redis in nowhere"),
        (["--from", "{target}", "--to", "{source}"], "--from: holds nothing of Hookcast's"),
        (["--from", "{source}", "--to", ""], "--to: cannot be read as redis://"),
        (["--to", "{target}"], "Missing option '--from'"),
    ],
)
async def test_a_mistake_is_one_line_that_names_the_option(
    redis_url: str,
    filled: Redis,
    target_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    """Exit status 2, and never a password."""
    monkeypatch.setattr("hookcast_app.observability.configure_logs", lambda *_: None)
    given = [word.replace("{source}", redis_url).replace("{target}", target_url) for word in arguments]
    given += [] if "--to" in given else ["--to", target_url]

    assert await asyncio.to_thread(cli.run, ["migrate", *given]) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"hookcast: {line}")
    assert said.count("\n") == 1
    assert "secret" not in said
    assert await read_mark(filled) is None


async def test_the_command_says_what_went_wrong_with_status_1(
    redis_url: str, filled: Redis, target_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for what was foreseen, the log for what was not; it needs a target unless it abandons."""
    monkeypatch.setattr("hookcast_app.observability.configure_logs", lambda *_: None)
    arguments = ["migrate", "--from", redis_url]
    assert await asyncio.to_thread(cli.run, arguments) == 2
    assert capsys.readouterr().err.startswith("hookcast: Missing option '--to'")
    assert await asyncio.to_thread(cli.run, [*arguments, "--abandon"]) == 0
    assert capsys.readouterr().err == f"hookcast: {redis_url} is not being moved\n"

    for error, said in ((Unavailable("Redis went away"), "hookcast: Redis went away\n"), (RuntimeError("odd"), "odd")):

        async def fails(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("hookcast_app.migration.migrate", fails)
        assert await asyncio.to_thread(cli.run, [*arguments, "--to", target_url]) == 1
        captured = capsys.readouterr()
        assert said in captured.err + captured.out
    assert await read_mark(filled) is None
