"""Each setting with its reason. Environment: `HOOKCAST_` and the name in capitals; the chart sets them all."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hookcast_core.documents import Namespace

CommaSeparated = Annotated[tuple[str, ...], NoDecode]
Namespaces = Annotated[tuple[Namespace, ...], NoDecode]


class Settings(BaseSettings):
    """Everything that can be set; immutable for the life of the process."""

    model_config = SettingsConfigDict(env_prefix="HOOKCAST_", frozen=True, hide_input_in_errors=True)

    release: str = Field(min_length=1, max_length=63)
    """What the chart's objects are named after: the Secrets, the lease, the admin Service."""
    namespace: Namespace
    """Where the release is installed."""
    pod_name: str = Field(min_length=1, max_length=253)
    """Who holds the lease. A restarted container is the same pod and goes on at once."""
    dispatcher_name: str = Field(default="hookcast", min_length=1, max_length=253)
    """Objects whose `spec.dispatcherRef.name` is this are taken; others are left alone."""
    watch_namespaces: Namespaces = ()
    """Namespaces that are watched; none means the whole cluster."""
    allowed_namespaces: Namespaces = ()
    """Namespaces whose objects are taken; none means all that are watched."""
    allowed_namespace_selector: str = ""
    """A label selector of namespaces whose objects are taken, besides `allowed_namespaces`; needs the whole cluster."""
    secret_access: Literal["Labeled", "Namespace"] = "Labeled"  # noqa: S105  a word
    """Which Secrets an object may refer to: those labelled `hookcast.dev/allow: "true"`, or all of its namespace.

    Without the label, whoever may create a subscription could send any Secret of the namespace to a URL of theirs.
    """
    generate_secrets_in: Namespaces = ()
    """Namespaces where signing Secrets may be made for subscriptions that name no key."""
    keys_secret: str = Field(min_length=1, max_length=253)
    """The Secret with the app's keys, HOOKCAST_INTERNAL_KEY among them, in `namespace`."""
    create_keys: bool = True
    """Whether to make it where it does not exist."""
    egress_allow: CommaSeparated = ()
    """As the app's: CIDRs or `host:port` patterns that webhooks may reach though they are private."""
    admin_host: str = "0.0.0.0"  # noqa: S104  a pod's port; the network policy says who reaches it
    """Address of the admin port."""
    admin_port: int = Field(default=9090, ge=0, le=65535)
    """`/health/*` and `/metrics`; 0 takes a free one."""
    app_admin_port_name: str = "admin"
    """Name of the port of `<release>-admin` where pods take their configuration."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""

    @property
    def takes_every_secret(self) -> bool:
        """Whether a Secret needs no label to be referred to."""
        return self.secret_access == "Namespace"  # noqa: S105  a word

    @field_validator("watch_namespaces", "allowed_namespaces", "generate_secrets_in", "egress_allow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
