"""Events in: from an HTTP request to one atomic write of the event, its deliveries and its publications."""

from hookcast_app.events.encoding import Stored, data_of, stored, structured
from hookcast_app.events.models import Event, event_ref, timestamp, uuid7
from hookcast_app.events.relay import Relay
from hookcast_app.events.remembered import Remembered

__all__ = [
    "Event",
    "Relay",
    "Remembered",
    "Stored",
    "data_of",
    "event_ref",
    "stored",
    "structured",
    "timestamp",
    "uuid7",
]
