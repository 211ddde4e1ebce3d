"""Requests about a user's connections, as orders to whoever has them. Pure."""

from typing import Any

import msgspec

from hookcast_app.realtime import Disconnect, Order, Refresh, Subscribe, Unsubscribe
from hookcast_app.server_api.models import (
    Chosen,
    DisconnectRequest,
    RefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
    invalid,
)
from hookcast_app.server_api.publications import check_channel, json_value
from hookcast_core.errors import InvalidInput, Reason

UNSUBSCRIBED = (2000, "server unsubscribe")
"""A client does not subscribe again by itself."""
DISCONNECTED = (3503, "force disconnect")
"""A client stays away."""
_CLOSE_CODES = range(3000, 5000)
_MAX_REASON = 123
"""Bytes of a close frame beside its code (RFC 6455, 5.5)."""
_MAX_SPARED = 1_000

OrderRequest = SubscribeRequest | UnsubscribeRequest | DisconnectRequest | RefreshRequest


def order(request: OrderRequest, max_bytes: int) -> Order:
    """What is to be done with connections; `info` and `data` have `max_bytes` each. Raises InvalidInput."""
    if not (request.user or request.client or request.session):
        raise invalid("user", "is required; for an anonymous one name its client or session")
    match request:
        case SubscribeRequest():
            return _subscribe(request, max_bytes)
        case UnsubscribeRequest():
            return _unsubscribe(request)
        case DisconnectRequest():
            return _disconnect(request)
        case RefreshRequest():
            return _refresh(request)


def _subscribe(request: SubscribeRequest, max_bytes: int) -> Subscribe:
    check_channel(request.channel)
    since = request.recover_since
    return Subscribe(
        **_chosen(request),
        channel=request.channel,
        info=_value("info", request.info, request.b64info, max_bytes),
        data=_value("data", request.data, request.b64data, max_bytes),
        expires_at=request.expire_at or None,
        override=request.override,
        recover_since=None if since is None else (since.offset, since.epoch),
    )


def _value(name: str, value: msgspec.Raw, encoded: str | None, max_bytes: int) -> Any:
    text = json_value(name, value, encoded, max_bytes)
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.MsgspecError as error:
        raise invalid(name, "has a number that is out of range") from error


def _unsubscribe(request: UnsubscribeRequest) -> Unsubscribe:
    if request.channel:
        check_channel(request.channel)
    code, reason = UNSUBSCRIBED
    return Unsubscribe(**_chosen(request), channel=request.channel, code=code, reason=reason)


def _disconnect(request: DisconnectRequest) -> Disconnect:
    code, reason = DISCONNECTED
    if request.disconnect is not None and request.disconnect.code:
        code, reason = request.disconnect.code, request.disconnect.reason
    if code not in _CLOSE_CODES:
        raise invalid(
            "disconnect.code",
            "must be 3000 to 4999: clients come back after 3000 to 3499 and 4000 to 4499, and stay away after others",
        )
    if len(reason.encode()) > _MAX_REASON:
        raise invalid("disconnect.reason", f"has more than {_MAX_REASON} bytes")
    spared = tuple(request.whitelist or ())
    if len(spared) > _MAX_SPARED:
        detail = f"has {len(spared)} clients; at most {_MAX_SPARED} are taken"
        raise InvalidInput(Reason.LIMIT_EXCEEDED, "whitelist", detail)
    return Disconnect(**_chosen(request), code=code, reason=reason, spared=spared)


def _refresh(request: RefreshRequest) -> Refresh:
    return Refresh(**_chosen(request), is_expired=request.expired or False, expires_at=request.expire_at or None)


def _chosen(request: Chosen) -> dict[str, str]:
    return {"user": request.user, "client": request.client or "", "session": request.session or ""}
