"""What a page does without the npm client: event streams, polls and plain WebSockets of browsers."""

from tests.integration.realtime.conformance.browser import Scene, named, tab
from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.proxy import proxied


async def test_a_page_needs_no_client(scene: Scene, browser: str) -> None:
    """For a plain WebSocket, with its token as a subprotocol."""
    token = f"token.{scene.target.token('ann')}"
    async with tab(browser, scene.app) as js:
        url = f"{scene.ws}/ws/chat/lobby/ann"
        await js.do("dial", url=url, protocols=["hookcast-json", token], message={"type": "ping"})
        assert (await js.event("opened"))["protocol"] == "hookcast-json"
        welcome = (await js.event("message"))["data"]
        assert {"type": "welcome", "user": "ann", "channel": "chat:lobby"}.items() <= welcome.items()
        assert (await js.event("message"))["data"] == {"type": "pong"}


async def test_an_event_source_comes_back(scene: Scene, browser: str) -> None:
    """By itself, after its connection was cut."""
    channel = fresh("plain")
    async with proxied(scene.target.http_url) as proxy, tab(browser, scene.app) as js:
        await js.do("listen", url=f"{named('api', proxy.url)}/sse/{channel}")
        for number in range(2):
            await js.event("opened")
            await scene.target.publish(channel, b'{"n": %d}' % number)
            assert (await js.event("message"))["data"] == {"n": number}
            proxy.cut()
            assert (await js.event("ended"))["returns"] is True


async def test_an_event_source_gets_what_it_missed(scene: Scene, browser: str) -> None:
    """It says itself which event was its last; what came since is given to it in order, once."""
    channel = fresh()
    async with proxied(scene.target.http_url) as proxy, tab(browser, scene.app) as js:
        await js.do("listen", url=f"{named('api', proxy.url)}/sse/{channel}")
        await js.event("opened")
        await scene.target.publish(channel, b"1")
        first = await js.event("message")
        assert first["data"] == 1
        assert first["id"].endswith(":1")
        proxy.cut()
        await js.event("ended")
        for number in (b"2", b"3"):
            await scene.target.publish(channel, number)
        await js.event("opened")
        await scene.target.publish(channel, b"4")
        assert [(await js.event("message"))["data"] for _ in range(3)] == [2, 3, 4]


async def test_an_event_source_is_told_that_it_cannot_recover(scene: Scene, browser: str) -> None:
    """`reset`, which has the channel, and nothing partial."""
    channel = fresh("short")
    async with proxied(scene.target.http_url) as proxy, tab(browser, scene.app) as js:
        await js.do("listen", url=f"{named('api', proxy.url)}/sse/{channel}")
        await js.event("opened")
        await scene.target.publish(channel, b"1")
        await js.event("message")
        proxy.cut()
        await js.event("ended")
        for number in range(2, 7):
            await scene.target.publish(channel, b"%d" % number)
        assert (await js.event("reset"))["data"]["channel"] == channel
        await scene.target.publish(channel, b"7")
        assert (await js.event("message"))["data"] == 7
