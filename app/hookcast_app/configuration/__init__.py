"""The configuration in force: what events are matched against and dispatchers work from."""

from hookcast_app.configuration.current import CurrentConfiguration

__all__ = ["CurrentConfiguration"]
