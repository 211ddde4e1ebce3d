"""The custom resource definition of one of our kinds. Pure."""

from typing import Any

from hookcast_core.documents import GROUP, MAX_NAME, VERSION
from hookcast_operator.crds.kinds import Kind
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


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition (apiextensions.k8s.io/v1) as a value."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "annotations": {"hookcast.dev/schema-version": str(SCHEMA_VERSION)},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["hookcast"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(kind),
                    "schema": {"openAPIV3Schema": _root(kind)},
                }
            ],
        },
    }


def _root(kind: Kind) -> dict[str, Any]:
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(kind.model, kind.rules),
            "status": _status(kind),
        },
        "x-kubernetes-validations": [
            {
                "rule": f"size(self.metadata.name) <= {MAX_NAME}",
                "message": f"metadata.name has at most {MAX_NAME} characters; other names are made from it",
            }
        ],
    }


def _status(kind: Kind) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "What the operator observed. Written on changes only.",
        "properties": {
            "observedGeneration": {
                "type": "integer", "format": "int64", "minimum": 0,
                "description": "The newest generation that was judged.",
            },
            "conditions": {
                "type": "array",
                "maxItems": 16,
                "description": f"{', '.join(kind.conditions)}, and Ready, which sums up.",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": _CONDITION,
            },
            "configurationSequence": {
                "type": "integer", "format": "int64", "minimum": 0,
                "description": "The configuration that first carried this generation.",
            },
            **kind.status,
        },
    }  # fmt: skip


def _columns(kind: Kind) -> list[dict[str, Any]]:
    conditions = [(name, f'.status.conditions[?(@.type=="{name}")].status') for name in ("Ready", "Programmed")]
    return [
        *({"name": name, "type": "string", "jsonPath": path} for name, path in conditions),
        *kind.columns,
        {
            "name": "Message",
            "type": "string",
            "priority": 1,
            "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
