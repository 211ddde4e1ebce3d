"""Channels, users and nodes as resources of the REST API: thin routes over what Centrifugo's methods do as well."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hookcast_app.auth import ApiKeys
from hookcast_app.realtime import Position, history_result, presence_stats_result
from hookcast_app.server_api import models
from hookcast_app.server_api.calls import ADMIN_SCOPE, PUBLISH_SCOPE, READ_SCOPE
from hookcast_app.server_api.models import decoded
from hookcast_app.server_api.publications import MAX_KEY
from hookcast_app.server_api.service import ServerApi

ChannelName = Annotated[str, Path(description="A channel's name, URL-encoded.")]
User = Annotated[str, Path(min_length=1, description="A user's id, as tokens have it in `sub`.")]
Client = Annotated[str, Query(max_length=255, description="The id of one of the user's connections; all without it.")]


class NewPublication(BaseModel):
    """What is to be published."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    data: Any = Field(description="Any JSON; subscribers get it as you wrote it.")
    tags: dict[str, str] | None = Field(default=None, description="What clients are given beside the data.")
    skip_history: bool = Field(default=False, alias="skipHistory", description="Whether it is not to be kept.")


class NewUserSubscription(BaseModel):
    """What a user's clients, and others on the channel, are given with a subscription."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    data: Any = Field(default=None, description="Any JSON, for the user's clients.")
    info: Any = Field(default=None, description="Any JSON, for others on the channel to see.")


class _Written(msgspec.Struct, frozen=True, rename="camel"):
    """A body whose values stay as they were written."""

    data: msgspec.Raw = models.NOTHING
    info: msgspec.Raw = models.NOTHING
    tags: dict[str, str] | None = None
    skip_history: bool = False


_bodies = msgspec.json.Decoder(_Written)


class ChannelRoutes:
    """The handlers; lives as long as the app."""

    def __init__(self, api: ServerApi, keys: ApiKeys) -> None:
        self._api = api
        self._keys = keys

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(prefix="/api/v1")
        one, subscription = "/channels/{channel}", "/users/{user}/subscriptions/{channel}"
        for path, handler, method, status, scope, tag, summary in (
            ("/channels", self.channels, "GET", 200, READ_SCOPE, "channels", "List channels that have subscribers"),
            (f"{one}/publications", self.publish, "POST", 200, PUBLISH_SCOPE, "channels", "Publish on a channel"),
            (f"{one}/presence", self.presence, "GET", 200, READ_SCOPE, "channels", "Who is on a channel"),
            (f"{one}/presence-stats", self.stats, "GET", 200, READ_SCOPE, "channels", "How many are on a channel"),
            (f"{one}/history", self.history, "GET", 200, READ_SCOPE, "channels", "What was published on a channel"),
            (f"{one}/history", self.remove_history, "DELETE", 204, ADMIN_SCOPE, "channels", "Remove a history"),
            (subscription, self.subscribe, "POST", 204, ADMIN_SCOPE, "users", "Subscribe a user's connections"),
            (subscription, self.unsubscribe, "DELETE", 204, ADMIN_SCOPE, "users", "End a user's subscriptions"),
            ("/users/{user}/connections", self.disconnect, "DELETE", 204, ADMIN_SCOPE, "users", "Disconnect a user"),
            ("/nodes", self.nodes, "GET", 200, READ_SCOPE, "nodes", "List the processes"),
        ):
            router.add_api_route(
                path,
                handler,
                methods=[method],
                status_code=status,
                tags=[tag],
                summary=summary,
                dependencies=[Depends(self._needs(scope))],
            )
        return router

    def _needs(self, scope: str) -> Any:
        async def authorize(request: Request) -> None:
            self._keys.authorize(request.scope["headers"], scope)

        return authorize

    async def channels(
        self,
        pattern: Annotated[str, Query(max_length=255, description="`*`, `?` and `[…]` stand for characters.")] = "",
    ) -> Response:
        """Channels that somebody is subscribed to; `truncated` says that a process has too many to tell of all."""
        found = await self._api.channels(pattern)
        items = [{"channel": name, "clients": found.subscribers[name]} for name in sorted(found.subscribers)]
        return _json({"items": items, "truncated": not found.is_complete})

    async def publish(
        self,
        request: Request,
        channel: ChannelName,
        _body: Annotated[NewPublication, Body()],
        idempotency_key: Annotated[
            str | None, Header(max_length=MAX_KEY, description="With the same one it is published once in 5 minutes.")
        ] = None,
    ) -> Response:
        """Publishes to every subscriber. The answer is where that is in the channel's history, if it has one."""
        written = decoded(_bodies, await request.body())
        position = await self._api.publish(
            models.PublishRequest(
                channel=channel,
                data=written.data,
                tags=written.tags,
                skip_history=written.skip_history,
                idempotency_key=idempotency_key,
            )
        )
        return _json(_shown_position(position))

    async def presence(self, channel: ChannelName) -> Response:
        """Clients that are on a channel, wherever they are connected."""
        present = await self._api.presence(channel)
        return _json({"items": [msgspec.Raw(info) for info in present.values()]})

    async def stats(self, channel: ChannelName) -> Response:
        """How many clients, and how many users, are on a channel."""
        stats = presence_stats_result(await self._api.presence(channel))
        return _json({"clients": stats["num_clients"], "users": stats["num_users"]})

    async def history(
        self,
        channel: ChannelName,
        limit: Annotated[int, Query(ge=1, le=1000, description="Publications at most.")] = 100,
        offset: Annotated[int | None, Query(ge=0, lt=2**53, description="Those after this one.")] = None,
        epoch: Annotated[str, Query(max_length=255, description="Of the offset; 409 if there is another.")] = "",
        reverse: Annotated[bool, Query(description="The newest first, and with an offset those before it.")] = False,  # noqa: FBT002  a query parameter
    ) -> Response:
        """What is kept of a channel, and where the channel stands."""
        since = None if offset is None else models.StreamPosition(offset=offset, epoch=epoch)
        read = await self._api.history(
            models.HistoryRequest(channel=channel, limit=limit, since=since, reverse=reverse)
        )
        return _json({"items": history_result(read)["publications"], **_shown_position(read.position)})

    async def remove_history(self, channel: ChannelName) -> Response:
        """Removes what is kept of a channel; clients that come back cannot be given what they missed."""
        await self._api.remove_history(channel)
        return Response(status_code=204)

    async def subscribe(
        self,
        request: Request,
        user: User,
        channel: ChannelName,
        _body: Annotated[NewUserSubscription | None, Body()] = None,
        client: Client = "",
    ) -> Response:
        """Subscribes those of a user's connections that there are now."""
        written = decoded(_bodies, await request.body() or b"{}")
        await self._api.order(
            models.SubscribeRequest(user=user, channel=channel, client=client, data=written.data, info=written.info)
        )
        return Response(status_code=204)

    async def unsubscribe(self, user: User, channel: ChannelName, client: Client = "") -> Response:
        """Ends the subscription of a user's connections, those that clients asked for too."""
        await self._api.order(models.UnsubscribeRequest(user=user, channel=channel, client=client))
        return Response(status_code=204)

    async def disconnect(
        self,
        user: User,
        client: Client = "",
        code: Annotated[int, Query(description="What clients are told: 3000 to 4999; 0 is 3503, to stay away.")] = 0,
        reason: Annotated[str, Query(max_length=123)] = "",
    ) -> Response:
        """Ends a user's connections."""
        ending = models.Ending(code=code, reason=reason)
        await self._api.order(models.DisconnectRequest(user=user, client=client, disconnect=ending))
        return Response(status_code=204)

    async def nodes(self) -> Response:
        """The processes that share this Redis, and what they have."""
        items = [
            {
                "uid": node.uid,
                "name": node.name,
                "version": node.version,
                "clients": node.num_clients,
                "users": node.num_users,
                "channels": node.num_channels,
                "subscriptions": node.num_subs,
                "uptimeSeconds": node.uptime,
            }
            for node in await self._api.nodes()
        ]
        return _json({"items": items})


def _shown_position(position: Position) -> dict[str, Any]:
    return {"offset": position.offset, "epoch": position.epoch}


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
