"""What services ask of channels and their clients: Centrifugo's HTTP API, and the same as resources of the REST API."""

from hookcast_app.server_api.routes import ServerApiEndpoint
from hookcast_app.server_api.service import ServerApi

__all__ = ["ServerApi", "ServerApiEndpoint"]
