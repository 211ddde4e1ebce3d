"""Subscriptions inside the app: which of them an event goes to, and how they are read from files."""

from hookcast_app.subscriptions.files import Loaded, Problem, changes, load, watch
from hookcast_app.subscriptions.keys import generated_key
from hookcast_app.subscriptions.matching import Matchable, Matcher, Matches, Trial, fair_limit

__all__ = [
    "Loaded",
    "Matchable",
    "Matcher",
    "Matches",
    "Problem",
    "Trial",
    "changes",
    "fair_limit",
    "generated_key",
    "load",
    "watch",
]
