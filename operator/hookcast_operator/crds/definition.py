"""The custom resource definition of WebhookSubscription. Pure."""

from typing import Any

from hookcast_core.documents import GROUP, KIND, MAX_NAME, VERSION
from hookcast_core.subscription import Subscription
from hookcast_operator.crds.schema import structural_schema

SCHEMA_VERSION = 1
"""Rises with every released change of a schema; an older one never replaces a newer one."""

_CONDITION = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"type": "string", "maxLength": 316, "description": "What the condition is about."},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
        "observedGeneration": {
            "type": "integer", "format": "int64", "minimum": 0,
            "description": "The generation of the spec that it was judged by.",
        },
        "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When `status` last changed."},
        "reason": {
            "type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, as one word for programs.",
        },
        "message": {"type": "string", "maxLength": 32768, "description": "Why, and what to do, for people."},
    },
}  # fmt: skip

STATUS: dict[str, Any] = {
    "type": "object",
    "description": "What the operator observed. Written on changes only.",
    "properties": {
        "observedGeneration": {
            "type": "integer", "format": "int64", "minimum": 0, "description": "The newest generation that was judged.",
        },
        "conditions": {
            "type": "array",
            "maxItems": 16,
            "description": "Accepted, ResolvedRefs, Programmed, Delivering, and Ready, which sums up.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": _CONDITION,
        },
        "configurationSequence": {
            "type": "integer", "format": "int64", "minimum": 0,
            "description": "The configuration that first carried this generation.",
        },
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
}  # fmt: skip


def subscription_definition() -> dict[str, Any]:
    """The CustomResourceDefinition (apiextensions.k8s.io/v1) as a value."""
    plural = f"{KIND.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "annotations": {"hookcast.dev/schema-version": str(SCHEMA_VERSION)},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": plural,
                "singular": KIND.lower(),
                "shortNames": ["whsub"],
                "categories": ["hookcast"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _root() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Which events go to which endpoint as signed webhooks, and how.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(Subscription),
            "status": STATUS,
        },
        "x-kubernetes-validations": [
            {
                "rule": f"size(self.metadata.name) <= {MAX_NAME}",
                "message": f"metadata.name has at most {MAX_NAME} characters; other names are made from it",
            }
        ],
    }


def _columns() -> list[dict[str, Any]]:
    conditions = [(name, f'.status.conditions[?(@.type=="{name}")].status') for name in ("Ready", "Programmed")]
    return [
        *({"name": name, "type": "string", "jsonPath": path} for name, path in conditions),
        {"name": "Suspended", "type": "boolean", "jsonPath": ".spec.suspend"},
        {"name": "Endpoint", "type": "string", "priority": 1, "jsonPath": ".status.endpoint"},
        {
            "name": "Message",
            "type": "string",
            "priority": 1,
            "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
