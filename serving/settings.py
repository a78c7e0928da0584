"""How one server is set up: built once, from one TOML file and the environment, and passed down.

    inspection.toml < INSPECTION_* < options of the command line  ->  load_settings()  ->  Settings

Every key must be known and every `INSPECTION_*` variable must have been used: a mistyped name is
an error that names the nearest one, never a setting that is silently not there. No `.env` is read.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from inspection.errors import ConfigurationError, InspectionError
from inspection.frame import DecodeLimits
from inspection.proofs.witnesses import parse_witness

PREFIX: Final = "INSPECTION_"
NESTING: Final = "__"
DEFAULT_FILE: Final = Path("inspection.toml")
CONFIG_VARIABLE: Final = "INSPECTION_CONFIG"
OTHER_VARIABLES: Final = frozenset({CONFIG_VARIABLE, "INSPECTION_DATASETS_DIR", "INSPECTION_DEBUG"})
"""Variables that are ours, but not settings."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(_Section):
    """Where it listens and how many requests it works on at a time."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8400, ge=0, le=65535, description="0 takes the first free one from 8400")
    workers: int = Field(16, ge=1, le=256, description="requests worked on at a time")
    queue: int = Field(256, ge=1, le=65536, description="requests let in and not yet answered")
    deadline_s: float = Field(
        10.0, gt=0, le=600, description="how long a caller waits who does not say"
    )
    body_s: float = Field(30.0, gt=0, le=3600, description="how long a body may take to come")
    drain_s: int = Field(30, ge=1, description="how long a stopping server lets requests finish")


class LimitSettings(_Section):
    """What an image may be at most."""

    max_bytes: int = Field(DecodeLimits().max_bytes, ge=1)
    max_pixels: int = Field(DecodeLimits().max_pixels, ge=1)
    decoder: Literal["thread", "process"] = Field(
        "thread", description="process: a file that crashes or hangs its decoder is refused alone"
    )
    decode_s: float = Field(
        10.0, gt=0, le=600, description="how long a decoder process may take over one image"
    )


class DiskSettings(_Section):
    """When a disk counts as full, before it is."""

    min_free_bytes: int = Field(
        2**30, ge=0, description="with less room left nothing more is taken in"
    )


class TritonSettings(_Section):
    """Where NVIDIA Triton is, for `engine.kind = "triton"`."""

    url: str = Field("", description="host:port of its gRPC or HTTP end, such as gpu-1:8001")
    protocol: Literal["grpc", "http"] = Field("grpc", description="how to speak to it")
    timeout_s: float = Field(
        2.0, gt=0, le=600, description="how long one call may take, with all its tries"
    )
    shared_memory: Literal["auto", "off"] = Field(
        "auto", description="hand images over in memory where Triton is on this machine"
    )


class EngineSettings(_Section):
    """How the network is run."""

    kind: Literal["auto", "openvino", "torch", "onnxruntime", "triton"] = Field(
        "auto", description="what runs it; auto takes the best that is there, and says which"
    )
    fallback: Literal["none", "openvino", "torch"] = Field(
        "none", description="what judges while Triton is away; none refuses with 503"
    )
    device: Literal["cpu", "cuda"] | None = Field(None, description="where; the best that is there")
    precision: Literal["package", "f16", "bf16"] = Field(
        "package", description="another arithmetic than the limits were fitted in, for torch"
    )
    tensorrt_cache: Path | None = Field(
        None, description="where TensorRT keeps what it builds, for onnxruntime on CUDA"
    )
    threads: int | None = Field(None, ge=1, description="cores for the engine; its own choice")
    max_batch: int = Field(8, ge=1, le=256, description="images in one run of the network")
    stuck_s: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="a run that takes longer counts as hung"
    )
    triton: TritonSettings = TritonSettings()

    @model_validator(mode="after")
    def _triton_fits(self) -> EngineSettings:
        if self.kind != "triton":
            if self.fallback != "none":
                raise ValueError('`fallback` is what stands in for kind = "triton"')
            return self
        if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}", self.triton.url):
            raise ValueError('kind = "triton" needs triton.url as host:port, such as gpu-1:8001')
        if self.triton.timeout_s > self.stuck_s / 2:
            # A call that waits for Triton, and the fallback after it, is no engine that hangs.
            raise ValueError("triton.timeout_s must be at most half of stuck_s")
        return self


class CheckpointSettings(_Section):
    """How often the head of the records' hash tree is signed, and who witnesses it."""

    every_s: float = Field(
        0.0, ge=0, le=86_400, description="sign this often; 0 leaves it to `inspection checkpoint`"
    )
    every_records: int = Field(0, ge=0, description="and after so many records, if that is sooner")
    witnesses: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="files elsewhere, or `URL VKEY` of witnesses"
    )
    key_file: Path | None = Field(
        None, description="the signing key; checkpoint.key in the data folder when absent"
    )

    @field_validator("witnesses", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """A variable holds a list as `FILE, URL VKEY`."""
        if isinstance(value, str):
            return tuple(each.strip() for each in value.split(",") if each.strip())
        return value

    @model_validator(mode="after")
    def _whole(self) -> CheckpointSettings:
        if not self.every_s and (self.every_records or self.witnesses):
            raise ValueError("set `every_s`: without it the server makes no checkpoints")
        for each in self.witnesses:
            try:
                parse_witness(each)
            except InspectionError as error:
                raise ValueError(str(error)) from error
        return self


class TracingSettings(_Section):
    """Telling an OpenTelemetry collector of requests; nobody is told without an endpoint."""

    endpoint: str = Field(
        "", description="of OTLP over HTTP, such as http://collector:4318/v1/traces"
    )
    ratio: float = Field(
        1.0, ge=0, le=1, description="share of requests that are told, unless the caller says"
    )

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value):
            raise ValueError("is an address such as http://collector:4318/v1/traces")
        return value


class Settings(BaseSettings):
    """One server's settings. Building it reads nothing: `load_settings` looks outside."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter=NESTING
    )

    data_dir: Path = Field(Path("var"), description="records, images and evidence maps")
    weights_dir: Path = Field(Path("weights"), description="model packages and their promotions")
    database_url: str | None = Field(
        None, repr=False, description="record store; SQLite in the data folder when absent"
    )
    products: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="products to serve; every one with a promoted model when empty"
    )
    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    disk: DiskSettings = DiskSettings()
    engine: EngineSettings = EngineSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("products", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """A variable holds a list as `KN-42, KN-43`."""
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("products")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or not all(value):
            raise ValueError("name each product once")
        return value

    @property
    def decode_limits(self) -> DecodeLimits:
        """The limits as the decoder takes them."""
        return DecodeLimits(max_bytes=self.limits.max_bytes, max_pixels=self.limits.max_pixels)


def load_settings(
    config: Path | None = None, *, overrides: Mapping[str, object] | None = None
) -> Settings:
    """The settings of this machine.

    Args:
        config: the TOML file; `$INSPECTION_CONFIG` or an existing inspection.toml when absent.
        overrides: options of the command line by dotted key, such as "server.port"; None is unset.

    Raises:
        ConfigurationError: a file that cannot be read, an unknown key or variable, a bad value.
    """
    named = config or (Path(v) if (v := os.environ.get(CONFIG_VARIABLE)) else None)
    values: dict[str, Any] = {}
    if named is not None or DEFAULT_FILE.is_file():
        values = _read_toml(named or DEFAULT_FILE)
    _refuse_unknown_variables()
    _merge(values, EnvSettingsSource(Settings)())
    for key, value in (overrides or {}).items():
        if value is not None:
            *sections, name = key.split(".")
            for section in reversed(sections):
                name, value = section, {name: value}  # noqa: PLW2901
            _merge(values, {name: value})
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ConfigurationError(
            f"settings: {place}: {first['msg']}",
            remedy=f"Correct `{place}` in the file, the environment or the option.",
        ) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", remedy="Name a file that is there."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}", remedy="Correct it.") from error
    known = set(_keys(Settings))
    for key in _dotted(values):
        if key not in known and not any(each.startswith(f"{key}.") for each in known):
            raise ConfigurationError(
                f"{path}: there is no setting `{key}`",
                remedy=_nearest(key, known),
            )
    return values


def _refuse_unknown_variables() -> None:
    """pydantic-settings passes an unknown variable over in silence, even with extra="forbid"."""
    known = {PREFIX + key.replace(".", NESTING).upper() for key in _keys(Settings)}
    known |= OTHER_VARIABLES
    for name in os.environ:
        # Names count without their case: that is how they are read.
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise ConfigurationError(
                f"the environment sets {name}, which is not a setting",
                remedy=_nearest(name.upper(), known),
            )


def _keys(model: type[BaseModel]) -> Iterator[str]:
    """Every setting by its dotted key."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (f"{name}.{key}" for key in _keys(kind))
        else:
            yield name


def _dotted(values: Mapping[str, object], above: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield above + name


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"Did you mean {near[0]}?"


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value
