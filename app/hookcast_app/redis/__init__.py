"""Redis: the one that is started with the app, the connection to whichever it is, and the names of everything in it."""

from hookcast_app.redis.connect import create_redis
from hookcast_app.redis.embedded import EmbeddedRedis
from hookcast_app.redis.errors import heed_cancellation, time_limit, translated
from hookcast_app.redis.keys import Keys
from hookcast_app.redis.moving import Mark, Phase, read_mark, swap_mark
from hookcast_app.redis.partitions import LAYOUT_CODE, Clients, LayoutChanged, Partition, Partitions
from hookcast_app.redis.scripts import Script
from hookcast_app.redis.servers import Servers, tags_of
from hookcast_app.redis.state import (
    ALIVE_SECONDS,
    Seen,
    ServerState,
    check_fit,
    check_server,
    claim_instance,
    first_contact,
    probe,
    server_version,
    unfit_policy,
)

__all__ = [
    "ALIVE_SECONDS",
    "LAYOUT_CODE",
    "Clients",
    "EmbeddedRedis",
    "Keys",
    "LayoutChanged",
    "Mark",
    "Partition",
    "Partitions",
    "Phase",
    "Script",
    "Seen",
    "ServerState",
    "Servers",
    "check_fit",
    "check_server",
    "claim_instance",
    "create_redis",
    "first_contact",
    "heed_cancellation",
    "probe",
    "read_mark",
    "server_version",
    "swap_mark",
    "tags_of",
    "time_limit",
    "translated",
    "unfit_policy",
]
