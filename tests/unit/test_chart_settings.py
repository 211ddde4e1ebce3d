"""What the chart knows of the app's settings is true."""

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from hookcast_app.settings import Settings

CHART = Path(__file__).parents[2] / "charts" / "hookcast"
SECRETS = {"API_KEYS", "ENCRYPTION_KEYS", "INTERNAL_KEY", "JWT_SECRET", "REDIS_URL"}


def known() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CHART / "files" / "settings.yaml").read_text(encoding="utf-8"))
    return content


def test_every_setting_is_sorted_in_once() -> None:
    """If this fails: put what is new into files/settings.yaml, as plain, as a list, or refused with the reason."""
    places = [*known()["plain"], *known()["lists"], *known()["refused"]]

    assert sorted(places) == sorted(name.upper() for name in Settings.model_fields)


def test_lists_are_those_that_the_app_splits_at_commas() -> None:
    """A YAML list for any other setting is given as JSON."""
    lists = {
        name.upper()
        for name, field in Settings.model_fields.items()
        if str in get_args(field.annotation) and str(field.annotation).startswith("tuple")
    }

    assert set(known()["lists"]) == lists


def test_choices_are_those_of_the_app() -> None:
    """Else a pod would refuse the setting, and restart for ever."""
    words = {
        name.upper(): list(get_args(field.annotation))
        for name, field in Settings.model_fields.items()
        if get_origin(field.annotation) is Literal and all(isinstance(word, str) for word in get_args(field.annotation))
    }

    assert known()["choices"] == {name: words[name] for name in words.keys() & set(known()["plain"])}


def test_numbers_and_flags_are_those_of_the_app() -> None:
    """With the limits of the app, and a fraction where it takes one."""
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    numbers = {name: field for name, field in fields.items() if field.annotation in (int, float)}
    plain = known()["plain"]
    limits = {
        name: [getattr(one, edge) for edge in ("ge", "le") for one in field.metadata if hasattr(one, edge)]
        for name, field in numbers.items()
        if name in plain
    }

    assert known()["numbers"] == limits
    assert set(known()["fractions"]) == {name for name in limits if numbers[name].annotation is float}
    assert known()["flags"] == [name for name, field in fields.items() if field.annotation is bool]


def test_what_the_image_sets_is_put_into_the_environment() -> None:
    """There it wins over the files that other settings are mounted as."""
    image = (CHART.parents[1] / "Dockerfile").read_text(encoding="utf-8")

    assert known()["environment"] == sorted(re.findall(r"HOOKCAST_(\w+)=", image))


def test_a_file_is_refused_for_what_the_chart_or_the_image_sets() -> None:
    """It would be accepted, and have no effect."""
    chart = re.findall(r"- name: HOOKCAST_(\w+)\n", (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8"))
    settings = {name for name in chart if name.lower() in Settings.model_fields}

    assert known()["not_from_file"].keys() >= {*settings, *known()["environment"]}


def test_secrets_are_refused() -> None:
    """What stands in a ConfigMap can be read by many; a public key may stand there."""
    assert known()["refused"].keys() >= SECRETS


def test_the_chart_has_the_app_s_version() -> None:
    """The default image is the one that belongs to the chart."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (CHART.parents[1] / "pyproject.toml").read_text(encoding="utf-8")

    assert f'\nversion = "{chart["appVersion"]}"\n' in project
