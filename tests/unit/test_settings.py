"""Settings: every way in, and one line for whatever does not hold."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import SettingsError

from hookcast_app.server import Grace, grace_of
from hookcast_app.settings import Settings
from hookcast_app.settings_errors import explain_settings

FERNET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HOOKCAST_"):
            monkeypatch.delenv(name)


def explained(**given: str) -> str:
    """The line for settings that do not hold."""
    with pytest.raises((ValueError, SettingsError)) as caught:
        Settings(**given)  # type: ignore[arg-type]
    return explain_settings(caught.value, given)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PORT", "secret", "HOOKCAST_PORT: Input should be a valid integer"),
        ("PORT", "70000", "HOOKCAST_PORT: Input should be less than or equal to 65535"),
        ("PORT", "9090", "HOOKCAST_ADMIN_PORT: must differ from port"),
        ("ROLE", "secret", "HOOKCAST_ROLE: Input should be 'all', 'api' or 'dispatcher'"),
        ("API_KEYS", '[{"secret', "HOOKCAST_API_KEYS: is not valid JSON: Unterminated string"),
        (
            "API_KEYS",
            '[{"name": "a", "key": "secret", "scopes": []}]',
            "HOOKCAST_API_KEYS.0.key: a key has at least 16 c",
        ),
        ("API_KEYS", '{"name": "secret"}', "HOOKCAST_API_KEYS: write a JSON list of objects with name, key and scopes"),
        ("API_KEYS", '"secret"', "HOOKCAST_API_KEYS: write a JSON list"),
        ("DATA_DIR", "", "HOOKCAST_DATA_DIR: is empty; write a directory's path"),
        ("MANIFESTS", " ", "HOOKCAST_MANIFESTS: is empty; write a directory's path"),
        ("JWT_ALGORITHMS", "", "HOOKCAST_JWT_ALGORITHMS: is empty; name at least one algorithm"),
        ("JWT_ALGORITHMS", " , ", "HOOKCAST_JWT_ALGORITHMS: is empty; name at least one algorithm"),
        ("ALLOWED_ORIGINS", "*,secret.example", "HOOKCAST_ALLOWED_ORIGINS: entry 2 is no origin: write scheme://host"),
        ("ENCRYPTION_KEYS", f"{FERNET},secret", "HOOKCAST_ENCRYPTION_KEYS: key 2 is not a Fernet key: write 32"),
        ("REDIS_URL", "http://u:secret@h", "HOOKCAST_REDIS_URL: write `embedded`, or a URL that begins with redis://"),
        ("DEDUP_SECONDS", "315360001", "HOOKCAST_DEDUP_SECONDS: Input should be less than or equal to 315360000"),
        ("RETENTION_SECONDS", "1" + "0" * 18, "HOOKCAST_RETENTION_SECONDS: Input should be less than or equal"),
        ("DEAD_LETTER_RETENTION_SECONDS", "1" + "0" * 12, "HOOKCAST_DEAD_LETTER_RETENTION_SECONDS: Input should be"),
        ("DELETION_GRACE_SECONDS", "1" + "0" * 12, "HOOKCAST_DELETION_GRACE_SECONDS: Input should be less than"),
        ("JWT_SECRET_FILE", "/no/such/file", "HOOKCAST_JWT_SECRET_FILE: cannot read /no/such/file"),
    ],
)
def test_a_setting_that_does_not_hold_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    """The name as the user wrote it, what is wrong, and never the value: it may be a secret in the wrong place."""
    monkeypatch.setenv(f"HOOKCAST_{name}", value)

    said = explained()

    assert said.startswith(line)
    assert "\n" not in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "origin", ["app.example", "https://", "https://a/path", "https://*.a", "https://u@a", "https://a:x", "null", "//a"]
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    """It would never match, and nobody would be told."""
    assert explained(allowed_origins=origin).startswith("--allowed-origins: entry 1 is no origin")


def test_origins_are_names_and_addresses_with_and_without_a_port() -> None:
    """Whatever a browser sends, and `*`; a slash behind it is what people paste."""
    given = (
        "*",
        "https://app.example",
        "http://127.0.0.1:3000",
        "HTTP://[::1]:80",
        "https://a_b.example/",
        "app+x://id",
    )

    assert Settings(allowed_origins=given).allowed_origins == given


def test_an_empty_path_given_as_an_option_is_named_as_one() -> None:
    """As by the environment."""
    assert explained(data_dir="").startswith("--data-dir: is empty")
    assert explained(manifests="").startswith("--manifests: is empty")


def test_an_option_is_named_as_an_option() -> None:
    """What was given on the command line is told by the name that it has there."""
    assert explained(admin_port="x").startswith("--admin-port: Input should be")


def test_several_errors_are_one_line() -> None:
    """The first one in full, the number of the others."""
    assert explained(port="x", admin_port="y").endswith("(and 1 more)")


def test_a_port_set_by_kubernetes_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called hookcast sets HOOKCAST_PORT in every pod of its namespace: the line says how to stop that."""
    monkeypatch.setenv("HOOKCAST_PORT", "tcp://10.0.0.1:80")

    assert "enableServiceLinks: false" in explained()


def test_json_in_a_file_is_checked_like_json_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file's setting is named, its content is not shown."""
    (tmp_path / "keys").write_text('[{"name": "secret')
    monkeypatch.setenv("HOOKCAST_API_KEYS_FILE", str(tmp_path / "keys"))

    assert explained().startswith("HOOKCAST_API_KEYS_FILE: the file does not hold valid JSON")
    assert "secret" not in explained()


def test_a_source_that_fails_without_a_field_is_still_told() -> None:
    """Whatever pydantic-settings raises becomes a line."""
    error = SettingsError("something else")
    error.__cause__ = ValueError("broken")

    assert explain_settings(error, ()) == "a setting: is not valid JSON: broken"


def test_the_command_line_wins_over_the_environment_over_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each value comes from the nearest place."""
    (tmp_path / "host").write_text("file\n")
    for name in ("HOST", "ADMIN_HOST", "LOG_LEVEL"):
        monkeypatch.setenv(f"HOOKCAST_{name}_FILE", str(tmp_path / "host"))
    monkeypatch.setenv("HOOKCAST_LOG_LEVEL", "debug")
    monkeypatch.setenv("HOOKCAST_ADMIN_HOST", "environment")

    settings = Settings(admin_host="option")

    assert (settings.host, settings.admin_host, settings.log_level) == ("file", "option", "debug")


def test_directories_of_files_named_like_settings_come_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As mounted Secrets and ConfigMaps are: the first directory that has a file; other files are none of ours."""
    for directory, files in {"a": {"HOST": "a", "LOG_LEVEL": "error\n"}, "b": {"HOST": "b", "ADMIN_HOST": "b"}}.items():
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "other").write_text("x")
        for name, value in files.items():
            (tmp_path / directory / f"HOOKCAST_{name}").write_text(value)
    (tmp_path / "named").write_text("named")
    monkeypatch.setenv("HOOKCAST_SETTINGS_DIR", f"{tmp_path}/a:{tmp_path}/b")
    monkeypatch.setenv("HOOKCAST_ADMIN_HOST_FILE", str(tmp_path / "named"))
    monkeypatch.setenv("HOOKCAST_LOG_LEVEL", "debug")

    settings = Settings()

    assert (settings.host, settings.admin_host, settings.log_level) == ("a", "named", "debug")


def test_a_directory_of_settings_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever was to be in it would be missing unnoticed."""
    monkeypatch.setenv("HOOKCAST_SETTINGS_DIR", str(tmp_path / "none"))

    assert "HOOKCAST_SETTINGS_DIR" in explained()
    assert "is no directory" in explained()


def test_nobody_waits_for_balancers_that_are_not_there() -> None:
    """With the embedded Redis the end is quick unless it is set; with another Redis the defaults are for a Service."""
    external = SecretStr("redis://127.0.0.1")

    assert grace_of(Settings()) == Grace(0.0, 2.0, 1)
    assert grace_of(Settings(drain_delay=5, drain=10)) == Grace(5.0, 10.0, 1)
    assert grace_of(Settings(redis_url=external)) == Grace(5.0, 10.0, 5)


def test_free_ports_may_both_be_asked_for() -> None:
    """0 and 0 are two ports."""
    assert Settings(port=0, admin_port=0).port == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"jwks_url": "ftp://idp.example"}, "--jwks-url: "),
        ({"jwks_url": "https://user:word@idp.example/keys"}, "--jwks-url: "),
        ({"jwks_url": "https://idp.example", "jwt_public_key": "pem"}, "--jwks-url: give it or jwt_public_key"),
        ({"jwt_cookie": "a b"}, "--jwt-cookie: is no name of a cookie"),
        ({"jwt_cookie": ""}, "--jwt-cookie: is no name of a cookie"),
        ({"trusted_proxies": "10.0.0.0/8,proxy"}, "--trusted-proxies: entry 2 is no network"),
    ],
)
def test_what_cannot_be_meant_of_tokens_and_proxies_is_refused(given: dict[str, str], told: str) -> None:
    """At the start, with what to write instead; nothing of a password in a URL is repeated."""
    line = explained(**given)

    assert line.startswith(told)
    assert "word@" not in line
