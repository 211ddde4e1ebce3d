"""The processes over one Redis ("nodes"): what is said to one of them, to all, and what all of them are asked."""

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from hookcast_app.realtime import control
from hookcast_app.realtime.broker import Broker
from hookcast_app.realtime.control import Answer, Emulated, Order, Question
from hookcast_app.realtime.shards import Shards
from hookcast_app.redis import translated
from hookcast_core.errors import Unavailable

ANSWER_SECONDS = 3.0
"""How long a question waits for the last answer."""

_log = structlog.get_logger("hookcast.realtime")


class _Mailbox:
    """A Redis channel by which messages come; see pubsub.Subscription. What is missed while Redis is away is lost."""

    def __init__(self, name: str, take: Callable[[bytes], None]) -> None:
        self.name = name
        self.arrived = take

    def confirmed(self) -> None:
        """See pubsub.Subscription."""

    def lost(self) -> None:
        """See pubsub.Subscription."""


class Nodes:
    """Lives as long as the broker, through whose connection messages come.

    `on_order` and `on_emulated` are called with what others, or this process itself, said; they may not await or raise.
    """

    def __init__(
        self,
        shards: Shards,
        broker: Broker,
        *,
        on_order: Callable[[Order], None],
        on_emulated: Callable[[Emulated], None],
    ) -> None:
        self.uid = str(uuid.uuid4())
        self._shard = shards.all[0]
        redis = self._shard.redis
        self._publish: Callable[[str, bytes], Awaitable[int]] = redis.spublish if shards.is_sharded else redis.publish
        self._on_order = on_order
        self._on_emulated = on_emulated
        self._answers: dict[str, Callable[[str], Any]] = {}
        self._asked: dict[str, asyncio.Queue[Any]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._everybody = self._shard.key("nodes", "all")
        for name in (self._everybody, self._name(self.uid)):
            broker.listen(_Mailbox(name, self._arrived))

    def _name(self, uid: str) -> str:
        return self._shard.key("node", uid)

    def answers(self, about: str, answer: Callable[[str], Any]) -> None:
        """Has questions about something answered by `answer(detail)`, which gives what JSON can hold."""
        self._answers[about] = answer

    async def tell(self, uid: str, message: control.Message) -> bool:
        """Says something to one node; returns whether there is such a one. Raises Unavailable."""
        return await self._say(self._name(uid), message) > 0

    async def tell_all(self, message: control.Message) -> int:
        """Says something to every node, and returns how many there are. Raises Unavailable."""
        return await self._say(self._everybody, message)

    async def ask_all(self, about: str, detail: str = "") -> list[Any]:
        """What every node answers. Raises Unavailable, also if one does not answer within ANSWER_SECONDS."""
        question = Question(secrets.token_hex(8), self.uid, about, detail)
        queue = self._asked[question.number] = asyncio.Queue()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                expected = await self.tell_all(question)
                return [await queue.get() for _ in range(expected)]
        except TimeoutError as error:
            raise Unavailable("another process does not answer") from error
        finally:
            del self._asked[question.number]

    async def _say(self, name: str, message: control.Message) -> int:
        # All nodes listen through the master of this shard's slot, so it knows how many they are.
        with translated("pass on a message between processes"):
            return await self._publish(name, control.encode(message))

    def _arrived(self, data: bytes) -> None:
        match message := control.decode(data):
            case None:
                _log.debug("node.unknown_message")
            case Emulated():
                self._on_emulated(message)
            case Question():
                self._answer(message)
            case Answer():
                if (queue := self._asked.get(message.number)) is not None:
                    queue.put_nowait(message.value)
            case _:
                self._on_order(message)

    def _answer(self, question: Question) -> None:
        """One that this version does not know is answered too, so that nobody waits."""
        give = self._answers.get(question.about)
        answer = None if give is None else give(question.detail)
        task = asyncio.get_running_loop().create_task(self._send_answer(question, answer), name="node-answer")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _send_answer(self, question: Question, answer: Any) -> None:
        try:
            await self.tell(question.asker, Answer(question.number, answer))
        except Unavailable as error:  # whoever asked is told so by its own time
            _log.debug("node.unavailable", detail=error.detail)
