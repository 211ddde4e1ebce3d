"""What the schema of a webhook source cannot say, in CEL. Pure data, as `rules`."""

from typing import Any

from hookcast_core.source import RESERVED_TYPES, TIMED
from hookcast_core.templates import MAX_REFERENCES, REFUSED_REFERENCES
from hookcast_operator.crds.rules import Rule, dispatcher_name, secret_key, secret_name

_REF = {"name": "github", "key": "secret"}
_GITHUB = {"scheme": "GitHub", "secretRefs": [_REF]}
_EVENT = {"type": "order.created"}

_KEY = "[A-Za-z0-9_$@-]+"
_REFERENCE = rf"(header:[A-Za-z0-9_-]+|body:{_KEY}(\\.{_KEY}){{0,15}})"
_CREDENTIAL = f"header:({'|'.join(sorted(REFUSED_REFERENCES))})"
_HMAC_ONLY = {"header": "X-Signature", "algorithm": "SHA256", "encoding": "Base64", "prefix": "sha256="}


def _spec(**parts: Any) -> dict[str, Any]:
    return {"verification": _GITHUB, "event": _EVENT} | parts


def _verification(**parts: Any) -> dict[str, Any]:
    return _spec(verification=_GITHUB | parts)


def _event(**parts: Any) -> dict[str, Any]:
    return _spec(event=_EVENT | parts)


def _template(characters: str) -> str:
    return rf"self.matches('^([{characters}]|\\{{{_REFERENCE}\\}})+$')"


_FEW = f"size(self.split('{{')) <= {MAX_REFERENCES + 1}"
_NO_CREDENTIAL = rf"!self.lowerAscii().matches('\\{{{_CREDENTIAL}\\}}')"
_SHOWN = f"a template cannot show a credential: {', '.join(sorted(REFUSED_REFERENCES))}"
_TOO_MANY = f"a template has at most {MAX_REFERENCES} references"

SOURCE_RULES: dict[str, list[Rule]] = {
    "DispatcherRef.name": dispatcher_name(_spec(dispatcherRef={"name": "No Name"})),
    "WebhookSource.path": [
        Rule(
            r"self.matches('^[A-Za-z0-9][A-Za-z0-9._~-]*$')",
            'write one segment of a URL: letters, digits and any of "-._~", the first a letter or digit',
            example=_spec(path="github/hooks"),
        ),
    ],
    "Verification": [
        Rule(
            "self.scheme == 'None' || (has(self.secretRefs) && size(self.secretRefs) > 0)",
            "name the Secret that requests are verified with; only the scheme None goes without",
            ".secretRefs",
            _spec(verification={"scheme": "GitHub"}),
        ),
        Rule(
            "self.scheme != 'None' || !has(self.secretRefs) || size(self.secretRefs) == 0",
            "the scheme None verifies nothing; remove secretRefs, or choose the sender's scheme",
            ".secretRefs",
            _verification(scheme="None"),
        ),
        Rule(
            "!has(self.secretRefs) || self.secretRefs.all(ref, has(ref.key) != (self.scheme == 'Basic'))",
            "name the key of each Secret; for Basic none, which reads username and password",
            ".secretRefs",
            _verification(scheme="Basic"),
        ),
        Rule(
            "self.scheme != 'HMAC' || has(self.header)",
            "name the header that holds the signature",
            ".header",
            _verification(scheme="HMAC"),
        ),
        *(
            Rule(
                f"self.scheme == 'HMAC' || !has(self.{name})",
                "header, algorithm, encoding and prefix are for the scheme HMAC; remove them",
                f".{name}",
                _verification(**{name: value}),
            )
            for name, value in _HMAC_ONLY.items()
        ),
        Rule(
            f"self.scheme in {sorted(TIMED)} || !has(self.tolerance)",
            f"the tolerance is for the schemes {', '.join(sorted(TIMED))}, which sign a time; remove it",
            ".tolerance",
            _verification(tolerance="1m"),
        ),
    ],
    "VerificationSecretRef.name": [secret_name(_verification(secretRefs=[_REF | {"name": "No Name"}]))],
    "VerificationSecretRef.key": [secret_key(_verification(secretRefs=[_REF | {"key": "k k"}]))],
    "Verification.header": [
        Rule(
            "self.matches('^[A-Za-z0-9_-]+$')",
            'write the name of a header: letters, digits, "-" and "_"',
            example=_verification(scheme="HMAC", header="X Signature"),
        ),
    ],
    "Verification.prefix": [
        Rule(
            "self.matches('^[!-~][ -~]*$')",
            'write what stands before the signature, like "sha256=": ASCII that begins with no space',
            example=_verification(scheme="HMAC", header="X-Signature", prefix=" v1="),
        ),
    ],
    "SourceEvent.type": [
        Rule(
            _template("A-Za-z0-9._-"),
            'write an event type like "github.{header:X-GitHub-Event}.{body:action}": letters, digits, ".", "_", "-", '
            "and references {header:NAME} and {body:PATH}",
            example=_event(type="github.{action}"),
        ),
        Rule(_FEW, _TOO_MANY, example=_event(type="{body:a}" * 9)),
        Rule(_NO_CREDENTIAL, _SHOWN, example=_event(type="a.{header:Authorization}")),
        Rule(
            f"!self.startsWith('{RESERVED_TYPES}')",
            f"types that begin with {RESERVED_TYPES} are reserved; choose another",
            example=_event(type="hookcast.{body:action}"),
        ),
    ],
    "SourceEvent.source": [
        Rule(
            r"self.matches('^[A-Za-z0-9._~:/?#\\[\\]@!$&\'()*+,;=%-]+$')",
            'write a URI reference, like "/shop/orders", without spaces and braces',
            example=_event(source="/{body:shop}"),
        ),
    ],
    "SourceEvent.id": [
        Rule(
            f"self.matches('^{_REFERENCE}$')",
            "write header:NAME or body:PATH, without braces",
            example=_event(id="{header:X-GitHub-Delivery}"),
        ),
        Rule(
            f"!self.lowerAscii().matches('^{_CREDENTIAL}$')",
            f"an id cannot show a credential: {', '.join(sorted(REFUSED_REFERENCES))}",
            example=_event(id="header:Cookie"),
        ),
    ],
    "WebhookSource.channel": [
        Rule(
            _template("A-Za-z0-9_.:@#,-"),
            'write a channel like "github:{body:repository.name}": letters, digits, any of "_-.:@#,", and references '
            "{header:NAME} and {body:PATH}",
            example=_spec(channel="github/{body:action}"),
        ),
        Rule(_FEW, _TOO_MANY, example=_spec(channel="{body:a}" * 9)),
        Rule(_NO_CREDENTIAL, _SHOWN, example=_spec(channel="{header:cookie}")),
    ],
    "SourceResponse": [
        Rule(
            "self.status != 204 || !has(self.body)",
            "an answer with the status 204 has no body; remove it, or write 200 or 202",
            ".body",
            _spec(response={"status": 204, "body": "thanks"}),
        ),
    ],
}
