"""The error tree, and the stable reasons that refusals carry.

HookcastError
├── InvalidInput        what a user gave does not hold; names the field, the reason and the fix
│   └── EgressDenied    a URL that webhooks may not reach
├── Refused             the caller may not do this: no valid credential, or one that does not allow it
└── Unavailable         a part that we need (Redis) cannot answer now; worth trying again later
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused or failed: the same word in the API, the log, the metric and the condition."""

    # The process
    INVALID_SETTING = "InvalidSetting"
    ADDRESS_IN_USE = "AddressInUse"
    DATA_DIR_UNUSABLE = "DataDirUnusable"
    DATA_DIR_IN_USE = "DataDirInUse"
    REDIS_NOT_FOUND = "RedisNotFound"
    REDIS_UNREACHABLE = "RedisUnreachable"
    REDIS_UNFIT = "RedisUnfit"
    MIGRATION_REFUSED = "MigrationRefused"
    # Requests
    INVALID_REQUEST = "InvalidRequest"
    UNAUTHENTICATED = "Unauthenticated"
    FORBIDDEN = "Forbidden"
    NOT_FOUND = "NotFound"
    CONFLICT = "Conflict"
    READ_ONLY = "ReadOnly"
    LIMIT_EXCEEDED = "LimitExceeded"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    UNSUPPORTED_MEDIA_TYPE = "UnsupportedMediaType"
    TOO_LARGE = "TooLarge"
    REQUEST_TIMEOUT = "RequestTimeout"
    UPGRADE_REQUIRED = "UpgradeRequired"
    TOO_MANY_REQUESTS = "TooManyRequests"
    UNAVAILABLE = "Unavailable"
    INTERNAL = "Internal"
    # Events
    INVALID_EVENT = "InvalidEvent"
    RESERVED_TYPE = "ReservedType"
    EVENT_ID_REUSED = "EventIdReused"
    TOO_MANY_HOPS = "TooManyHops"
    # Subscriptions
    INVALID_SUBSCRIPTION = "InvalidSubscription"
    INVALID_FILTER = "InvalidFilter"
    INVALID_URL = "InvalidURL"
    INVALID_SECRET = "InvalidSecret"  # noqa: S105  the name of a reason
    INVALID_SIGNATURE = "InvalidSignature"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105  the name of a reason
    SECRET_KEY_NOT_FOUND = "SecretKeyNotFound"  # noqa: S105  the name of a reason
    SECRET_NOT_ALLOWED = "SecretNotAllowed"  # noqa: S105  the name of a reason
    # Webhook sources
    INVALID_SOURCE = "InvalidSource"
    PATH_TAKEN = "PathTaken"
    # Configurations from Kubernetes
    INVALID_CONFIGURATION = "InvalidConfiguration"
    STALE_CONFIGURATION = "StaleConfiguration"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    CAPACITY_EXCEEDED = "CapacityExceeded"
    # Attempts
    EGRESS_DENIED = "EgressDenied"
    NAME_NOT_RESOLVED = "NameNotResolved"
    CONNECT_FAILED = "ConnectFailed"
    CONNECT_TIMEOUT = "ConnectTimeout"
    TLS_FAILED = "TLSFailed"
    RESPONSE_TIMEOUT = "ResponseTimeout"
    CONNECTION_LOST = "ConnectionLost"
    INVALID_RESPONSE = "InvalidResponse"
    BAD_STATUS = "BadStatus"
    GONE = "Gone"
    NO_SIGNING_KEY = "NoSigningKey"
    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"
    ENDPOINT_FAILING = "EndpointFailing"
    BACKLOG_FULL = "BacklogFull"
    CANCELLED = "Cancelled"
    PURGED = "Purged"
    SUBSCRIPTION_DELETED = "SubscriptionDeleted"


class HookcastError(Exception):
    """The root of what Hookcast raises on purpose."""


class InvalidInput(HookcastError):  # noqa: N818  named for what the user did, not for what we raise
    """What a user gave does not hold.

    `reason` is stable; `field` is the path of what is wrong (`events.filter`, `data`), or None where the whole is;
    `detail` says what is wrong and what to write instead, and never holds a secret.
    """

    def __init__(self, reason: Reason, field: str | None, detail: str) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.reason = reason
        self.field = field
        self.detail = detail


class EgressDenied(InvalidInput):
    """A webhook may not go to that URL or address."""

    def __init__(self, detail: str, *, field: str | None = "endpoint.url") -> None:
        super().__init__(Reason.EGRESS_DENIED, field, detail)


class Refused(HookcastError):  # noqa: N818  as above
    """The caller has no valid credential (UNAUTHENTICATED), or it does not allow this (FORBIDDEN)."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Unavailable(HookcastError):  # noqa: N818  as above
    """A part that we need cannot answer now; `retry_after` seconds from now it may."""

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
