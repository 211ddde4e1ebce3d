"""What the configuration in force says about each lane: deliver to this target, hold, or discard."""

from collections.abc import Callable, Iterable
from enum import Enum
from hashlib import sha256

import structlog

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Target
from hookcast_app.delivery.request import prepare
from hookcast_app.outgoing import ClientCertificate, Tls
from hookcast_core.configuration import Entry

_log = structlog.get_logger("hookcast.delivery")


class Disposition(Enum):
    """What is done with a lane's deliveries."""

    DELIVER = "deliver"
    HOLD = "hold"
    DISCARD = "discard"


class Targets:
    """Prepared targets of the configuration in force; lives as long as the dispatcher."""

    def __init__(
        self, configuration: CurrentConfiguration, version: str, clock: Callable[[], int], grace_seconds: int
    ) -> None:
        self._configuration = configuration
        self._version = version
        self._clock = clock
        self._grace_ms = grace_seconds * 1000
        self._prepared: dict[str, Target] = {}
        self._missing_since: dict[str, int] = {}
        configuration.listen(self._changed)

    def _changed(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self._prepared.pop(uid, None)
            if uid in self._configuration.entries:
                self._missing_since.pop(uid, None)

    def disposition(self, uid: str) -> Disposition:
        """What is to be done with a lane now.

        A subscription that is missing may be newer than this process's configuration, its document may be broken, or
        its file may just be written anew: its deliveries are held until it has been missing for the grace from a
        configuration without problems. One whose keys have all expired is held until it has another.
        """
        entry = self._configuration.entries.get(uid)
        if entry is not None:
            is_held = entry.spec.suspend or not entry.can_sign(self._clock())
            return Disposition.HOLD if is_held else Disposition.DELIVER
        missing_ms = self._clock() - self._missing_since.setdefault(uid, self._clock())
        gone = self._configuration.complete and missing_ms >= self._grace_ms
        return Disposition.DISCARD if gone else Disposition.HOLD

    def target(self, uid: str, now_ms: int) -> Target | None:
        """The target of a lane whose requests are signed at `now_ms`, or None if there is none (any more)."""
        target = self._prepared.get(uid)
        entry = self._configuration.entries.get(uid)
        if target is None and entry is not None:
            try:
                target = self._prepared[uid] = Target(entry, prepare(entry, self._version), _tls(entry))
            except Exception:  # noqa: BLE001  one subscription must not stop the others
                _log.exception("subscription.defect", subscription=uid)
        return target if target is not None and target.entry.can_sign(now_ms) else None


def fingerprint(entry: Entry) -> str:
    """Changes whenever what is said in a subscription's specification does, or its URL; not secret.

    What is left to the defaults is not part of it: a later version may have other defaults, and more.
    """
    return sha256(f"{entry.url}\0{entry.spec.model_dump_json(exclude_defaults=True)}".encode()).hexdigest()[:32]


def _tls(entry: Entry) -> Tls | None:
    certificate = entry.client_certificate
    if entry.ca_certificate is None and certificate is None:
        return None
    ours = ClientCertificate(certificate.chain, certificate.key) if certificate else None
    return Tls(ca_certificate=entry.ca_certificate, client_certificate=ours)
