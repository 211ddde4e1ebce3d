"""Webhook sources in a configuration that is pushed: where the receiving side finds them."""

from pathlib import Path

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.configuration.kubernetes import KubernetesConfiguration
from hookcast_core.document import encode_line, make_document
from hookcast_core.egress import EgressPolicy
from hookcast_core.sealing import Sealer
from tests.support.operator import INTERNAL_KEY, entry, seal, source


async def test_sources_are_found_by_their_path(tmp_path: Path) -> None:
    """From the push on, and no longer than they are in the configuration; a rejected one is told and stays."""
    current = CurrentConfiguration()
    configuration = KubernetesConfiguration(tmp_path, Sealer([INTERNAL_KEY]), EgressPolicy([]), current)
    subscriptions = [encode_line(entry("u1", "https://shop.example"))]
    lines = [encode_line(source("s1", "a")), encode_line(source("s2", "b"))]
    assert current.source_at("a") is None

    await configuration.push(seal(make_document(1, "origin", subscriptions, lines)))

    found = current.source_at("a")
    assert found is not None
    assert (found.uid, found.secrets[0].get_secret_value()) == ("s1", "s3cret")
    assert current.sources.keys() == {"s1", "s2"}
    assert current.source_at("source-s1") is None

    newer = encode_line(source("s1", "c", 2)).replace(b'"event":', b'"unknown":1,"event":')
    in_force = await configuration.push(seal(make_document(2, "origin", subscriptions, [newer])))

    assert current.source_at("a") is found
    assert (current.source_at("b"), current.source_at("c")) == (None, None)
    assert [(one.uid, one.generation, one.field) for one in in_force.rejected] == [("s1", 2, "spec.unknown")]
    # What is rejected is no subscription: those that are missing were deleted.
    assert current.complete
