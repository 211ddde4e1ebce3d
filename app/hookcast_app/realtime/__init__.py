"""Channels and their clients: the Centrifugal protocol over WebSocket, and plain server-sent events.

A publication comes from Redis, is framed once and reaches every subscriber in one write a loop tick. Whatever is
decided (protocol, session, channels, handshake, framing) is pure; wire, transport, sse and broker do the I/O.
"""

from hookcast_app.realtime.protocol import encode_publication
from hookcast_app.realtime.service import Realtime
from hookcast_app.realtime.stats import Stats
from hookcast_app.realtime.wire import UVICORN_OPTIONS, RawWebSocket

__all__ = ["UVICORN_OPTIONS", "RawWebSocket", "Realtime", "Stats", "encode_publication"]
