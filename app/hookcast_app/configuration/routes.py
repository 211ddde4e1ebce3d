"""`/internal/configuration` on the admin port: the operator brings a configuration, and asks which is in force."""

import msgspec
from fastapi import APIRouter, Request, Response

from hookcast_app.configuration.acceptance import Rejected
from hookcast_app.configuration.current import CurrentConfiguration
from hookcast_app.configuration.kubernetes import InForce, KubernetesConfiguration
from hookcast_app.problems import problem_for, problem_response
from hookcast_app.request_body import Disconnected, RequestBody
from hookcast_core.chunks import CHUNK_BYTES, MAX_CHUNKS
from hookcast_core.errors import InvalidInput, Reason

MAX_TOKEN_BYTES = CHUNK_BYTES * MAX_CHUNKS


def configuration_router(current: CurrentConfiguration, source: KubernetesConfiguration | None) -> APIRouter:
    """The routes; without a `source` (subscriptions come from files) nothing can be put."""

    async def put(request: Request) -> Response:
        if source is None:
            raise InvalidInput(Reason.NOT_FOUND, None, "this server takes its subscriptions from files")
        body = RequestBody(request.receive, "a configuration")
        try:
            token = await body.read(request.headers.get("content-length", ""), MAX_TOKEN_BYTES)
            return _json(_shown(await source.push(token)))
        except Disconnected:
            return Response(status_code=400)
        except InvalidInput as error:
            await body.linger()
            return problem_response(problem_for(error))

    async def get() -> Response:
        if source is not None and source.in_force is not None:
            return _json(_shown(source.in_force) | {"subscriptions": len(current.entries)})
        sequence = current.configuration.sequence if current.configuration else None
        way = "files" if current.configuration else None
        return _json({"sequence": sequence, "source": way, "subscriptions": len(current.entries), "rejected": []})

    router = APIRouter(prefix="/internal")
    router.add_api_route("/configuration", put, methods=["PUT"], include_in_schema=False)
    router.add_api_route("/configuration", get, methods=["GET"], include_in_schema=False)
    return router


def _shown(in_force: InForce) -> dict[str, object]:
    return {
        "sequence": in_force.version.sequence,
        "origin": in_force.version.origin,
        "revision": in_force.version.revision,
        "sealedAt": in_force.version.sealed_at,
        "source": in_force.way,
        "rejected": list(map(_rejected, in_force.rejected)),
    }


def _rejected(rejected: Rejected) -> dict[str, object]:
    return {
        "uid": rejected.uid,
        "generation": rejected.generation,
        "field": rejected.field,
        "reason": str(rejected.reason),
        "detail": rejected.detail,
    }


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
