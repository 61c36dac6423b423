"""Every setting of every process, as typed data with a help text.

Values come from the environment (or a file named by `<NAME>_FILE`, for secrets mounted as files). The help texts are
the single source of the README's table; a test holds README, compose and Kubernetes to it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services.analysis.errors import SettingsError
from services.analysis.production import faults
from services.analysis.results import NETWORKS

#: 15 MB: a 12-megapixel phone JPEG is 3–6 MB, a 48-megapixel one up to 14 MB.
MAX_UPLOAD_BYTES = 15_000_000

#: Seconds after which a preparation is killed, and seconds beyond the networks' deadline after which a stacking is: a
#: lease has to outlive both.
PREPARATION_LIMIT_S = 15
TASK_MARGIN_S = 7


Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: An origin exactly as a browser writes it (RFC 6454, 6.2): lower case, no path, no slash at the end.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")


class Settings(BaseModel):
    """What can be set, with defaults that fit `make run` on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port the gateway listens on.")
    data_dir: Path = Field(Path(".data"), description="Folder of the embedded PostgreSQL, Valkey and blobs.")
    database_url: str = Field(
        "", description="PostgreSQL to use, `postgresql://…`. Empty: `make run` starts an embedded one."
    )
    redis_url: str = Field(
        "",
        description="Redis or Valkey to use as doorbell, `redis://…`. Empty: `make run` starts an embedded one.",
    )
    blob_store_url: str = Field(
        "",
        description="Where uploads are kept: `file:///path` or `s3://bucket/prefix`. Empty: below `DATA_DIR`.",
    )
    s3_endpoint: str = Field(
        "",
        description="Address of an S3 store that is not Amazon's, `https://host`. Empty: AWS_ENDPOINT, or Amazon's.",
    )
    s3_region: str = Field("", description="Region of the bucket. Empty: AWS_REGION, or us-east-1.")
    s3_access_key_id: str = Field(
        "", description="Who the S3 store knows this service as. Empty: AWS_ACCESS_KEY_ID, or the machine's own role."
    )
    s3_secret_access_key: str = Field("", description="The secret that belongs to it.")
    mobilenet_serving_url: str = Field(
        "",
        description="gRPC address of the MobileNet server, `host:port` or `dns:///name:port`. Empty: embedded.",
    )
    densenet121_serving_url: str = Field("", description="gRPC address of the DenseNet121 server. Empty: embedded.")
    densenet169_serving_url: str = Field("", description="gRPC address of the DenseNet169 server. Empty: embedded.")
    nasnetmobile_serving_url: str = Field("", description="gRPC address of the NASNetMobile server. Empty: embedded.")
    shadow_networks: str = Field(
        "",
        description="Networks whose version labelled `canary` is asked as well, after the answer, to be compared with"
        " it in `/metrics`: `all`, or names after commas. Empty: none.",
    )
    models_dir: Path = Field(Path("serving/models"), description="Folder of the SavedModels and of `stack.json`.")
    precision: str = Field(
        "auto",
        pattern="^(auto|f32|bf16|int8)$",
        description="What embedded networks compute in. All but `f32` must have passed `lesionlens calibrate`, as "
        "`bf16` and `int8` have with the networks that come along; `auto` takes the quickest that the processor is "
        "made for.",
    )
    calibrated_dir: str = Field(
        "", description="Folder that `lesionlens calibrate` wrote. Empty: `calibrated` below `DATA_DIR`."
    )
    max_upload_bytes: int = Field(
        MAX_UPLOAD_BYTES, ge=1024, description="Largest upload accepted, in bytes; above it 413."
    )
    max_batch_bytes: int = Field(
        200_000_000, ge=1024, description="Largest batch accepted, in bytes, sent and unpacked; above it 413."
    )
    uploads_per_minute: int = Field(
        120, ge=1, description="Photographs one address may send in a minute, alone or in batches; above it 429."
    )
    polls_per_minute: int = Field(
        6_000, ge=1, description="Times one address may ask for an analysis in a minute; above it 429."
    )
    gateway_threads: int = Field(
        16, ge=2, le=256, description="Requests one gateway process serves at once; half of them may be long polls."
    )
    trusted_proxies: int = Field(
        0, ge=0, le=8, description="Reverse proxies in front of the gateway whose `X-Forwarded-For` is believed."
    )
    cors_origins: str = Field(
        "",
        description="Sites whose pages may use `/v1` from a browser: `https://clinic.example,https://other.example`, or"
        " `*` for any. Empty: none.",
    )
    network_deadline_s: float = Field(
        8.0, gt=0, le=60, description="One deadline in seconds for the four networks together."
    )
    lease_s: float = Field(
        20.0,
        gt=0,
        description="Seconds a worker may hold an analysis; after that another one takes it over.",
    )
    sweep_interval_s: float = Field(
        2.0, gt=0, description="Seconds between two looks of the sweeper for analyses that are due."
    )
    max_deliveries: int = Field(
        3, ge=1, le=10, description="How often a stage is tried before the analysis fails with a reason."
    )
    max_waiting: int = Field(
        1_000, ge=1, description="Analyses that may wait at once; above it uploads are answered 503 with Retry-After."
    )
    max_waiting_s: float = Field(
        120.0, gt=0, description="Seconds the oldest waiting analysis may wait; above it the same."
    )
    answer_within_s: float = Field(
        3600.0, ge=10, description="Seconds after an upload in which it is answered, or else fails with a reason."
    )
    circuit_failures: int = Field(
        3,
        ge=1,
        le=100,
        description="Calls in a row a network leaves unanswered before it is asked no more for a while.",
    )
    circuit_open_s: float = Field(
        3.0, gt=0, description="Seconds until it is then looked whether that network is back."
    )
    image_retention_h: float = Field(
        24.0, ge=0, description="Hours an uploaded photograph is kept after its analysis ended."
    )
    result_retention_d: float = Field(30.0, ge=0, description="Days a result is kept; then its address answers 410.")
    webhook_allowed_networks: str = Field(
        "",
        description="Networks inside yours that webhooks may be sent to, with http too: `10.1.0.0/16,fd00::/8`. Empty: "
        "public addresses alone.",
    )
    webhook_timeout_s: float = Field(
        10.0, gt=0, le=30, description="Seconds the receiver of a webhook may take for one message."
    )
    secret_key: str = Field(
        "", description="Flask's key for what it signs. Empty: a random one per start (fine for one gateway process)."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port at which each worker answers Prometheus. 0: none, the gateway answers for all.",
    )
    otlp_url: str = Field(
        "", description="OpenTelemetry collector that traces go to (OTLP over HTTP), `http://host:4318`. Empty: none."
    )
    production: bool = Field(
        default=False, description="`true` refuses to start with a missing or well-known secret or password."
    )
    blob_keys: str = Field(
        "",
        description="Encrypts stored images and webhooks' secrets: `id:base64 of 32 bytes`, the newest first, "
        "older ones after commas. Empty: not encrypted.",
    )
    audit_retention_d: float = Field(
        365.0, ge=365, description="Days a line of the audit log is kept; the database refuses to delete younger ones."
    )
    log_format: str = Field(
        "console", pattern="^(console|json)$", description="`console` for people, `json` for machines."
    )
    log_level: str = Field(
        "INFO",
        pattern="^(?i:debug|info|warning|error|critical)$",
        description="Least severe log level that is written: `debug`, `info`, `warning`, `error` or `critical`.",
    )

    @model_validator(mode="after")
    def _lease_outlives_the_task(self) -> Settings:
        if self.lease_s <= max(self.network_deadline_s + TASK_MARGIN_S, PREPARATION_LIMIT_S):
            raise ValueError(
                f"LEASE_S must exceed NETWORK_DEADLINE_S by {TASK_MARGIN_S} s, and {PREPARATION_LIMIT_S} s in any case,"
                " or work is done twice"
            )
        return self

    @model_validator(mode="after")
    def _both_halves_of_the_key(self) -> Settings:
        if bool(self.s3_access_key_id) != bool(self.s3_secret_access_key):
            raise ValueError("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY are set together or not at all")
        return self

    @model_validator(mode="after")
    def _fit_for_production(self) -> Settings:
        secrets = (self.secret_key, self.database_url, self.redis_url, self.s3_secret_access_key)
        found = faults(*secrets) if self.production else []
        if found:
            raise ValueError("PRODUCTION: " + "; ".join(found))
        return self

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _networks_can_be_read(cls, value: str) -> str:
        _networks(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins_can_be_compared(cls, value: str) -> str:
        origins = _names(value)
        if "*" in origins and len(origins) > 1:
            raise ValueError("say * or name sites, not both")
        if wrong := sorted(origin for origin in origins - {"*"} if not _ORIGIN.fullmatch(origin)):
            raise ValueError(f"{wrong[0]} is no origin; write https://host or https://host:port, without a path")
        return value

    @field_validator("shadow_networks")
    @classmethod
    def _networks_in_the_shadow_exist(cls, value: str) -> str:
        if unknown := _names(value) - {"all", *NETWORKS}:
            raise ValueError(f"there is no network {min(unknown)}; say all, or some of {', '.join(NETWORKS)}")
        return value

    def shadow_addresses(self) -> dict[str, str]:
        """gRPC address of each network that is asked in the shadow, by name."""
        names = _names(self.shadow_networks)
        return {name: url for name, url in self.serving_addresses().items() if name in names or "all" in names}

    def allowed_origins(self) -> frozenset[str]:
        """The sites whose pages may use the API; `*` stands for all."""
        return frozenset(_names(self.cors_origins))

    def webhook_networks(self) -> tuple[Network, ...]:
        """The networks besides public addresses that webhooks may be sent to."""
        return _networks(self.webhook_allowed_networks)

    def calibrated_folder(self) -> Path:
        """Where `lesionlens calibrate` leaves what it measured."""
        return Path(self.calibrated_dir) if self.calibrated_dir else self.data_dir / "calibrated"

    def serving_addresses(self) -> dict[str, str]:
        """gRPC address by network name, in the order in which logits are stacked."""
        return {name: str(getattr(self, f"{name}_serving_url")) for name in NETWORKS}


#: Variables that name a file with a setting's value in it.
SETTINGS_FILES: Final = tuple(f"{name.upper()}_FILE" for name in Settings.model_fields)


def _names(text: str) -> set[str]:
    return {part.strip() for part in text.split(",") if part.strip()}


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (default: the process environment).

    A name with the suffix `_FILE` gives the value from that file, so that secrets need not stand in the environment.

    Raises:
        SettingsError: a value does not fit; the message names the setting and what it must be.
    """
    source = dict(os.environ if environ is None else environ)
    values: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = name.upper()
        # An empty value is what a deployment file leaves; the file then has the word.
        if variable in source and (source[variable] or f"{variable}_FILE" not in source):
            values[name] = source[variable]
        elif f"{variable}_FILE" in source:
            try:
                values[name] = Path(source[f"{variable}_FILE"]).read_text().strip()
            except OSError as error:
                raise SettingsError(f"{variable}_FILE cannot be read: {error}") from error
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{str(first['loc'][0]).upper()}: " if first["loc"] else ""
        raise SettingsError(f"{where}{first['msg']}") from error


def markdown_table() -> str:
    """Every setting with its default and help text, as the table that stands in the README."""
    lines = ["| Setting | Default | What it is |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default == "" else f"`{field.default}`"
        lines.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)
