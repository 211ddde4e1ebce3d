"""What browsers give to pages of the origin that the settings name, and keep from those of another."""

from typing import Any

import pytest

from tests.integration.realtime.conformance.browser import COOKIE, Scene, Tab, named, tab
from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.stock import endpoints
from tests.support.browser import SITE


async def test_a_page_of_another_origin_cannot_connect(scene: Scene, browser: str) -> None:
    """By a WebSocket: 403, however good its token."""
    token = scene.target.token("ann")
    async with tab(browser, scene.other) as js:
        await js.do("dial", url=f"{scene.ws}/ws/chat/lobby/ann?token={token}", message={})
        assert "403" in (await js.event("Network.webSocketFrameError"))["errorMessage"]
        assert (await js.event("closed"))["code"] == 1006
        await js.do("connect", endpoint=endpoints(scene.api, "websocket"), options={"token": token})
        assert "403" in (await js.event("Network.webSocketFrameError"))["errorMessage"]
        await js.event("error", type="transport")
        assert js.seen("connected") == js.seen("opened") == []


@pytest.mark.parametrize("transport", ["sse", "http_stream"])
async def test_a_page_of_another_origin_cannot_read(scene: Scene, browser: str, transport: str) -> None:
    """What the named one can: the browser keeps it from the page, for no header allows it."""
    async with tab(browser, scene.app) as js:
        await scene.start(js, by=transport)
        await js.visit(scene.other)
        token = {"token": scene.target.token("ann")}
        await js.do("connect", endpoint=endpoints(scene.api, transport), options=token)
        await was_blocked(js)
        await js.event("error", type="transport")
        assert js.seen("connected") == []


async def was_blocked(js: Tab) -> None:
    """Waits for what the browser says of an answer that the page was not given."""
    while "corsErrorStatus" not in await js.event("Network.loadingFailed"):
        pass


async def test_an_event_source_of_another_origin_cannot_read(scene: Scene, browser: str) -> None:
    """As above, without the client; it does not come back either."""
    url = f"{scene.api}/sse/{fresh()}"
    async with tab(browser, scene.app) as js:
        await js.do("listen", url=url)
        await js.event("opened")
        await js.visit(scene.other)
        await js.do("listen", url=url)
        await was_blocked(js)
        assert (await js.event("ended"))["returns"] is False


async def test_a_page_of_another_origin_cannot_poll(scene: Scene, browser: str) -> None:
    """What the named one reads."""
    url = f"{scene.api}/api/v1/channels/{fresh()}/messages?token={scene.target.token('ann')}"
    async with tab(browser, scene.app) as js:
        assert (await js.page.run(f"fetch('{url}').then((answer) => answer.json())"))["recovered"] is True
        await js.visit(scene.other)
        assert await js.page.run(f"fetch('{url}').catch(({{ name }}) => name)") == "TypeError"
        await was_blocked(js)


@pytest.fixture
def cookie(scene: Scene) -> str:
    """An expression that keeps a token for all hosts of the site."""
    return f"document.cookie = '{COOKIE}={scene.target.token('ann')}; domain={SITE}; path=/'"


class TestCookies:
    """Browsers add them by themselves, so they count for pages that the settings name, not for all they let in."""

    @pytest.fixture
    def allowed(self, page_url: str) -> tuple[str, ...]:
        """One by its name, and any other."""
        return (named("app", page_url), "*")

    async def test_a_cookie_is_a_token_for_named_pages(self, scene: Scene, browser: str, cookie: str) -> None:
        """And for others, which send it too, as if it were not there."""
        channel = fresh()
        async with tab(browser, scene.app) as js:
            await js.page.run(cookie)
            for origin, user in ((scene.app, "ann"), (scene.other, "")):
                await js.visit(origin)
                assert COOKIE in await js.page.run("document.cookie")
                await js.do("connect", endpoint=endpoints(scene.api, "websocket"))
                await js.do("subscribe", channel=channel)
                assert (await js.event("join"))["info"]["user"] == user

    @pytest.mark.parametrize("transport", ["sse", "http_stream"])
    async def test_streams_take_the_cookie_of_named_pages(
        self, scene: Scene, browser: str, cookie: str, transport: str
    ) -> None:
        """If the client is told to send it, down and up; what it is told for others is not given to them."""
        connect: dict[str, Any] = {
            "endpoint": endpoints(scene.api, transport),
            "options": {"emulationEndpoint": f"{scene.api}/emulation"},
        }
        channel = fresh()
        async with tab(browser, scene.app) as js:
            await js.page.run(cookie)
            for is_sent, user in ((True, "ann"), (False, "")):
                await js.do("connect", **connect, withCredentials=is_sent)
                await js.do("subscribe", channel=channel)
                assert (await js.event("join"))["info"]["user"] == user
                await js.visit(scene.app)
            await js.visit(scene.other)
            await js.do("connect", **connect, withCredentials=True)
            await was_blocked(js)
            await js.event("error", type="transport")
            assert len(js.seen("connected")) == 2

    async def test_an_event_source_sends_cookies_for_named_pages(self, scene: Scene, browser: str, cookie: str) -> None:
        """If the page asks for it; what is sent for others is not given to them."""
        url = f"{scene.api}/sse/private%23ann"
        async with tab(browser, scene.app) as js:
            await js.page.run(cookie)
            await js.do("listen", url=url, withCredentials=True)
            await js.event("opened")
            await scene.target.publish("private#ann", b"1")
            assert (await js.event("message"))["data"] == 1
            await js.visit(scene.other)
            await js.do("listen", url=url, withCredentials=True)
            assert (await js.event("ended"))["returns"] is False
