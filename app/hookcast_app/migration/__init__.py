"""`hookcast migrate`: moves all of Hookcast's data from one Redis to another, with nothing lost."""

from hookcast_app.migration.command import abandon, migrate

__all__ = ["abandon", "migrate"]
