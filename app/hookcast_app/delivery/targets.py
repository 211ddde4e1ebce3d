"""What the configuration in force says about each lane: deliver to this target, hold, or discard."""

from collections.abc import Callable, Iterable
from enum import Enum
from hashlib import sha256

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Target
from hookcast_app.delivery.request import prepare
from hookcast_app.outgoing import ClientCertificate, Tls
from hookcast_core.configuration import Entry

GRACE_MS = 60_000
"""A lane whose subscription is missing from a complete configuration this long after it was loaded is discarded."""


class Disposition(Enum):
    """What is done with a lane's deliveries."""

    DELIVER = "deliver"
    HOLD = "hold"
    DISCARD = "discard"


class Targets:
    """Prepared targets of the configuration in force; lives as long as the dispatcher."""

    def __init__(self, configuration: CurrentConfiguration, version: str, clock: Callable[[], int]) -> None:
        self._configuration = configuration
        self._version = version
        self._clock = clock
        self._prepared: dict[str, Target] = {}
        self._deleted: set[str] = set()
        self._changed_at = clock()
        configuration.listen(self._changed)

    def _changed(self, uids: Iterable[str]) -> None:
        self._changed_at = self._clock()
        for uid in uids:
            self._prepared.pop(uid, None)
            if uid in self._configuration.entries:
                self._deleted.discard(uid)
            else:
                self._deleted.add(uid)

    def disposition(self, uid: str) -> Disposition:
        """What is to be done with a lane now.

        A subscription that this process never saw may be newer than its configuration, or its document may be broken
        just now: its deliveries are held until a complete configuration has lacked it for a while.
        """
        entry = self._configuration.entries.get(uid)
        if entry is not None:
            return Disposition.HOLD if entry.spec.suspend else Disposition.DELIVER
        if uid in self._deleted:
            return Disposition.DISCARD
        old = self._clock() - self._changed_at > GRACE_MS
        return Disposition.DISCARD if self._configuration.complete and old else Disposition.HOLD

    def target(self, uid: str) -> Target:
        """The target of a lane that is to be delivered."""
        target = self._prepared.get(uid)
        if target is None:
            entry = self._configuration.entries[uid]
            target = self._prepared[uid] = Target(entry, prepare(entry, self._version), _tls(entry))
        return target


def fingerprint(entry: Entry) -> str:
    """Changes whenever a subscription's specification or URL does; not secret."""
    return sha256(f"{entry.url}\0{entry.spec.model_dump_json()}".encode()).hexdigest()[:32]


def _tls(entry: Entry) -> Tls | None:
    certificate = entry.client_certificate
    if entry.ca_certificate is None and certificate is None:
        return None
    ours = ClientCertificate(certificate.chain, certificate.key) if certificate else None
    return Tls(ca_certificate=entry.ca_certificate, client_certificate=ours)
