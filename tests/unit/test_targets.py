"""What the configuration says about each lane."""

from typing import Any

from pydantic import SecretStr

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.targets import Disposition, Targets, fingerprint
from hookcast_core.configuration import ClientCertificate, Configuration, Entry, SigningKey
from hookcast_core.subscription import Subscription


def signing_key(expires_at: int | None = None) -> SigningKey:
    return SigningKey(algorithm="HMAC", secret=SecretStr("whsec_" + "k" * 44), expires_at=expires_at)


def entry(uid: str = "u", **changes: Any) -> Entry:
    spec = {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"]}, **changes.pop("spec", {})}
    values = {"uid": uid, "generation": 1, "namespace": "d", "name": "n", "source": "files"}
    values |= {"signing_keys": (signing_key(),)} | changes
    return Entry(**values, spec=Subscription.model_validate(spec), url="https://shop.example")


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def configured(*entries: Entry, problems: tuple[str, ...] = ()) -> tuple[CurrentConfiguration, Targets, Clock]:
    current, clock = CurrentConfiguration(), Clock()
    targets = Targets(current, "1", clock, 60)
    current.swap(Configuration(sequence=1, entries=entries), problems)
    return current, targets, clock


def test_a_subscription_in_force_is_delivered_unless_suspended() -> None:
    """Suspend holds."""
    _, targets, _ = configured(entry("u"), entry("s", spec={"suspend": True}))

    assert targets.disposition("u") is Disposition.DELIVER
    assert targets.disposition("s") is Disposition.HOLD


def test_a_subscription_whose_keys_have_all_expired_is_held() -> None:
    """From the very moment on: what is sent is signed at the time that was asked about."""
    current, targets, clock = configured(entry(signing_keys=(signing_key(500), signing_key(1_000))))

    assert targets.disposition("u") is Disposition.DELIVER
    assert targets.target("u", 999) is not None
    clock.now = 1_000
    assert targets.disposition("u") is Disposition.HOLD
    assert targets.target("u", 1_000) is None
    current.swap(Configuration(sequence=2, entries=(entry(signing_keys=(signing_key(), signing_key(1_000))),)))
    assert targets.disposition("u") is Disposition.DELIVER


def test_a_deletion_discards_after_the_grace() -> None:
    """A file that is written anew is gone for a moment: nothing that waits may be thrown away for that."""
    current, targets, clock = configured(entry("u"))

    current.swap(Configuration(sequence=2))
    assert targets.disposition("u") is Disposition.HOLD
    clock.now = 59_999
    assert targets.disposition("u") is Disposition.HOLD
    current.swap(Configuration(sequence=3, entries=(entry("u"),)))
    assert targets.disposition("u") is Disposition.DELIVER
    current.swap(Configuration(sequence=4))
    clock.now += 60_000
    assert targets.disposition("u") is Disposition.HOLD
    clock.now += 60_000
    assert targets.disposition("u") is Disposition.DISCARD
    assert targets.target("u", 0) is None


def test_an_unknown_subscription_is_held_from_when_it_was_first_seen() -> None:
    """It may be newer than what this process knows, however long that has not changed."""
    _, targets, clock = configured()
    clock.now = 1_000_000

    assert targets.disposition("u") is Disposition.HOLD
    clock.now += 59_999
    assert targets.disposition("u") is Disposition.HOLD
    clock.now += 1
    assert targets.disposition("u") is Disposition.DISCARD


def test_an_unknown_subscription_is_held_while_something_is_broken() -> None:
    """Its document may be the broken one: then nothing of it may be thrown away."""
    _, targets, clock = configured(problems=("a.yaml: broken",))
    clock.now = 10**9

    assert targets.disposition("u") is Disposition.HOLD
    clock.now *= 2
    assert targets.disposition("u") is Disposition.HOLD


def test_without_any_configuration_everything_is_held() -> None:
    """A server started without its manifests by mistake discards nothing."""
    clock = Clock()
    targets = Targets(CurrentConfiguration(), "1", clock, 60)
    clock.now = 10**9

    assert targets.disposition("u") is Disposition.HOLD


def test_a_target_is_prepared_once_for_each_configuration() -> None:
    """And anew when its subscription changes."""
    current, targets, _ = configured(entry("u"))
    first = targets.target("u", 0)

    assert targets.target("u", 0) is first
    current.swap(Configuration(sequence=2, entries=(entry("u", generation=2),)))
    assert targets.target("u", 0) is not first


def test_tls_options_reach_the_client() -> None:
    """A CA and a client certificate of the subscription."""
    certificate = ClientCertificate(chain="c", key="k")
    _, targets, _ = configured(entry("u", ca_certificate="ca", client_certificate=certificate))

    target = targets.target("u", 0)

    assert target is not None
    tls = target.tls
    assert tls is not None
    assert (tls.ca_certificate, tls.client_certificate and tls.client_certificate.chain) == ("ca", "c")


def test_the_fingerprint_changes_with_the_specification() -> None:
    """So that a changed subscription is enabled again; another generation alone is no change."""
    assert fingerprint(entry()) == fingerprint(entry(generation=9))
    assert fingerprint(entry()) != fingerprint(entry(spec={"format": "Data"}))


def test_the_fingerprint_says_nothing_of_defaults() -> None:
    """A later version may have other fields: what was disabled stays so, and pods of both versions agree."""
    said = {"delivery": {"timeout": "15s"}, "suspend": False}

    assert fingerprint(entry()) == fingerprint(entry(spec=said))
