"""Channels and their clients: the Centrifugal protocol over WebSocket, and plain server-sent events.

A publication comes from Redis, is framed once and reaches every subscriber in one write a loop tick. Whatever is
decided (protocol, session, channels, handshake, framing) is pure; wire, transport, sse and broker do the I/O.
"""

from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.protocol import encode_publication
from hookcast_app.realtime.service import Realtime
from hookcast_app.realtime.shards import POSITION_SECONDS, Shard, Shards
from hookcast_app.realtime.stats import Stats
from hookcast_app.realtime.streams import PUBLICATION_LUA, new_epoch
from hookcast_app.realtime.wire import UVICORN_OPTIONS, RawWebSocket

__all__ = [
    "POSITION_SECONDS",
    "PUBLICATION_LUA",
    "UVICORN_OPTIONS",
    "ChannelRules",
    "RawWebSocket",
    "Realtime",
    "Shard",
    "Shards",
    "Stats",
    "encode_publication",
    "new_epoch",
]
