"""Redis: the one that is started with the app, the connection to whichever it is, and the names of everything in it."""

from hookcast_app.redis.connect import create_redis
from hookcast_app.redis.embedded import EmbeddedRedis
from hookcast_app.redis.errors import translated
from hookcast_app.redis.keys import Keys, channel
from hookcast_app.redis.scripts import Script
from hookcast_app.redis.state import ServerState, check_server, claim_instance, first_contact, probe, unfit_policy

__all__ = [
    "EmbeddedRedis",
    "Keys",
    "Script",
    "ServerState",
    "channel",
    "check_server",
    "claim_instance",
    "create_redis",
    "first_contact",
    "probe",
    "translated",
    "unfit_policy",
]
