"""Gives the configuration to every pod, and learns from each what is in force there and how endpoints are doing.

One follower for each pod: a pod that hangs delays no other. A push is answered by what is in force, so that pushing and
acknowledging are one step; a pod is also asked every few seconds, since a container may restart unseen.
"""

import asyncio
import io
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import aiohttp
import structlog

from hookcast_core.versions import Verdict, Version, judge
from hookcast_operator.pods import Pod, PodState, Rejection
from hookcast_operator.store import Published
from hookcast_operator.waiting import seconds_after, wait_for
from hookcast_operator.wellbeing import Report, Wellbeing, report_of

ASK_SECONDS = 2.0
"""Between two looks at a pod that answers."""
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""After the first, second, … failure in a row."""
TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=2)
SETTLE_SECONDS = 3.0
"""How long a pod that appears may take before its not answering is news."""
FULL_SECONDS = 3_600.0
"""A pod tells what changed; this often it tells everything, so that the time of the last delivery is not too old."""
_OK = 200
_NOT_FOUND = 404

_log = structlog.get_logger("hookcast.operator.push")


class Pusher:
    """Lives as long as the operator leads. `on_pods` is told of a pod that changed, `on_wellbeing` of endpoints.

    `on_later` is told what is in force in a pod that would refuse what is stored.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        wellbeing: Wellbeing,
        *,
        on_pods: Callable[[], None],
        on_wellbeing: Callable[[Collection[str]], None],
        on_later: Callable[[Version], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._wellbeing = wellbeing
        self._on_pods = on_pods
        self._on_wellbeing = on_wellbeing
        self._on_later = on_later
        self._clock = clock
        self._published: Published | None = None
        self._followers: dict[str, tuple[_Follower, asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def states(self) -> list[PodState]:
        """Every pod's."""
        return [follower.state for follower, _ in self._followers.values()]

    async def run(self) -> None:
        """Holds the followers until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await asyncio.Event().wait()

    def offer(self, published: Published) -> None:
        """Has every pod take this configuration."""
        self._published = published
        for follower, _ in self._followers.values():
            follower.wake.set()

    def pods_are(self, pods: Mapping[str, Pod]) -> None:
        """Takes which pods there are."""
        changed = False
        for uid in self._followers.keys() - pods.keys():
            _, task = self._followers.pop(uid)
            task.cancel()
            self._wellbeing.forget_pod(uid)
            changed = True
        for uid, pod in pods.items():
            known = self._followers.get(uid)
            if known is None:
                self._follow(pod)
                changed = True
            elif known[0].state.pod != pod:
                known[0].state.pod = pod
                known[0].wake.set()
                changed = True
        if changed:
            self._on_pods()

    def _follow(self, pod: Pod) -> None:
        assert self._group is not None, "run() is running"  # noqa: S101
        follower = _Follower(PodState(pod, self._clock()))
        task = self._group.create_task(self._run(follower), name=f"follower of {pod.name}")
        self._followers[pod.uid] = (follower, task)

    async def _run(self, follower: "_Follower") -> None:
        failures = 0
        while True:
            follower.wake.clear()
            before = (follower.state.sequence, follower.state.problem, follower.state.rejected, follower.state.settling)
            try:
                if self._published is not None:  # else it says nothing of the pod that it was not asked yet
                    await self._turn(follower, self._published)
                    follower.state.problem, follower.state.settling, failures = None, False, 0
                wait = ASK_SECONDS
            except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError, AttributeError) as error:
                # The last ones are an answer that is none of the app's, whatever listens there.
                follower.state.problem = str(error) or type(error).__name__
                follower.state.settling = self._clock() - follower.state.since < SETTLE_SECONDS
                wait = seconds_after(failures, RETRY_SECONDS)
                failures += 1
            after = (follower.state.sequence, follower.state.problem, follower.state.rejected, follower.state.settling)
            if after != before:
                self._on_pods()
            await wait_for(follower.wake, wait)

    async def _turn(self, follower: "_Follower", published: Published) -> None:
        state, url = follower.state, f"{follower.state.pod.base_url}/internal/configuration"
        found = await self._json("GET", url)
        in_force = _version(found)
        verdict = judge(published.version, in_force)
        if in_force is not None and verdict is Verdict.STALE:
            self._on_later(in_force)  # the next is offered soon
            return
        if verdict is not Verdict.SAME:
            found = await self._json("PUT", url, published.token)
        state.sequence, state.rejected = _sequence(found), _rejections(found["rejected"])
        if not follower.wake.is_set():
            await self._ask_wellbeing(follower)

    async def _ask_wellbeing(self, follower: "_Follower") -> None:
        now = self._clock()
        if now - follower.asked_all > FULL_SECONDS:
            follower.cursor, follower.asked_all = "", now
        url = f"{follower.state.pod.base_url}/internal/deliveries/health"
        async with self._session.get(url, params={"since": follower.cursor}, timeout=TIMEOUT) as response:
            if response.status == _NOT_FOUND:  # a pod that makes no deliveries
                return
            answer = await _answer(response)
        follower.cursor = answer["cursor"]
        reports: list[Report] = [report_of(one) for one in answer["deliveries"]]
        changed = self._wellbeing.take(follower.state.pod.uid, reports)
        if changed:
            self._on_wellbeing(changed)

    async def _json(self, method: str, url: str, token: bytes | None = None) -> dict[str, Any]:
        async with self._session.request(method, url, data=token and io.BytesIO(token), timeout=TIMEOUT) as response:
            return await _answer(response)


class _Follower:
    __slots__ = ("asked_all", "cursor", "state", "wake")

    def __init__(self, state: PodState) -> None:
        self.state = state
        self.wake = asyncio.Event()
        self.cursor = ""
        self.asked_all = 0.0


async def _answer(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The decoded answer; ValueError with the pod's own words where it refuses."""
    answer = await response.json(content_type=None)
    if not isinstance(answer, dict):
        raise ValueError("the answer is no JSON object")  # noqa: TRY004  pydantic's way
    if response.status != _OK:
        raise ValueError(f"{response.status}: {answer.get('detail') or answer.get('title')}")
    return answer


def _sequence(found: dict[str, Any]) -> int:
    sequence = found["sequence"]
    if not isinstance(sequence, int):
        raise ValueError("the answer names no sequence")  # noqa: TRY004  as above
    return sequence


def _version(found: dict[str, Any]) -> Version | None:
    """What is in force in a pod; None while that is nothing that an operator brought."""
    if not isinstance(found.get("origin"), str) or not isinstance(found.get("revision"), str):
        return None
    sealed_at = found.get("sealedAt", 0)  # an older app does not say
    if not isinstance(sealed_at, int):
        raise ValueError("the answer names no time of sealing")  # noqa: TRY004  as above
    return Version(found["origin"], _sequence(found), found["revision"], sealed_at)


def _rejections(found: list[dict[str, Any]]) -> dict[str, Rejection]:
    return {
        one["uid"]: Rejection(
            one["generation"], one["reason"], (f"{one['field']}: " if one.get("field") else "") + one["detail"]
        )
        for one in found
    }
