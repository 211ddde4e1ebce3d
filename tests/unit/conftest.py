"""How properties are checked: no example has to be done within a time, as nothing says how busy the machine is."""

from hypothesis import settings

settings.register_profile("hookcast", deadline=None)
settings.load_profile("hookcast")
