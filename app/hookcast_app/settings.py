"""Each setting with its unit and its reason. Environment: `HOOKCAST_` and the name in capitals.

Lists are comma-separated, structures are JSON. A setting can be read from a file named by `HOOKCAST_…_FILE`, or one
of its name in a directory that `HOOKCAST_SETTINGS_DIR` lists. What is given by the command line wins over the
environment, and that over files.
"""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cryptography.fernet import Fernet
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from hookcast_core.durations import Duration
from hookcast_core.egress import parse_url
from hookcast_core.errors import InvalidInput

PREFIX = "HOOKCAST_"
EMBEDDED = "embedded"
"""What stands for a URL where Redis is started with the app."""
SCOPES = ("events:write", "subscriptions:write", "read", "realtime:publish", "admin")
MIN_KEY_CHARACTERS = 16
TEN_YEARS = 315_360_000
"""Seconds. Redis refuses times beyond its own range, and in the middle of a script."""
ONE_TEBIBYTE = 1_099_511_627_776
# Scheme, host (a name or an IPv6 address) and port, as RFC 6454 writes an origin; one slash behind it does no harm.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?/?", re.IGNORECASE | re.ASCII)
# RFC 6265, 4.1.1: a token of RFC 2616.
_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


class ApiKey(BaseModel):
    """A key that services send as `Authorization: Bearer …` or `X-API-Key: …`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Shown in logs and, as `/keys/<name>`, as the source of events that name none."""
    key: SecretStr
    """At least 16 characters."""
    scopes: frozenset[Literal["events:write", "subscriptions:write", "read", "realtime:publish", "admin"]]
    """What it may be used for."""

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if len(key.get_secret_value()) < MIN_KEY_CHARACTERS:
            raise ValueError(f"a key has at least {MIN_KEY_CHARACTERS} characters")
        return key


class RedisWait(BaseModel):
    """What is waited for before an event is acknowledged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    replicas: int = Field(ge=1, le=10)
    """Replicas that must have the event."""
    timeout: Annotated[Duration, Field(ge=1, le=60_000)]
    """How long they may take."""


class ChannelOptions(BaseModel):
    """What a channel namespace allows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    publish: Literal["nobody", "subscribers", "authenticated"] = "nobody"
    """Who may publish from a client: nobody, whoever is subscribed, whoever has a token."""
    subscribe: Literal["anyone", "authenticated", "token"] = "authenticated"
    """Who may subscribe: also anonymous connections, only those of a user, or only with a token for the subscription.
    Such a token, or a capability of the connection's, opens channels of the other two as well."""
    max_subscribers: int = Field(default=0, ge=0)
    """Connections per channel in one process; 0 means no limit."""
    history_size: int = Field(default=0, ge=0, le=10_000)
    """The newest publications that are kept; 0 keeps none."""
    history_ttl: Annotated[Duration, Field(ge=1_000, le=604_800_000)] = 300_000
    """For how long they are kept after the newest of them, as `5m`; whole seconds."""
    recover: bool = False
    """Whether a client that comes back gets what it missed, out of the history."""
    cache_last: bool = False
    """Whether a client that comes gets the newest publication at once."""
    presence: bool = False
    """Whether a channel's subscribers may ask who they are."""
    join_leave: bool = False
    """Whether a channel's subscribers are told who comes and goes."""


class _Files(PydanticBaseSettingsSource):
    """Reads every setting from a file, if there is one: the content without its last newline is the value.

    `HOOKCAST_<NAME>_FILE` names it; else it is `HOOKCAST_<NAME>` in the first directory of `HOOKCAST_SETTINGS_DIR` that
    has one. The directories are separated as in PATH.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name, path = _file_of(f"{PREFIX}{field_name.upper()}")
        if path is None:
            return None, field_name, False
        try:
            value = path.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{name}: cannot read {path}: {error}") from error
        return value, field_name, self.field_is_complex(field)

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, is_complex = self.get_field_value(field, name)
            if value is not None:
                values[key] = self._prepared(name, field, value, is_complex)
        return values

    def _prepared(self, name: str, field: FieldInfo, value: Any, is_complex: bool) -> Any:  # noqa: FBT001
        try:
            return self.prepare_field_value(name, field, value, is_complex)
        except ValueError as error:
            given, _ = _file_of(f"{PREFIX}{name.upper()}")
            raise ValueError(f"{given}: the file does not hold valid JSON: {error}") from error


def _file_of(name: str) -> tuple[str, Path | None]:
    """The file of a setting, and what named it; ValueError where a listed directory is none."""
    if path := os.environ.get(f"{name}_FILE"):
        return f"{name}_FILE", Path(path)
    for directory in filter(None, os.environ.get(f"{PREFIX}SETTINGS_DIR", "").split(os.pathsep)):
        if not Path(directory).is_dir():
            raise ValueError(f"{PREFIX}SETTINGS_DIR: {directory} is no directory")
        if (file := Path(directory) / name).exists():
            return name, file
    return name, None


CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Everything that can be set; immutable for the life of the process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    # The process
    host: str = "127.0.0.1"
    """Address of the main port. Loopback by default: outside a cluster nothing is exposed unasked."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Users' port; 0 takes a free one."""
    admin_host: str = "127.0.0.1"
    """Address of the admin port."""
    admin_port: int = Field(default=9090, ge=0, le=65535)
    """`/metrics` and `/health/*`; never routed by an ingress. 0 takes a free one."""
    data_dir: Path = Path(".hookcast")
    """Where the embedded Redis and generated keys live."""
    manifests: Path | None = None
    """Directory of WebhookSubscription and Secret documents; watched."""
    configuration_dir: Path | None = None
    """Where the operator's configuration is mounted (Kubernetes); instead of `manifests`, and needs `internal_key`."""
    role: Literal["all", "api", "dispatcher"] = "all"
    """Which part of the work this process takes."""
    drain_delay: float = Field(default=5.0, ge=0, le=300)
    """Seconds between turning unready and draining, while load balancers take notice.

    Not given and with the embedded Redis it is 0: such a process is alone, so no balancer has to notice.
    """
    drain: float = Field(default=10.0, ge=0, le=300)
    """Seconds over which clients are disconnected and deliveries in flight may finish.

    Not given and with the embedded Redis it is 2, so that Ctrl-C is quick.
    """
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged. Attempts are not logged one by one: `GET /api/v1/deliveries` has them."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """`auto` is text on a terminal and JSON elsewhere."""

    # Redis
    redis_url: SecretStr = SecretStr(EMBEDDED)
    """`embedded`, or `redis://`, `rediss://`, `unix://`."""
    redis_wait: Annotated[RedisWait | None, NoDecode] = None
    """`replicas:1,timeout:100ms`: an event is acknowledged once so many replicas of Redis have it, and answered 503 if
    they do not in that time. Without it a fail-over loses what the replica had not got yet."""
    high_water: float = Field(default=0.9, ge=0.1, le=1)
    """From this part of Redis' `maxmemory` on events are answered 503, before Redis refuses what deliveries need."""
    partitions: int = Field(default=1, ge=1, le=64)
    """Partitions of the data, which a Redis Cluster spreads over its masters; one is what a single Redis needs. It may
    grow while everything runs, never shrink."""

    # Who may do what
    api_keys: tuple[ApiKey, ...] = ()
    """JSON list of keys that services send; several of one name are how a key is rotated."""
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Fernet keys, newest first, for secrets at rest."""
    internal_key: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Fernet keys, newest first, shared with the operator: they seal the configuration that it sends."""
    jwt_secret: SecretStr | None = None
    """Shared secret of connection tokens (HS256, HS384, HS512); at least 32 bytes."""
    jwt_public_key: SecretStr | None = None
    """PEM public key of connection tokens (RS, ES, EdDSA); an RSA one has 2,048 to 8,192 bits."""
    jwks_url: str | None = None
    """Where the public keys of connection tokens are published as a JSON Web Key Set, instead of one public key; at
    most 64 keys in 64 KiB. Fetched again every 5 minutes, and at most every 5 seconds when a token names a key that is
    not known. `https`, also at a private address; plain `http` only where `egress_allow` names it."""
    jwt_algorithms: CommaSeparated = ("HS256",)
    """Algorithms accepted; never chosen by the token."""
    jwt_audience: str | None = None
    """What a token's `aud` must hold; without it a token with an audience is refused."""
    jwt_issuer: str | None = None
    """What a token's `iss` must be; without it any."""
    jwt_cookie: str | None = None
    """Name of a cookie that may hold a client's connection token. It counts only with an `Origin` that is the server's
    own, or that `allowed_origins` names: `*` does not, for any site could act for its visitors then."""

    # Events and webhooks
    max_event_bytes: int = Field(default=262_144, ge=1_024, le=16_777_216)
    """A single event's body; a batch may have 16 times that."""
    dedup_seconds: int = Field(default=86_400, ge=1, le=TEN_YEARS)
    """How long the ids that publishers gave are remembered."""
    dedup_bytes: int = Field(default=67_108_864, ge=0, le=ONE_TEBIBYTE)
    """About the memory that these ids may take in Redis (64 MiB: half a million of them); beyond it the oldest are
    forgotten sooner. 0 is no bound."""
    retention_seconds: int = Field(default=259_200, ge=1, le=TEN_YEARS)
    """How long settled events and their attempts are kept (72 h)."""
    retention_bytes: int = Field(default=134_217_728, ge=0, le=ONE_TEBIBYTE)
    """About the memory that accepted events and their attempts may take in Redis; beyond it the oldest that have ended
    are deleted sooner. What waits, and dead letters, stay. 128 MiB is less than half of what the chart's own Redis has,
    so that there is room for what waits; with a larger Redis set it higher. 0 is no bound."""
    dead_letter_retention_seconds: int = Field(default=2_592_000, ge=1, le=TEN_YEARS)
    """How long events with dead letters are kept (30 d)."""
    deletion_grace_seconds: int = Field(default=600, ge=0, le=TEN_YEARS)
    """How long a subscription must have been gone before what waits for it is discarded: a file may be written anew,
    and another process may know of it already; mounted files were seen to trail by minutes."""
    disable_after_seconds: int = Field(default=432_000, ge=0, le=TEN_YEARS)
    """How long every attempt at an endpoint must have failed to disable its subscription (5 d); 0 never does."""
    egress_allow: CommaSeparated = ()
    """CIDRs or `host:port` patterns that webhooks may reach though they are private, also by plain http."""

    # Realtime
    realtime_anonymous: bool = False
    """Lets clients connect without a token."""
    channel_namespaces: dict[str, ChannelOptions] = Field(default_factory=dict)
    """Options by namespace, the part of a channel's name before the first `:`; `""` is the default for all."""
    allowed_origins: CommaSeparated = ()
    """Origins (`https://app.example`, with a port if not the scheme's) that a browser's WebSocket or stream may come
    from besides the server's own; `*` for any."""
    trusted_proxies: CommaSeparated = ()
    """Networks (CIDRs) of proxies whose `X-Forwarded-For` says who the client is, for the limits by address below.
    Without it the limits count a proxy with all its clients as one address."""
    connects_per_second: int = Field(default=500, ge=0, le=1_000_000)
    """New connections of one address (an IPv6 one: of its /64) that a process takes per second, twice that at once;
    more are answered 429. Ten times as many requests to `/emulation` are taken. 0 is no limit."""
    unauthenticated_connections: int = Field(default=1_000, ge=0, le=1_000_000)
    """Connections of one address, counted as above, that may be open without having said who they are (they have 10 s
    for it); more are answered 429. 0 is no limit."""
    messages_per_second: int = Field(default=500, ge=0, le=1_000_000)
    """Commands of one client per second, twice that at once; one that sends more is closed: with 3013, and with 1008 if
    it is a plain WebSocket. 0 is no limit."""
    rpc_modules: CommaSeparated = ()
    """Python modules that register functions which clients call by `rpc`; they are imported at the start, by name."""

    @field_validator(
        "encryption_keys",
        "internal_key",
        "jwt_algorithms",
        "egress_allow",
        "allowed_origins",
        "trusted_proxies",
        "rpc_modules",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("data_dir", "manifests", "configuration_dir", mode="before")
    @classmethod
    def _directory(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is empty; write a directory's path (`.` is the current one)")
        return value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("write a JSON list of objects with name, key and scopes")  # noqa: TRY004  pydantic's way
        return value

    @field_validator("jwt_algorithms")
    @classmethod
    def _some(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        if not algorithms:
            raise ValueError("is empty; name at least one algorithm, such as HS256")
        return algorithms

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for number, origin in enumerate(origins, 1):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"entry {number} is no origin: write scheme://host, scheme://host:port, or * for any")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for number, network in enumerate(networks, 1):
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"entry {number} is no network: write it like 10.0.0.0/8 or 10.1.2.3") from error
        return networks

    @field_validator("jwt_cookie")
    @classmethod
    def _cookie(cls, name: str | None) -> str | None:
        if name is not None and not _COOKIE.fullmatch(name):
            raise ValueError("is no name of a cookie; write letters, digits, dashes and underscores")
        return name

    @field_validator("jwks_url")
    @classmethod
    def _http_url(cls, url: str | None) -> str | None:
        try:
            return url and str(parse_url(url))
        except InvalidInput as error:
            raise ValueError(error.detail) from error

    @field_validator("redis_wait", mode="before")
    @classmethod
    def _wait(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = dict(part.strip().split(":", 1) for part in value.split(",") if ":" in part)
        if not value.strip():
            return None
        replicas = parts.get("replicas", "")
        if parts.keys() != {"replicas", "timeout"} or not replicas.isdecimal():
            raise ValueError('write it like "replicas:1,timeout:100ms"')
        return {"replicas": int(replicas), "timeout": parts["timeout"]}

    @field_validator("encryption_keys", "internal_key")
    @classmethod
    def _fernet(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, key in enumerate(keys, 1):
            try:
                Fernet(key.get_secret_value())
            except ValueError as error:
                raise ValueError(
                    f"key {number} is not a Fernet key: write 32 random bytes as URL-safe base64 (44 characters)"
                ) from error
        return keys

    @property
    def has_embedded_redis(self) -> bool:
        """Whether Redis is started with the app, and so serves this process alone."""
        return self.redis_url.get_secret_value() == EMBEDDED

    @field_validator("redis_url")
    @classmethod
    def _scheme(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if text != EMBEDDED and not text.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write `embedded`, or a URL that begins with redis://, rediss:// or unix://")
        return url

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.port == self.admin_port != 0:
            raise ValueError("admin_port: must differ from port, whatever the two hosts are")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.configuration_dir is not None and self.manifests is not None:
            raise ValueError("manifests: give it or configuration_dir; subscriptions come from one place")
        if self.configuration_dir is not None and not self.internal_key:
            raise ValueError("internal_key: is needed with configuration_dir; it opens what is mounted there")
        return self

    @model_validator(mode="after")
    def _one_kind_of_public_key(self) -> Self:
        if self.jwks_url is not None and self.jwt_public_key is not None:
            raise ValueError("jwks_url: give it or jwt_public_key; which one counts would be a guess")
        return self

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [key.name for key in self.api_keys]
        if len(set(names)) < len(names):
            # Several keys of one name are how a key is rotated; they must then agree on what they may do.
            scopes = {key.name: key.scopes for key in self.api_keys}
            if any(scopes[key.name] != key.scopes for key in self.api_keys):
                raise ValueError("api_keys: keys of the same name must have the same scopes")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  no .env files: one way in
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, then environment, then `…_FILE`."""
        return init_settings, env_settings, _Files(settings_cls)
