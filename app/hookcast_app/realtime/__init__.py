"""Channels and their clients: the Centrifugal protocol over WebSocket and HTTP, and plain server-sent events.

A publication comes from Redis, is framed once and reaches every subscriber in one write a loop tick. Whatever is
decided (protocol, session, channels, handshake, framing) is pure; wire, transport, emulated, sse and broker do the I/O.
"""

from hookcast_app.realtime.backend import Backend
from hookcast_app.realtime.census import Channels, Node
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.control import Disconnect, Order, Refresh, Subscribe, Unsubscribe
from hookcast_app.realtime.emulation import PATH as EMULATION_PATH
from hookcast_app.realtime.positions import Position, Read
from hookcast_app.realtime.protocol import (
    HistoryRequest,
    Since,
    encode_publication,
    history_result,
    presence_result,
    presence_stats_result,
)
from hookcast_app.realtime.service import Realtime
from hookcast_app.realtime.shards import POSITION_SECONDS, Shard, Shards
from hookcast_app.realtime.stats import TRANSPORTS, Stats
from hookcast_app.realtime.streams import PUBLICATION_LUA, EpochGone, Outgoing, new_epoch, read_history
from hookcast_app.realtime.wire import UVICORN_OPTIONS, RawWebSocket

__all__ = [
    "EMULATION_PATH",
    "POSITION_SECONDS",
    "PUBLICATION_LUA",
    "TRANSPORTS",
    "UVICORN_OPTIONS",
    "Backend",
    "ChannelRules",
    "Channels",
    "Disconnect",
    "EpochGone",
    "HistoryRequest",
    "Node",
    "Order",
    "Outgoing",
    "Position",
    "RawWebSocket",
    "Read",
    "Realtime",
    "Refresh",
    "Shard",
    "Shards",
    "Since",
    "Stats",
    "Subscribe",
    "Unsubscribe",
    "encode_publication",
    "history_result",
    "new_epoch",
    "presence_result",
    "presence_stats_result",
    "read_history",
]
