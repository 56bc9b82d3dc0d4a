"""Settings of the daemon and the command line: flags, then ``R1BOX_*`` variables, then what was changed in the running
box (``settings.toml`` in the state folder), then one TOML file, then defaults.

Every field's description is its documentation; ``docs/settings.md`` repeats them and a test compares the two. A key
that does not exist or a value that cannot be used stops the start: no setting falls back in silence.

Over 400 lines because it is the one list of all settings with their descriptions.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from appliance.errors import BadSetting
from appliance.paths import config_candidates, default_models_dir, default_state_dir

ENVIRONMENT_PREFIX = "R1BOX_"
CONFIG_VARIABLE = "R1BOX_CONFIG"
CHANGED_NAME = "settings.toml"
"""In the state folder: what was changed in the running box (``appliance.settings_store``)."""
FILE_ONLY = frozenset(
    {
        "state_dir",
        "models_dir",
        "catalogue_dir",
        "trusted_keys_dir",
        "tls_certificate",
        "tls_key",
        "backends_dir",
        "chat_dir",
        "admin_socket",
        "system_socket",
        "job_folders",
        "backup_dir",
        "huggingface_token_file",
        "modelscope_token_file",
        "hub_proxy",
        "hub_ca_bundle",
        "alert_loopback",
        "alert_ca_bundle",
        "ascend_root",
        "engine_python",
        "engine_container",
        "engine_arguments",
        "engine_dir",
        "attach_url",
        "attach_folder",
        "attach_key_file",
        "attach_ca_file",
    }
)
"""Settings that only whoever owns the machine sets, in the file, by a variable or a flag: where the box reads and
writes, what it trusts, which code it loads."""
SECRET = frozenset({"hub_proxy", "alert_urls", "alert_secret"})
"""Settings whose values are shown to nobody."""
MOST_ALERT_URLS = 8
ALERT_URL_PATTERN = r"^https?://[^\s@/?#]+(/[^\s#]*)?$"
"""An address without credentials."""
ENDPOINT_PATTERN = r"^https?://[^\s@?#]+$"
"""An address without credentials, query and fragment."""
ORIGIN_PATTERN = r"^[a-z][a-z0-9+.-]*://[^\s/@?#]+$"
"""A page's origin: scheme, host and port."""


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _off_or_sane(interval_s: float) -> float:
    if interval_s != 0 and not 0.5 <= interval_s <= 60:
        raise PydanticCustomError("interval_out_of_range", "Input should be 0 (off) or from 0.5 to 60")
    return interval_s


def _listed(given: Any) -> Any:
    return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else given


def _words(given: Any) -> Any:
    """A line as a shell would cut it, without anything else that a shell does."""
    try:
        return tuple(shlex.split(given)) if isinstance(given, str) else given
    except ValueError as error:
        reason = {"reason": str(error)}
        raise PydanticCustomError("not_words", "Input cannot be cut into words: {reason}", reason) from None


def _off(given: Any) -> Any:
    return None if given == "off" else given


Folder = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseSettings):
    """All settings. Make one with ``load_settings``, which reports a bad value as BadSetting."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    state_dir: Folder = Field(
        default_factory=default_state_dir,
        description="Folder of the database and other state. Default: $XDG_STATE_HOME/r1box, else "
        "~/.local/state/r1box.",
    )
    models_dir: Folder = Field(
        default_factory=default_models_dir,
        description="Folder of the model store. Default: $XDG_DATA_HOME/r1box/models, else "
        "~/.local/share/r1box/models.",
    )
    models_max_bytes: int | None = Field(
        default=None, ge=1, description="Most bytes the model store may take. Without it: what the disk has."
    )
    models_keep_free_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Bytes of the model store's disk that imports and downloads leave free.",
    )
    catalogue_dir: Folder | None = Field(
        default=None,
        description="Folder with *.toml files that add models and files to the catalogue (form: docs/models.md).",
    )
    trusted_keys_dir: Folder | None = Field(
        default=None,
        description="Folder of the public keys (*.pub) whose bundles are accepted. Default: trusted-keys in the state "
        "folder.",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. The default is reachable from this machine alone; 0.0.0.0 is every network.",
    )
    port: int = Field(default=8080, ge=0, le=65535, description="TCP port to listen on; 0 takes any free one.")
    tls: Literal["off", "local", "files"] = Field(
        default="off",
        description="How the port is encrypted: off is plain HTTP, local is HTTPS with a certificate of the box's own "
        "authority (https://ADDRESS/authority.crt), files is HTTPS with tls_certificate and tls_key.",
    )
    tls_certificate: Folder | None = Field(
        default=None, description="PEM file with the server's certificate and those between it and its authority."
    )
    tls_key: Folder | None = Field(default=None, description="PEM file with the certificate's key, not encrypted.")
    more_names: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=(),
        description="Names and addresses that the box is reached by beside those it knows itself, with commas between "
        "them, such as ai.hospital.example. They go into its certificate, and browsers may use them.",
    )
    mdns_name: Annotated[str | None, BeforeValidator(_off)] = Field(
        default="r1box",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Name that is announced to the network: r1box is r1box.local, a second box gets r1box-2.local; "
        "off announces nothing. Never announced when only this machine can reach the port.",
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="Id of the model to serve. Without it: the model store's default.",
    )
    seats: int | None = Field(
        default=None, ge=1, le=1024, description="Chats that are answered at the same time. Without it: what fits."
    )
    context_tokens: int | None = Field(
        default=None,
        ge=256,
        le=1_048_576,
        description="Tokens (conversation and answer together) that one seat holds. Without it: what fits.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of the engines, which models that answer at the same time on the processor divide. "
        "Without it: the machine's cores.",
    )
    speculation: bool = Field(
        default=True,
        description="Guess tokens ahead and check them together, where that is quicker. Answers stay the same.",
    )
    draft_model: str = Field(
        default="auto",
        min_length=1,
        description="Id of an installed small model that guesses what the model says next; auto takes a small sibling "
        "of the model (R1-Distill-Qwen-1.5B for larger Qwen ones) where one is installed and fits, off none.",
    )
    offload: bool = Field(
        default=False,
        description="Allow a part of the model in the host's memory when the cards are too small for all of it "
        "(experts of the 671B, layers of the others). It fits more and is slow.",
    )
    backends_dir: Folder | None = Field(
        default=None,
        description="Folder with loadable ggml backends (libggml-cuda.so, libggml-cann.so and the like), loaded beside "
        "those that came with llama.cpp. Needs a llama.cpp built with GGML_BACKEND_DL.",
    )
    engine: Literal["auto", "llama.cpp", "vllm", "vllm-ascend", "mindie"] = Field(
        default="auto",
        description="Engine for models in safetensors: auto takes the one that is installed and made for the cards "
        "(vllm on NVIDIA, vllm-ascend before mindie on Ascend), llama.cpp serves GGUF alone. GGUF always runs in "
        "llama.cpp.",
    )
    engine_python: Folder | None = Field(
        default=None,
        description="Python interpreter of the environment that vLLM or vLLM-Ascend is installed in, such as "
        "/opt/vllm/bin/python. Without it: that of the box itself.",
    )
    engine_container: str | None = Field(
        default=None,
        pattern=r"^(docker|podman):[\w./:@-]+$",
        description="Container image that has the engine, such as docker:vllm-ascend:v0.18.0-a3, instead of "
        "engine_python. It must be there already; nothing is pulled.",
    )
    engine_arguments: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = Field(
        default=(),
        description="Arguments for the big engine after those of the box, such as --kv-cache-dtype fp8. What is wrong "
        "with one is told when the model is loaded.",
    )
    engine_dir: Folder | None = Field(
        default=None,
        description="Folder of the big engines' sockets and configuration. Default: engines in the state folder.",
    )
    attach_url: str | None = Field(
        default=None,
        pattern=ENDPOINT_PATTERN,
        description="Address of a server that runs already and is served as a model of this box, such as "
        "http://127.0.0.1:8000. Needs attach_folder.",
    )
    attach_model: str | None = Field(
        default=None,
        min_length=1,
        description="That server's name of the model. Default: the name of attach_folder.",
    )
    attach_folder: Folder | None = Field(
        default=None,
        description="Folder with tokenizer.json, tokenizer_config.json and config.json of the attached server's model; "
        "its weights are not needed.",
    )
    attach_protocol: Literal["vllm", "openai", "mindie"] = Field(
        default="vllm",
        description="What the attached server speaks: vllm (token ids both ways, so everything holds), mindie, or "
        "openai for any other with /v1/completions (text alone: no budgets of thoughts, no forms).",
    )
    attach_key_file: Folder | None = Field(default=None, description="File with the attached server's API key.")
    attach_ca_file: Folder | None = Field(
        default=None, description="PEM file that the attached server's certificate is checked with."
    )
    ascend_root: Folder = Field(
        default=Path("/usr/local/Ascend"), description="Folder that CANN and MindIE are installed in."
    )
    allow_cpu_fallback: bool = Field(
        default=False,
        description="Serve from the processor where the machine has cards and the model cannot run, or does not run, "
        "on them. Off: such a model is refused. A machine without cards always serves from its processor.",
    )
    chat_memory_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Most bytes of the host's memory that keep idle chats, so that their next turn need not be "
        "computed again, for all loaded models together; 0 keeps none there. Without it: half of what the models leave "
        "free, 8 GiB at most.",
    )
    chat_disk_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Most bytes of disk that keep idle chats of all models together, encrypted, also over a restart; 0 "
        "keeps none there. "
        "Without it: a tenth of what is free, 16 GiB at most. Chats go to the disk through chat_memory_bytes.",
    )
    chat_dir: Folder | None = Field(
        default=None,
        description="Folder of the chats on disk. Default: chats in the state folder. Their key stays in the state "
        "folder.",
    )
    load_on_request: Literal["off", "fit", "swap"] = Field(
        default="swap",
        description="What a request for an installed model that is not loaded does: off refuses it, fit loads it where "
        "there is room beside the others, swap lets models that are not pinned leave for it. The default model never "
        "leaves.",
    )
    idle_unload_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which a model that nobody asks for is unloaded; the default model stays. Without "
        "it: models stay until another one needs the room.",
    )
    max_waiting: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description="Requests that may wait for a seat; one more is refused with 429. One key or person may have three "
        "quarters of these places, batch requests half.",
    )
    max_connections: int = Field(
        default=4096,
        ge=16,
        le=1_000_000,
        description="Connections at the same time, as far as the system's limit of open files allows. One more closes "
        "the one that has been without a request for longest.",
    )
    max_request_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        le=1024 * 1024 * 1024,
        description="Largest HTTP request body, in bytes; a larger one is refused with 413.",
    )
    admin_socket: Folder | None = Field(
        default=None,
        description="Unix socket of the admin API for this machine's console. Default: admin.sock in systemd's "
        "RUNTIME_DIRECTORY, else in the state folder.",
    )
    system_socket: Folder = Field(
        default=Path("/run/r1box-system.sock"),
        description="Unix socket of the helper that changes the machine's network as root.",
    )
    allowed_origins: tuple[Annotated[str, Field(pattern=ORIGIN_PATTERN)], ...] = Field(
        default=(),
        description="Other servers whose pages may use the API with a key, as browsers name them: a list such as "
        '["https://chat.example.org"]. Without it none may.',
    )
    session_idle_s: float = Field(
        default=43_200.0, ge=60, le=31_536_000, description="Seconds without use after which a person is logged out."
    )
    session_max_s: float = Field(
        default=604_800.0,
        ge=60,
        le=31_536_000,
        description="Seconds after the login when a person is logged out in any case.",
    )
    browser_console: bool = Field(
        default=False,
        description="Serve the operator's console to browsers at /console/, for people who may change what the box "
        "does (operators and administrators). Each open one is a process of about 70 MB; there are 4 at most.",
    )
    audit_keep_days: int | None = Field(
        default=None, ge=1, description="Days that rows of the audit log are kept. Without it: for ever."
    )
    audit_keep_rows: int | None = Field(
        default=1_000_000,
        ge=1_000,
        description="Most rows of the audit log; older ones go, and the rest stays verifiable.",
    )
    request_log_days: int = Field(
        default=30, ge=1, le=36_500, description="Days that rows of the request log are kept."
    )
    request_log_rows: int = Field(
        default=1_000_000, ge=1_000, description="Most rows of the request log; the oldest go first."
    )
    audit_keep_bytes: int | None = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="Most bytes of the audit log's rows; older ones go, and the rest stays verifiable.",
    )
    usage_keep_days: int | None = Field(
        default=None, ge=31, description="Days that sums of usage are kept. Without it: for ever."
    )
    store_prompts: bool = Field(
        default=False,
        description="Keep what is asked and answered by any API, for administrators (docs/access.md). Switching it off "
        "deletes what was kept. People's chats in the page are kept for themselves in any case.",
    )
    prompt_log_days: int = Field(
        default=30, ge=1, le=36_500, description="Days that questions and answers are kept with store_prompts."
    )
    prompt_log_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Most bytes of questions and answers that are kept; the oldest go first.",
    )
    chat_keep_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Days after its last message that a chat of the page is kept, pinned or not. Without it: for ever.",
    )
    chat_user_bytes: int = Field(
        default=536_870_912,
        ge=1_048_576,
        description="Most bytes that the chats and attachments of one user hold; then some must be deleted.",
    )
    chat_user_answers: int = Field(
        default=4, ge=1, le=64, description="Answers of the page that are written for one user at the same time."
    )
    sampling_policy: Literal["clamp", "free"] = Field(
        default="clamp",
        description="What becomes of a temperature that R1 is not recommended with (below 0.5, over 0.7): clamp moves "
        "it to the nearest end of that band and says so in a header, free takes it as it is.",
    )
    thinking_effort: Literal["minimal", "low", "medium", "high"] = Field(
        default="high",
        description="How long a model may think when a request does not say: minimal, low, medium or high (budgets: "
        "docs/api.md).",
    )
    thinking_max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens that any request may think, whatever it asks for. Without it: what max_tokens leaves.",
    )
    loop_breaker: bool = Field(
        default=True,
        description="Whether a thought or an answer that goes in circles is ended.",
    )
    job_folders: Annotated[tuple[Folder, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=(),
        description="Folders that jobs may import from and export to beside mounted media (/media, /run/media, /mnt), "
        "with commas between them.",
    )
    jobs_at_once: int = Field(
        default=2, ge=1, le=16, description="Downloads, imports, checks and exports that run at the same time."
    )
    jobs_keep: int = Field(default=500, ge=10, le=100_000, description="Ended jobs that are remembered.")
    backup_dir: Folder | None = Field(
        default=None,
        description="Folder of the box's own backups. Default: backups in the state folder; better another disk or a "
        "network share.",
    )
    backup_keep: int = Field(default=14, ge=1, le=1_000, description="Nightly backups that stay; the oldest go first.")
    start_timeout_s: float = Field(
        default=900.0, gt=0, le=86_400, description="Seconds that a model may take to load before it counts as failed."
    )
    telemetry_interval_s: Annotated[float, AfterValidator(_off_or_sane)] = Field(
        default=1.0,
        description="Seconds between two samples of cards and host, 0.5 to 60; 0 switches telemetry off. Sources that "
        "cost more are asked less often.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is logged: debug, info, warning or error."
    )
    log_file_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Most bytes of the log files (logs in the state folder), which are written where systemd's journal "
        "does not take the log; 0 writes none.",
    )
    alert_urls: Annotated[
        tuple[Annotated[str, Field(pattern=ALERT_URL_PATTERN, max_length=1024)], ...],
        NoDecode,
        BeforeValidator(_listed),
    ] = Field(
        default=(),
        max_length=MOST_ALERT_URLS,
        repr=False,
        description="Addresses that issues are posted to when they open and close (docs/alerts.md), with commas "
        "between them.",
    )
    alert_secret: str | None = Field(
        default=None,
        min_length=16,
        max_length=256,
        repr=False,
        description="Secret that signs what is posted there. Without it nothing is signed.",
    )
    alert_severity: Literal["info", "warning", "error"] = Field(
        default="warning", description="Least severity of issues that are posted: info, warning or error."
    )
    alert_loopback: bool = Field(
        default=False, description="Allow alert_urls of this machine itself, such as an Alertmanager beside the box."
    )
    alert_ca_bundle: Folder | None = Field(
        default=None,
        description="PEM file with certificates that are trusted for alert_urls beside the usual ones.",
    )
    hub_order: Literal["huggingface,modelscope", "modelscope,huggingface", "huggingface", "modelscope"] = Field(
        default="huggingface,modelscope",
        description="Hubs that r1box models pull asks, in this order: huggingface, modelscope or both with a comma.",
    )
    huggingface_endpoint: str | None = Field(
        default=None,
        pattern=ENDPOINT_PATTERN,
        description="Address of Hugging Face or of a mirror of it. Default: HF_ENDPOINT, else https://huggingface.co.",
    )
    modelscope_endpoint: str | None = Field(
        default=None,
        pattern=ENDPOINT_PATTERN,
        description="Address of ModelScope. Default: MODELSCOPE_ENDPOINT, else https://modelscope.cn.",
    )
    huggingface_token_file: Folder | None = Field(
        default=None,
        description="File (mode 0600) with a token for Hugging Face. HF_TOKEN in the environment goes before it.",
    )
    modelscope_token_file: Folder | None = Field(
        default=None,
        description="File (mode 0600) with a token for ModelScope. MODELSCOPE_API_TOKEN in the environment goes before "
        "it.",
    )
    hub_proxy: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        repr=False,
        description="Proxy for the hubs, such as http://proxy:3128. Without it: HTTPS_PROXY and NO_PROXY of the "
        "environment.",
    )
    hub_ca_bundle: Folder | None = Field(
        default=None,
        description="PEM file with certificates that are trusted for the hubs beside the usual ones, for a proxy that "
        "opens TLS.",
    )
    download_bytes_per_s: int | None = Field(
        default=None, ge=1024, description="Most bytes per second that a download takes. Without it: no limit."
    )

    @model_validator(mode="after")
    def _describes_what_is_attached(self) -> Self:
        if self.attach_url is not None and self.attach_folder is None:
            raise PydanticCustomError("attach_folder_missing", "attach_url needs attach_folder")
        return self

    @model_validator(mode="after")
    def _has_certificate(self) -> Self:
        if self.tls == "files" and (self.tls_certificate is None or self.tls_key is None):
            raise PydanticCustomError("certificate_missing", "tls = files needs tls_certificate and tls_key")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = config_file()
        files = () if file is None else (TomlConfigSettingsSource(settings_cls, toml_file=file),)
        changed = cls._changed(_state_dir(init_settings(), env_settings(), *(source() for source in files)))
        return (init_settings, env_settings, InitSettingsSource(settings_cls, dict(changed)), *files)

    @classmethod
    def _changed(cls, state_dir: Path) -> Mapping[str, Any]:
        """What was changed in the running box."""
        return read_changed(state_dir)


def load_settings(flags: Mapping[str, Any] | None = None, *, changed: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force. ``flags`` maps names to values; ``None`` is a flag that was not given. ``changed`` stands
    in for what the state folder has.

    Raises BadSetting, naming the setting and where its value came from.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    wanted = Settings if changed is None else _trial(changed)
    try:
        return wanted(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise BadSetting(name=name, reason=_reason(first), origin=_origin(name, given)) from error
    except SettingsError as error:
        raise BadSetting(name="settings", reason=str(error), origin="the environment") from error


def _trial(changed: Mapping[str, Any]) -> type[Settings]:
    class Trial(Settings):
        @classmethod
        def _changed(cls, state_dir: Path) -> Mapping[str, Any]:
            del state_dir
            return changed

    return Trial


def config_file() -> Path | None:
    """The settings file in force. Raises BadSetting when ``R1BOX_CONFIG`` names none, or the file is not TOML."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        file = _absolute(Path(named))
        if not file.is_file():
            raise BadSetting(
                name="config",
                reason=f"there is no file {file}",
                origin=f"the environment variable {CONFIG_VARIABLE}",
            )
    else:
        found = next((candidate for candidate in config_candidates() if candidate.is_file()), None)
        if found is None:
            return None
        file = found
    _read_toml(file)
    return file


def read_changed(state_dir: Path) -> dict[str, Any]:
    """What was changed in the running box that has this state folder. Raises BadSetting for a file that cannot be read
    and for settings that may not be in it."""
    file = state_dir / CHANGED_NAME
    if not _is_there(file):
        return {}
    values = _read_toml(file)
    for name in values:
        if name in FILE_ONLY:
            raise BadSetting(name=name, reason="it cannot be changed there", origin=str(file))
    return values


def origin_of(name: str, flags: Mapping[str, Any], state_dir: Path) -> tuple[Origin, str]:
    """Where the value of a setting comes from: the kind, and the place in words. Blocks."""
    if name in flags:
        return Origin.FLAG, f"the flag --{name.replace('_', '-')}"
    variable = ENVIRONMENT_PREFIX + name.upper()
    for present in os.environ:
        if present.upper() == variable and os.environ[present]:
            return Origin.ENVIRONMENT, f"the environment variable {present}"
    for kind, file in ((Origin.CHANGED, state_dir / CHANGED_NAME), (Origin.FILE, config_file())):
        if file is not None and _is_there(file) and name in _read_toml(file):
            return kind, _line_of(name, file)
    return Origin.DEFAULT, "the defaults"


class Origin(StrEnum):
    """Where a setting's value comes from; the first of these that has one counts."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    CHANGED = "changed"
    FILE = "file"
    DEFAULT = "default"


def _state_dir(*sources: Mapping[str, Any]) -> Path:
    given = next((values["state_dir"] for values in sources if isinstance(values.get("state_dir"), str | Path)), None)
    return default_state_dir() if given is None else _absolute(Path(given))


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except PermissionError:
        # Another user's box; its settings are not this user's either.
        return False


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(name="config", reason=f"the file is not valid TOML: {error}", origin=str(file)) from error
    except UnicodeDecodeError as error:
        raise BadSetting(name="config", reason="the file is not UTF-8 text", origin=str(file)) from error
    except OSError as error:
        reason = f"the file cannot be read: {(error.strerror or type(error).__name__).lower()}"
        raise BadSetting(name="config", reason=reason, origin=str(file)) from error


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no setting of that name"
    message = str(error["msg"])
    shown = repr(error["input"])
    return f"{message[0].lower()}{message[1:]}, not {shown if len(shown) <= 80 else shown[:77] + '...'}"


def _origin(name: str, flags: Mapping[str, Any]) -> str:
    environment = {"state_dir": os.environ.get(f"{ENVIRONMENT_PREFIX}STATE_DIR") or None}
    file = config_file()
    written = {} if file is None else _read_toml(file)
    kind, place = origin_of(name, flags, _state_dir(flags, environment, written))
    # A section's name is no setting: the file is to blame all the same.
    return str(file) if kind is Origin.DEFAULT and file is not None else place


def _line_of(name: str, file: Path) -> str:
    pattern = re.compile(rf"""\s*(?:\[+\s*)?["']?{re.escape(name)}["']?\s*[\].=]""")
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if pattern.match(line):
            return f"{file}:{number}"
    return str(file)
