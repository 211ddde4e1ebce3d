"""What a schema cannot say, in CEL: by model, or by model and property. Pure data.

Those of subscriptions, and what both kinds have in common; `source_rules` has those of sources.
Each rule has an example that it refuses; tests show it to the API server and to the model, and both refuse it. The
models' own checks stay in force for what comes another way.
"""

from dataclasses import dataclass
from typing import Any

from hookcast_core.durations import parse_duration
from hookcast_core.names import REFUSED_HEADERS, REFUSED_PREFIXES


@dataclass(frozen=True, slots=True)
class Rule:
    """One validation rule; `path` is the field it is about, below the object; `example` is a spec that it refuses."""

    rule: str
    message: str
    path: str | None = None
    example: Any = None

    def schema(self) -> dict[str, str]:
        """As it stands under `x-kubernetes-validations`."""
        shown = {"rule": self.rule, "message": self.message}
        return shown | ({"fieldPath": self.path, "reason": "FieldValueInvalid"} if self.path else {})


_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


def secret_name(example: Any) -> Rule:
    """The name of a Secret."""
    return Rule(
        f"self.matches('{_SUBDOMAIN}')",
        'write the name of a Secret: lower-case letters, digits, "-" and "."',
        example=example,
    )


def secret_key(example: Any) -> Rule:
    """A key of a Secret's data."""
    return Rule(
        r"self.matches('^[-._a-zA-Z0-9]+$')",
        'write a key of the Secret: letters, digits, "-", "_" and "."',
        example=example,
    )


def dispatcher_name(example: Any) -> list[Rule]:
    """The name of a dispatcher, which is given once."""
    return [
        Rule(
            f"self.matches('{_SUBDOMAIN}')",
            'write the name of a dispatcher: lower-case letters, digits, "-" and "."',
            example=example,
        ),
        Rule("self == oldSelf", "an object stays with its dispatcher; delete it and create it anew for another one"),
    ]


# So few digits that the sum cannot overflow, which CEL would report in words of its own; and only fractions that are
# whole milliseconds.
_PARTS = (
    "[0-9]{1,12}ms"
    r"|[0-9]{1,9}(\\.[0-9]{1,3})?s"
    r"|[0-9]{1,7}(\\.[0-9]{1,4})?m"
    r"|[0-9]{1,5}(\\.[0-9]{1,5})?h"
)
_EXAMPLES = ("500ms", "2s", "45s", "1h30m", "36h")


def _examples(least: str, most: str) -> str:
    limits = parse_duration(least), parse_duration(most)
    fitting = [f'"{text}"' for text in _EXAMPLES if limits[0] <= parse_duration(text) <= limits[1]]
    return " or ".join(fitting[-2:])


def duration(least: str, most: str) -> Rule:
    """A duration within limits. It is matched first: on anything else CEL's own `duration()` is an error."""
    return Rule(
        f"self.matches('^(0|({_PARTS}){{1,4}})$')"
        f" && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')",
        f"write a duration of {least} to {most}, like {_examples(least, most)}",
    )


_NAMED = {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"]}}


def _spec(**parts: Any) -> dict[str, Any]:
    return _NAMED | parts


def _endpoint(**parts: Any) -> dict[str, Any]:
    return _spec(endpoint={"url": "https://shop.example"} | parts)


def _header(**parts: Any) -> dict[str, Any]:
    return _endpoint(headers=[parts])


SUBSCRIPTION_RULES: dict[str, list[Rule]] = {
    "Endpoint": [
        Rule(
            "has(self.url) != has(self.urlSecretRef)",
            "give exactly one of url and urlSecretRef",
            ".url",
            _endpoint(urlSecretRef={"name": "n", "key": "k"}),
        ),
        Rule(
            "!has(self.headers) || self.headers.all(one, "
            "self.headers.exists_one(other, other.name.lowerAscii() == one.name.lowerAscii()))",
            "give each header once",
            ".headers",
            _endpoint(headers=[{"name": "X-Team", "value": "a"}, {"name": "x-team", "value": "b"}]),
        ),
    ],
    "Endpoint.url": [
        Rule(
            "isURL(self) && url(self).getScheme() in ['https', 'http'] && url(self).getHostname() != ''",
            "write a URL like https://shop.example/hooks, without spaces, other characters percent-encoded "
            "(http:// only where HOOKCAST_EGRESS_ALLOW permits it)",
            example=_endpoint(url="ftp://shop.example"),
        ),
    ],
    "Header": [
        Rule(
            "has(self.value) != has(self.valueFrom)",
            "give exactly one of value and valueFrom",
            ".value",
            _header(name="X-Team"),
        ),
    ],
    "Header.name": [
        Rule(
            r"self.matches('^[!#$%&\'*+.^_`|~0-9A-Za-z-]+$')",
            "write the name of a header: letters, digits and dashes",
            example=_header(name="X Team", value="a"),
        ),
        Rule(
            f"!(self.lowerAscii() in {sorted(REFUSED_HEADERS)}) && "
            + " && ".join(f"!self.lowerAscii().startsWith('{prefix}')" for prefix in REFUSED_PREFIXES),
            "Hookcast sets this header itself; choose another name",
            example=_header(name="Webhook-Id", value="a"),
        ),
    ],
    "Header.value": [
        Rule(
            r"self.matches('^([!-~\u00a1-\u00ff]([ -~\u00a0-\u00ff]*[!-~\u00a1-\u00ff])?)?$')",
            "write the value of a header: Latin-1, without line breaks, and without spaces around it",
            example=_header(name="X-Team", value="shop\r\nHost: other"),
        ),
    ],
    "Events.types[]": [
        Rule(
            r"self == '*' || self.matches('^[A-Za-z0-9_-][A-Za-z0-9._-]*?(\\.\\*)?$')",
            'write an event type ("user.created"), a prefix ("order.*") or "*"',
            example=_spec(events={"types": ["order.*.created"]}),
        ),
    ],
    "Retry": [
        Rule(
            "!(has(self.schedule) && has(self.exponential))",
            "give one of schedule and exponential",
            ".schedule",
            _spec(
                delivery={
                    "retry": {"schedule": ["1s"], "exponential": {"initial": "1s", "max": "1m", "attempts": 3}},
                }
            ),
        ),
    ],
    "Signing": [
        Rule(
            "self.scheme != 'GitHub' || !has(self.keys) || self.keys.all(key, key.algorithm == 'HMAC')",
            "the scheme GitHub signs with HMAC keys only",
            ".keys",
            _spec(
                signing={
                    "scheme": "GitHub",
                    "keys": [{"algorithm": "Ed25519", "secretRef": {"name": "n", "key": "k"}}],
                }
            ),
        ),
    ],
    "SecretKeyRef.name": [secret_name(_spec(endpoint={"urlSecretRef": {"name": "No Name", "key": "k"}}))],
    "SecretKeyRef.key": [secret_key(_spec(endpoint={"urlSecretRef": {"name": "n", "key": "k k"}}))],
    "SecretRef.name": [secret_name(_endpoint(tls={"clientCertificateSecretRef": {"name": "No Name"}}))],
    "DispatcherRef.name": dispatcher_name(_spec(dispatcherRef={"name": "No Name"})),
}
