"""Settings: one reader, one clear line for what is wrong."""

from pathlib import Path

import pytest

from api.cli import run
from api.errors import InvalidSettings
from api.settings import http_url, is_loopback, load_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer's


def test_defaults() -> None:
    settings = load_settings()
    assert settings.home == Path(".ropewalk")
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.database is None
    assert settings.key is None
    assert settings.server_url == "http://127.0.0.1:8000"


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ROPEWALK_HOME": "/tmp/home",
        "ROPEWALK_DATABASE_URL": "postgresql://u:secret@db/ropewalk",
        "ROPEWALK_HOST": "0.0.0.0",
        "ROPEWALK_PORT": "9000",
        "ROPEWALK_URL": "https://ropewalk.example/",
        "ROPEWALK_API_KEY": "rw_key",
        "RAY_ADDRESS": "head:6379",
        "ROPEWALK_ROOTS": "/data/models:/data/corpora",
        "ROPEWALK_RATE_LIMIT": "5/second",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.roots == (Path("/data/models"), Path("/data/corpora"))
    assert str(settings.requests) == "5 per 1 second"
    assert settings.home == Path("/tmp/home")
    assert settings.database == "postgresql://u:secret@db/ropewalk"
    assert (settings.host, settings.port, settings.ray_address) == ("0.0.0.0", 9000, "head:6379")
    assert settings.server_url == "https://ropewalk.example"
    assert settings.key == "rw_key"
    assert "secret" not in repr(settings)
    assert "rw_key" not in repr(settings)


def test_dotenv_is_read_and_the_environment_and_options_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ROPEWALK_PORT=9001\nROPEWALK_HOST=localhost\nOTHER=1\n")
    assert load_settings().port == 9001
    monkeypatch.setenv("ROPEWALK_PORT", "9002")
    assert load_settings().port == 9002
    assert load_settings(port=9003, host=None).port == 9003
    assert load_settings().host == "localhost"


def test_empty_variables_mean_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", "")
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert load_settings().database is None
    assert load_settings().ray_address is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ROPEWALK_PORT", "many", "ROPEWALK_PORT must be"),
        ("ROPEWALK_PORT", "70000", "but got '70000'"),
        ("ROPEWALK_URL", "localhost:8000", "ROPEWALK_URL must start with http:// or https://"),
        (
            "ROPEWALK_DATABASE_URL",
            "mysql://root:hunter2@db/x",
            "ROPEWALK_DATABASE_URL must start with one of",
        ),
        ("ROPEWALK_API_KEY", "hunter2\nx", "ROPEWALK_API_KEY must be printable ASCII without spaces"),
        ("ROPEWALK_API_KEY", "ключ", "ROPEWALK_API_KEY must be printable ASCII without spaces"),
        ("ROPEWALK_URL", "ftp://me:hunter2@host", "ROPEWALK_URL must start with http:// or https://"),
        ("ROPEWALK_CRASH_AT", "lunch", "ROPEWALK_CRASH_AT must be one of before claim, "),
    ],
)
def test_a_bad_value_is_one_line_and_exit_code_2(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match="must"):
        load_settings()
    assert run(["list"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1
    assert "hunter2" not in told.err
    assert told.err.count("must") == 1


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://[::", 2),
        ("http://host\t", 2),
        ("http://a..b", 2),
        ("http://", 2),
        ("http://me:hun/ter2@host", 2),
        ("http://me:hunter2@127.0.0.1:1", 1),
    ],
)
def test_a_url_of_no_server_is_told_without_its_password(
    url: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROPEWALK_URL", url)
    assert run(["list"]) == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "http://127.0.0.1:" in told
    assert "ter2" not in told


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "LOCALHOST.", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_urls() -> None:
    assert http_url("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert http_url("::", 1) == "http://[::1]:1"
    assert http_url("db.example", 1) == "http://db.example:1"


def test_a_rate_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_RATE_LIMIT", "off")
    assert load_settings().requests is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ROPEWALK_ROOTS", "/data:models", "ROPEWALK_ROOTS must be absolute paths with : between them"),
        ("ROPEWALK_RATE_LIMIT", "often", "ROPEWALK_RATE_LIMIT must be a number per second, minute, hour or day"),
    ],
)
def test_roots_and_rates_that_are_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=said) as refused:
        load_settings()
    assert "\n" not in str(refused.value)
