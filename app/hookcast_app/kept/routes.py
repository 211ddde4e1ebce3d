"""`/api/v1/webhook-subscriptions` and `/api/v1/secrets`, for changing them. Needs the scope `subscriptions:write`."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from hookcast_app.auth import ApiKeys
from hookcast_app.kept.models import KeptSubscription
from hookcast_app.kept.service import KeptSubscriptions
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.names import check_namespace, check_object_name, check_secret_key
from hookcast_core.subscription import Subscription

MAX_SECRET_BYTES = 131_072
"""All values of one secret together."""
MAX_SECRET_KEYS = 64


class _AsSubscription:
    """Documented as a subscription's specification, and parsed like that of a custom resource: see `entry_of`."""

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(Subscription.__pydantic_core_schema__)


Spec = Annotated[dict[str, Any], _AsSubscription()]


class NewSubscription(BaseModel):
    """A subscription to be kept."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=253, description="Its name, once in a namespace.")
    namespace: str = Field(
        default="default", min_length=1, max_length=63, description="A namespace, to tell names apart."
    )
    spec: Spec


class ChangedSubscription(BaseModel):
    """Another specification."""

    model_config = ConfigDict(extra="forbid")

    spec: Spec


class SecretValues(BaseModel):
    """A secret's values by key: what `secretRef: {name, key}` names."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    data: Annotated[dict[str, str], Field(min_length=1, max_length=MAX_SECRET_KEYS)]


class KeptRoutes:
    """The handlers; lives as long as the app."""

    def __init__(self, subscriptions: KeptSubscriptions, keys: ApiKeys) -> None:
        self._subscriptions = subscriptions
        self._keys = keys

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(prefix="/api/v1", dependencies=[Depends(self._may_write)])
        one = "/webhook-subscriptions/{uid}"
        for path, handler, method, status, summary in (
            ("/webhook-subscriptions", self.create, "POST", 201, "Create a subscription"),
            (one, self.replace, "PUT", 200, "Replace a subscription's specification"),
            (one, self.patch, "PATCH", 200, "Change parts of a subscription's specification"),
            (one, self.delete, "DELETE", 204, "Delete a subscription"),
            (f"{one}/rotate-secret", self.rotate, "POST", 200, "Generate a new signing key"),
        ):
            router.add_api_route(
                path, handler, methods=[method], status_code=status, tags=["subscriptions"], summary=summary
            )
        router.add_api_route("/secrets", self.secrets, methods=["GET"], tags=["secrets"], summary="List secrets")
        for name_handler, method, status, summary in (
            (self.secret, "GET", 200, "One secret's keys, never its values"),
            (self.put_secret, "PUT", 200, "Store a secret"),
            (self.delete_secret, "DELETE", 204, "Delete a secret"),
        ):
            router.add_api_route(
                "/secrets/{name}", name_handler, methods=[method], status_code=status, tags=["secrets"], summary=summary
            )
        return router

    async def _may_write(self, request: Request) -> None:
        self._keys.authorize(request.scope["headers"], "subscriptions:write")

    async def create(self, body: NewSubscription) -> Response:
        """Creates a subscription. A generated signing key is in this answer, and never shown again."""
        _checked("name", check_object_name, body.name)
        _checked("namespace", check_namespace, body.namespace)
        made, secret = await self._subscriptions.create(body.namespace, body.name, body.spec)
        return _shown(made, secret, 201, {"Location": f"/api/v1/webhook-subscriptions/{made.uid}"})

    async def replace(self, uid: str, body: ChangedSubscription) -> Response:
        """Puts another specification in place of the one of now; name and generated keys stay."""
        return _shown(*await self._subscriptions.replace(uid, lambda _: body.spec))

    async def patch(self, uid: str, body: ChangedSubscription) -> Response:
        """Merges into the specification (RFC 7396): null removes a field, a list is replaced."""
        return _shown(*await self._subscriptions.replace(uid, lambda before: merged(before, body.spec)))

    async def delete(self, uid: str) -> Response:
        """Deletes a subscription; what waits for it is discarded."""
        await self._subscriptions.delete(uid)
        return Response(status_code=204)

    async def rotate(self, uid: str) -> Response:
        """Generates a new signing key, which is shown in this answer alone; the one of before signs along for a day."""
        return _json({"uid": uid, "secret": await self._subscriptions.rotate(uid)})

    async def secrets(self) -> Response:
        """The names of all secrets, with their keys; values are never shown."""
        kept = self._subscriptions.kept.secrets
        return _json({"items": [{"name": name, "keys": sorted(kept[name])} for name in sorted(kept)]})

    async def secret(self, name: str) -> Response:
        """One secret's keys."""
        values = self._subscriptions.kept.secrets.get(name)
        if values is None:
            raise InvalidInput(Reason.NOT_FOUND, "secret", "no secret of this name is kept")
        return _json({"name": name, "keys": sorted(values)})

    async def put_secret(
        self, name: Annotated[str, Path(min_length=1, max_length=253)], body: Annotated[SecretValues, Body()]
    ) -> Response:
        """Stores a secret, encrypted, in place of one that has this name; subscriptions that name it follow at once."""
        _checked("name", check_object_name, name)
        for key, value in body.data.items():
            _checked(f"data.{_shown_key(key)}", check_secret_key, key)
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise InvalidInput(Reason.INVALID_SECRET, f"data.{key}", "is no text: it has half a surrogate pair")
        if sum(len(value.encode()) for value in body.data.values()) > MAX_SECRET_BYTES:
            raise InvalidInput(Reason.TOO_LARGE, "data", f"has over {MAX_SECRET_BYTES} bytes")
        await self._subscriptions.put_secret(name, body.data)
        return _json({"name": name, "keys": sorted(body.data)})

    async def delete_secret(self, name: str) -> Response:
        """Deletes a secret; one that a subscription needs is refused."""
        await self._subscriptions.delete_secret(name)
        return Response(status_code=204)


def _shown_key(key: str) -> str:
    return key[:64].encode("utf-8", "replace").decode()


def merged(before: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def _checked(field: str, check: Any, value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise InvalidInput(Reason.INVALID_SUBSCRIPTION, field, str(error)) from None


def _shown(
    kept: KeptSubscription, secret: str | None, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    shown = {
        "uid": kept.uid,
        "namespace": kept.namespace,
        "name": kept.name,
        "source": "api",
        "generation": kept.generation,
        "spec": kept.spec,
    }
    return _json(shown | ({"secret": secret} if secret else {}), status, headers)


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")
