"""Says in one line which setting does not hold, and what to write instead. Pure; never repeats a value."""

import re
from collections.abc import Collection

from pydantic import ValidationError
from pydantic_settings import SettingsError

from hookcast_app.settings import PREFIX
from hookcast_core.errors import InvalidInput

_LINK_HINT = " (Kubernetes may have set it for a Service named hookcast: set enableServiceLinks: false on the pod)"


def setting_name(field: str, options: Collection[str]) -> str:
    """How the user wrote a setting: `--admin-port` if it was given on the command line, else `HOOKCAST_ADMIN_PORT`."""
    return f"--{field.replace('_', '-')}" if field in options else f"{PREFIX}{field.upper()}"


def explain_input(error: InvalidInput, options: Collection[str]) -> str:
    """One line for a refusal whose field is the name of a setting."""
    return f"{setting_name(error.field, options)}: {error.detail}" if error.field else error.detail


def explain_settings(error: ValueError, options: Collection[str]) -> str:
    """One line for what pydantic-settings or one of its sources raised."""
    if isinstance(error, ValidationError):
        return _explain_validation(error, options)
    if isinstance(error, SettingsError):
        field = re.search(r'field "(\w+)"', str(error))
        name = setting_name(field[1], options) if field else "a setting"
        return f"{name}: is not valid JSON: {error.__cause__}"
    return str(error)


def _explain_validation(error: ValidationError, options: Collection[str]) -> str:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    location = [str(part) for part in problems[0]["loc"]]
    message = problems[0]["msg"].removeprefix("Value error, ")
    if not location:  # a rule over several settings: our validators begin its message with the field
        field, _, message = message.partition(": ")
        location = [field]
    name = setting_name(location[0], options) + "".join(f".{part}" for part in location[1:])
    hint = _LINK_HINT if location == ["port"] and location[0] not in options else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{name}: {message}{hint}{more}"
