"""The custom resources, and what of their definitions is not the same for both. Pure data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from hookcast_core.documents import KIND, SOURCE_KIND
from hookcast_core.source import WebhookSource
from hookcast_core.subscription import Subscription
from hookcast_operator.crds.rules import SUBSCRIPTION_RULES, Rule
from hookcast_operator.crds.source_rules import SOURCE_RULES


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: its names, its model with the rules for it, and what its status and columns have besides."""

    name: str
    short_name: str
    description: str
    model: type[BaseModel]
    rules: Mapping[str, Sequence[Rule]]
    conditions: Sequence[str]
    """Besides Ready, in the order in which they come true."""
    status: Mapping[str, Any]
    """Properties of its own."""
    columns: Sequence[dict[str, Any]]
    """Of its own; they stand after those of the conditions."""
    sample: str
    """File name below manifests/samples/kubernetes."""

    @property
    def plural(self) -> str:
        """As it stands in URLs, and in the definition's name."""
        return f"{self.name.lower()}s"


SUBSCRIPTION = Kind(
    name=KIND,
    short_name="whsub",
    description="Which events go to which endpoint as signed webhooks, and how.",
    model=Subscription,
    rules=SUBSCRIPTION_RULES,
    conditions=("Accepted", "ResolvedRefs", "Programmed", "Delivering"),
    status={
        "endpoint": {"type": "string", "maxLength": 300, "description": "Host of the endpoint, if it is no secret."},
        "signingSecret": {
            "type": "object",
            "description": "The Secret with the generated signing key, under `secret`.",
            "properties": {"name": {"type": "string", "maxLength": 253, "description": "Its name."}},
        },
        "lastDelivery": {
            "type": "object",
            "description": "The last attempt that was told here: when its outcome changes, else hourly at most.",
            "properties": {
                "time": {"type": "string", "format": "date-time", "description": "When it was."},
                "outcome": {"type": "string", "maxLength": 32, "description": "Delivered, Failed or Dead."},
                "reason": {"type": "string", "maxLength": 64, "description": "Why it failed."},
            },
        },
    },
    columns=(
        {"name": "Suspended", "type": "boolean", "jsonPath": ".spec.suspend"},
        {"name": "Endpoint", "type": "string", "priority": 1, "jsonPath": ".status.endpoint"},
    ),
    sample="subscription.yaml",
)
SOURCE = Kind(
    name=SOURCE_KIND,
    short_name="whsrc",
    description="Whose webhooks are received at which path, how they are verified, and the events that they become.",
    model=WebhookSource,
    rules=SOURCE_RULES,
    conditions=("Accepted", "ResolvedRefs", "Programmed"),
    status={
        "path": {
            "type": "string",
            "maxLength": 300,
            "description": "Where requests are received: `/webhooks/` with spec.path, or the name.",
        },
    },
    columns=(
        {"name": "Path", "type": "string", "jsonPath": ".status.path"},
        {"name": "Scheme", "type": "string", "priority": 1, "jsonPath": ".spec.verification.scheme"},
    ),
    sample="source.yaml",
)
KINDS = (SUBSCRIPTION, SOURCE)
