"""What the demo says, as text. Pure; whatever came over the network is shortened and cannot move the cursor."""

import json
import shlex
from typing import Any

from hookcast_core.errors import InvalidInput, Reason

CHANNEL = "orders"
FIRST_EVENT = {"type": "order.created", "channel": CHANNEL, "data": {"id": 1, "amount": 120}}
NEXT_EVENT = {"type": "order.created", "channel": CHANNEL, "data": {"id": 2, "amount": 250}}
MAX_SHOWN = 120
"""Characters of an event's data on one line."""
_LABEL = 18
"""Characters of the longest label in front of an event, so that what follows is aligned."""


def started(url: str, directory: str) -> str:
    """Where it runs, and which directory of subscriptions it watches."""
    return f"Hookcast is running at {url} with the subscriptions of {directory}.\n"


def moved(taken: int, port: int, directory: str) -> str:
    """Why the receiver is not where the samples say, and what is watched in their place."""
    return (
        f"Port {taken} is in use, so the webhooks go to {port}. "
        f"A copy of the samples with that port is watched until this ends: {directory}"
    )


def published(event: dict[str, Any]) -> str:
    """What was published."""
    return labelled("published:", f"{event['type']} {compact(event['data'])} on the channel {event['channel']}")


def webhook(path: str, event_type: str, data: Any) -> str:
    """A webhook whose signature holds."""
    return labelled("webhook verified:", f"POST {printable(path)} {printable(event_type)} {compact(data)}")


def unverified(path: str, why: str) -> str:
    """A webhook that is not to be trusted."""
    return f"webhook NOT verified: POST {printable(path)}: {printable(why)}"


def live(channel: str, event: Any) -> str:
    """A message of a channel: a CloudEvent, or whatever a client published."""
    if isinstance(event, dict) and "type" in event:
        return labelled("websocket:", f"{channel} ← {printable(str(event['type']))} {compact(event.get('data'))}")
    return labelled("websocket:", f"{channel} ← {compact(event)}")


def next_steps(url: str, api_key: str) -> str:
    """The two lines that a newcomer copies next."""
    body = shlex.quote(json.dumps(NEXT_EVENT))
    return (
        "\nPublish another one, from a second terminal:\n"
        f"  curl {url}/api/v1/events -H 'X-API-Key: {api_key}' -H 'Content-Type: application/json' -d {body}\n"
        "Watch them live in a browser:\n"
        f"  {url}/sse/{CHANNEL}\n\n"
        "Every webhook and live message is shown here as it arrives. Ctrl-C ends it.\n"
    )


def missing(seconds: float) -> str:
    """What to look at when the first event did not come back."""
    return f"Not everything has arrived within {seconds:.0f} s; warnings above, or GET /api/v1/deliveries, say why."


def not_published(error: OSError) -> str:
    """The server did not take the first event."""
    return f"The first event was not accepted: {printable(str(error))}"


def refused(error: InvalidInput) -> str:
    """What has to be changed before the demo can start, in one line."""
    if error.reason is Reason.ADDRESS_IN_USE and error.field:
        name = f"HOOKCAST_{error.field.upper()}"
        return f"{error.detail.partition(';')[0]}: stop what listens there, or choose another port: {name}=0 make run"
    return f"HOOKCAST_{error.field.upper()}: {error.detail}" if error.field else error.detail


def labelled(label: str, text: str) -> str:
    """An aligned line."""
    return f"{label:<{_LABEL}}{text}"


def compact(data: Any) -> str:
    """JSON on one line, at most MAX_SHOWN characters."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return printable(text)


def printable(text: str) -> str:
    """One line without control characters, at most MAX_SHOWN characters."""
    clean = "".join(character if character.isprintable() else "�" for character in text)
    return clean if len(clean) <= MAX_SHOWN else f"{clean[:MAX_SHOWN]}…"
