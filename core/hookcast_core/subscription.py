"""The subscription's specification: one model for the custom resource, the REST body and the YAML file.

Pure. On the wire the names are camelCase; unknown fields are refused; every string and list is bounded, so that a
CRD's schema can be generated from the model. What needs the world around it (secrets, the egress rules, CEL) is
checked in `resolve`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from hookcast_core.durations import Duration, format_duration, parse_duration
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.expressions import MAX_EXPRESSION
from hookcast_core.filters import MAX_PATTERN, check_pattern
from hookcast_core.names import (
    MAX_HEADER_VALUE,
    check_header_name,
    check_header_value,
    check_object_name,
    check_secret_key,
)

DEFAULT_SCHEDULE = tuple(parse_duration(text) for text in ("5s", "5m", "30m", "2h", "5h", "10h", "14h"))
"""The retry schedule that Standard Webhooks recommends, without its first, immediate attempt."""
MAX_KEYS = 10
MAX_HEADERS = 32


class Model(BaseModel):
    """What all parts of a document have in common."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )


@dataclass(frozen=True, slots=True)
class Within:
    """Limits a Duration to `least` to `most`, both in its notation; its JSON schema has them as `x-within`."""

    least: str
    most: str

    def check(self, value: int) -> int:
        """The value; ValueError outside of the limits."""
        if not parse_duration(self.least) <= value <= parse_duration(self.most):
            raise ValueError(f"{format_duration(value)} is not within {self.least} to {self.most}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """For pydantic."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """For pydantic."""
        return handler(schema) | {"x-within": [self.least, self.most]}


def _not_a_number(value: object) -> object:
    if not isinstance(value, str | datetime) or (isinstance(value, str) and value.replace(".", "").isdigit()):
        # pydantic would take a number for seconds since 1970, which a CRD's schema does not.
        raise ValueError('write a time as "2027-01-31T00:00:00Z"')
    return value


ObjectName = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(check_object_name)]
SecretKey = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(check_secret_key)]
Count = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Time = Annotated[AwareDatetime, BeforeValidator(_not_a_number)]
Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN), AfterValidator(check_pattern)]
HeaderName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(check_header_name)]
HeaderValue = Annotated[str, Field(max_length=MAX_HEADER_VALUE), AfterValidator(check_header_value)]


class SecretKeyRef(Model):
    """One value of a Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the subscription's namespace.")
    key: SecretKey = Field(description="Key within the Secret's data.")


class SecretRef(Model):
    """A whole Secret."""

    name: ObjectName = Field(description="Name of the Secret, in the subscription's namespace.")


class HeaderSource(Model):
    """Where a header's value comes from."""

    secret_key_ref: SecretKeyRef = Field(description="The value of this key of a Secret.")


class Header(Model):
    """A header that is sent with every delivery; its value is given here or in a Secret."""

    name: HeaderName = Field(description="Name of the header. Those that Hookcast sets itself are refused.")
    value: HeaderValue | None = Field(default=None, description="The value, for everyone to read.")
    value_from: HeaderSource | None = Field(default=None, description="Where a secret value is kept.")

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("give exactly one of value and valueFrom")
        return self


class TLS(Model):
    """Trust and identity of TLS connections to the endpoint."""

    ca_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Certificate authorities (PEM) to trust instead of the public ones."
    )
    client_certificate_secret_ref: SecretRef | None = Field(
        default=None, description="A Secret with tls.crt and tls.key (PEM) to present to the endpoint."
    )


class Endpoint(Model):
    """Where deliveries go."""

    url: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        default=None, description="URL to POST to: https, or http where HOOKCAST_EGRESS_ALLOW permits it."
    )
    url_secret_ref: SecretKeyRef | None = Field(default=None, description="Where a URL that is a secret is kept.")
    headers: Annotated[tuple[Header, ...], Field(max_length=MAX_HEADERS)] = Field(
        default=(), description="Headers sent with every delivery."
    )
    tls: TLS | None = Field(default=None, description="Trust and identity of TLS connections to the endpoint.")

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_secret_ref is None):
            raise ValueError("give exactly one of url and urlSecretRef")
        names = [header.name.lower() for header in self.headers]
        if len(set(names)) < len(names):
            raise ValueError("headers: give each name once")
        return self


class Events(Model):
    """Which events are delivered."""

    types: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=64)] = Field(
        description='Event types: exact ("user.created"), everything below a prefix ("order.*"), or all ("*").'
    )
    filter: Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION)] | None = Field(
        default=None,
        description="A CEL expression over type, source, subject, time and data; only events for which it is true "
        "are delivered.",
    )


class SigningKeyRef(Model):
    """A signing key, kept in a Secret."""

    algorithm: Literal["HMAC", "Ed25519"] = Field(default="HMAC", description="HMAC (whsec_…) or Ed25519 (whsk_…).")
    secret_ref: SecretKeyRef = Field(description="Where the key is kept.")
    expires_at: Time | None = Field(default=None, description="From this time on nothing is signed with it.")


class Signing(Model):
    """How deliveries are signed."""

    scheme: Literal["StandardWebhooks", "GitHub"] = Field(
        default="StandardWebhooks",
        description="Standard Webhooks' headers, or GitHub's X-Hub-Signature-256 over the body by the newest key.",
    )
    keys: Annotated[tuple[SigningKeyRef, ...], Field(max_length=MAX_KEYS)] = Field(
        default=(), description="Keys, newest first; without any, one HMAC key is generated."
    )
    generated_secret: Literal["Retain", "Delete"] = Field(
        default="Delete",
        description="What becomes of the generated key's Secret when the subscription is deleted; decided when the "
        "Secret is generated.",
    )

    @model_validator(mode="after")
    def _github_is_hmac(self) -> Self:
        if self.scheme == "GitHub" and any(key.algorithm != "HMAC" for key in self.keys):
            raise ValueError("the scheme GitHub signs with HMAC keys only")
        return self


class Exponential(Model):
    """Retries that wait longer each time."""

    initial: Annotated[Duration, Within("100ms", "24h")] = Field(description="Wait before the first retry.")
    factor: Annotated[float, Field(ge=1, le=10)] = Field(default=2.0, description="What each wait is multiplied by.")
    max: Annotated[Duration, Within("100ms", "168h")] = Field(description="The longest wait.")
    attempts: Annotated[Count, Field(ge=1, le=100)] = Field(description="Attempts in all, the first one included.")


class Retry(Model):
    """When a failed delivery is attempted again: a list of waits, or waits that grow."""

    schedule: Annotated[tuple[Annotated[Duration, Within("0s", "168h")], ...], Field(max_length=32)] | None = Field(
        default=None,
        description="The wait before each retry; an empty list means one attempt only. Without it and without "
        f"exponential: {', '.join(map(format_duration, DEFAULT_SCHEDULE))}.",
    )
    exponential: Exponential | None = Field(default=None, description="Waits that grow by a factor.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.schedule is not None and self.exponential is not None:
            raise ValueError("give one of schedule and exponential")
        return self


class RateLimit(Model):
    """At most so many attempts in any such time."""

    requests: Annotated[Count, Field(ge=1, le=1_000_000)] = Field(description="Attempts within the time.")
    per: Annotated[Duration, Within("100ms", "24h")] = Field(
        default=1_000, description="The time, by default a second."
    )


class CircuitBreaker(Model):
    """Stops attempts for a while when an endpoint keeps failing; waiting consumes no attempt."""

    failures: Annotated[Count, Field(ge=1, le=10_000)] = Field(
        default=10, description="Failures that open it: so many in a row, without an answer between them."
    )
    window: Annotated[Duration, Within("1s", "1h")] = Field(
        default=60_000, description="The time within which they have to happen."
    )
    open: Annotated[Duration, Within("1s", "1h")] = Field(
        default=30_000, description="How long it stays open before one attempt tries the endpoint."
    )


class MaxBacklog(Model):
    """Beyond it the oldest waiting deliveries die with BacklogFull; they can be replayed."""

    count: Annotated[Count, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="Deliveries that may wait to be attempted, those apart that wait for another attempt."
    )
    age: Annotated[Duration, Within("1s", "8760h")] | None = Field(default=None, description="How long one may wait.")


class Delivery(Model):
    """How deliveries are made."""

    timeout: Annotated[Duration, Within("1s", "60s")] = Field(
        default=15_000, description="Time for one attempt, from connecting to the end of the answer: 1s to 60s."
    )
    retry: Retry = Field(default=Retry(), description="When a failed delivery is retried.")
    max_in_flight: Annotated[Count, Field(ge=1, le=1_000)] = Field(
        default=16, description="Requests that may be open to the endpoint at the same time."
    )
    rate_limit: RateLimit | None = Field(default=None, description="The most attempts in a time.")
    ordering: Literal["Unordered", "FIFO"] = Field(
        default="Unordered", description="FIFO keeps the order of events with the same orderingkey."
    )
    circuit_breaker: CircuitBreaker = Field(
        default=CircuitBreaker(), description="When attempts stop for a while because the endpoint keeps failing."
    )
    max_backlog: MaxBacklog | None = Field(default=None, description="How many deliveries may wait, and how long.")


class DispatcherRef(Model):
    """The dispatcher that serves an object."""

    name: ObjectName = Field(default="hookcast", description="The dispatcher's name.")


class Subscription(Model):
    """A subscription: which events go where, how they are signed and delivered."""

    dispatcher_ref: DispatcherRef = Field(default=DispatcherRef(), description="The dispatcher that serves it.")
    endpoint: Endpoint = Field(description="Where deliveries go.")
    events: Events = Field(description="Which events are delivered.")
    format: Literal["CloudEvents", "Data"] = Field(
        default="CloudEvents", description="Send the whole event as CloudEvents JSON, or its data alone."
    )
    signing: Signing = Field(default=Signing(), description="How deliveries are signed.")
    delivery: Delivery = Field(default=Delivery(), description="How deliveries are made.")
    suspend: Flag = Field(default=False, description="Holds deliveries, within maxBacklog, until it is false again.")


def epoch_ms(time: datetime) -> int:
    """Milliseconds since 1970, UTC."""
    return round(time.timestamp() * 1000)


def parse_subscription(value: Any, *, prefix: str = "") -> Subscription:
    """The model of a decoded JSON or YAML value; InvalidInput(InvalidSubscription) with the first bad field's path.

    `prefix` is put before the path (`spec.`). The message never holds the value itself, which may be a secret.
    """
    try:
        return Subscription.model_validate(value)
    except ValidationError as error:
        raise invalid(error, prefix) from None


def invalid(error: ValidationError, prefix: str = "", reason: Reason = Reason.INVALID_SUBSCRIPTION) -> InvalidInput:
    """A validation error as ours: the first field that is wrong, and how many more there are."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if first["type"] == "extra_forbidden":
        message = "no such field; remove it or check its spelling"
    field = prefix + field_path(first["loc"])
    return InvalidInput(reason, field.rstrip(".") or None, message + more)


def field_path(location: tuple[int | str, ...]) -> str:
    """`("endpoint", "headers", 0, "name")` as `endpoint.headers[0].name`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")
