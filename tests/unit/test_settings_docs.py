"""The settings' page says what the code does."""

from pathlib import Path

from hookcast_app.settings import ApiKey, ChannelOptions, Settings
from hookcast_app.settings_docs import page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_what_the_settings_say() -> None:
    """If this fails: python -m hookcast_app.settings_docs > docs/settings.md."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_setting_has_its_line() -> None:
    """No field of Settings, or of what its structures hold, is left out."""
    names = [f"HOOKCAST_{name.upper()}" for name in Settings.model_fields]
    names += [*ApiKey.model_fields, *ChannelOptions.model_fields]

    assert [name for name in names if page().count(f"\n| `{name}` | ") != 1] == []


def test_defaults_bounds_and_choices_are_told() -> None:
    """What may be written is on the line, not only in the code."""
    lines = page().splitlines()

    (port,) = (line for line in lines if line.startswith("| `HOOKCAST_PORT` "))
    (role,) = (line for line in lines if line.startswith("| `HOOKCAST_ROLE` "))
    (redis,) = (line for line in lines if line.startswith("| `HOOKCAST_REDIS_URL` "))

    assert "`8000`" in port
    assert "(0 to 65535)" in port
    assert "(`all`, `api` or `dispatcher`)" in role
    assert "| `embedded` |" in redis
