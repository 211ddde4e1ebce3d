"""How those listen that are told of more than a session is: from where they were last, whatever a newcomer gets."""

from hookcast_app.realtime.context import Context
from hookcast_app.realtime.hub import Connection
from hookcast_app.realtime.positions import Caught, Position
from hookcast_core.errors import Reason, Refused


async def follow(context: Context, channel: str, connection: Connection, since: Position | None) -> Caught:
    """Subscribes a connection, and says what it missed since it was there last; a newcomer may get the newest.

    `Context.leave` ends it. Raises as `Context.listen`, from which it differs where a namespace has `cache_last`: who
    comes back gets all of what it missed, not the newest alone.
    """
    if since is None:
        return await context.listen(channel, connection)
    async with context.time_limit():
        await context.broker.subscribe(channel)
    try:
        async with context.time_limit():
            caught = await context.broker.catch_up(channel, since)
        # Others may have come while Redis was waited for; from here to the hub nothing is.
        _check_room(context, channel)
    except BaseException:
        context.broker.unsubscribe(channel)
        raise
    context.hub.subscribe(channel, connection)
    return caught


def _check_room(context: Context, channel: str) -> None:
    if context.is_full(channel):
        raise Refused(Reason.FORBIDDEN, f"{channel} has as many subscribers as it may")
