"""Requests to the outside: the one HTTP client of the app, for deliveries, test sends and callbacks.

It connects only to addresses that it resolved and that the egress policy passed, follows no redirect, knows no proxy
and decodes nothing.
"""

from hookcast_app.outgoing.answer import Answer, AttemptFailed
from hookcast_app.outgoing.client import HttpClient
from hookcast_app.outgoing.resolver import Resolve, SystemResolver
from hookcast_app.outgoing.tls import ClientCertificate, Tls

__all__ = ["Answer", "AttemptFailed", "ClientCertificate", "HttpClient", "Resolve", "SystemResolver", "Tls"]
