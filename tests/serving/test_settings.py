"""Settings come from one file, the environment and options; whatever is not understood is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspection.errors import ConfigurationError
from serving.settings import Settings, load_settings

FILE = """
data_dir = "/srv/records"
products = ["KN-42"]

[server]
port = 9000

[limits]
max_bytes = 1000
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8400)
    assert settings.data_dir == Path("var")
    assert settings.products == ()


def test_options_go_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inspection.toml").write_text(FILE)
    assert load_settings().server.port == 9000
    monkeypatch.setenv("INSPECTION_SERVER__PORT", "9001")
    monkeypatch.setenv("INSPECTION_DATA_DIR", "/elsewhere")
    settings = load_settings(overrides={"server.host": None, "data_dir": Path("here")})
    assert settings.server.port == 9001
    assert settings.server.host == "127.0.0.1"
    assert settings.data_dir == Path("here")
    assert settings.limits.max_bytes == 1000, "one key of a section leaves the others alone"
    assert load_settings(overrides={"server.port": 9002}).server.port == 9002


def test_a_list_in_the_environment_is_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INSPECTION_PRODUCTS", "KN-42, KN-43")
    assert load_settings().products == ("KN-42", "KN-43")


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_the_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    path = tmp_path / "plant.toml"
    path.write_text(FILE)
    if how == "variable":
        monkeypatch.setenv("INSPECTION_CONFIG", str(path))
    assert load_settings(path if how == "argument" else None).products == ("KN-42",)


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        ("data_dirr = 'x'", "`data_dirr`", "data_dir"),
        ("[server]\nprot = 1", "`server.prot`", "server.port"),
        ("[sever]\nport = 1", "`sever.port`", "server.port"),
        ("server = 3", "server", None),
        ("[server]\nport = 70000", "server.port", None),
        ("[server]\nport = 'many'", "server.port", None),
        ("products = ['a', 'a']", "products", None),
        ("not toml at all", "not TOML", None),
        ("[limits]\nmax_bytes = 0", "limits.max_bytes", None),
    ],
)
def test_a_file_that_is_not_understood_is_refused(
    tmp_path: Path, text: str, says: str, remedy: str | None
) -> None:
    path = tmp_path / "plant.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_settings(path)
    assert says in str(refused.value)
    assert remedy is None or remedy in refused.value.remedy


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("INSPECTION_SERVER_PORT", "INSPECTION_SERVER__PORT"),
        ("INSPECTION_DATADIR", "INSPECTION_DATA_DIR"),
        ("INSPECTION_SERVER__PROT", "INSPECTION_SERVER__PORT"),
        ("inspection_prodcts", "INSPECTION_PRODUCTS"),
    ],
)
def test_a_variable_that_nobody_uses_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigurationError, match=name) as refused:
        load_settings()
    assert nearest in refused.value.remedy


def test_the_variables_of_the_command_line_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTION_DEBUG", "1")
    load_settings()


def test_no_dotenv_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("INSPECTION_SERVER__PORT=1\nport=1\n")
    assert load_settings() == Settings()


def test_building_settings_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTION_SERVER__PORT", "9001")
    assert Settings().server.port == 8400


def test_the_password_in_a_database_url_is_not_printed() -> None:
    assert "secret" not in repr(Settings(database_url="postgresql://u:secret@host/db"))
