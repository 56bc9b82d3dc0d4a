"""``r1box settings``: what is set and where it comes from; changes, in the running box or for its next start."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from appliance.cli.box_client import BoxClient, Key, Url, admin_socket
from appliance.cli.output import print_json, stdout

app = typer.Typer(name="settings", help="Settings: show and change them.", no_args_is_help=True)
_WHEN = {
    "now": "It holds now.",
    "load": "It holds for models that are loaded from now on.",
    "restart": "It holds after a restart of the box.",
}


@app.command("list")
def list_command(
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are not the default.")] = False,
    url: Url = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the settings with where each comes from. Of a box that does not run: what its next start would take."""
    found = _Place(url, key).list()
    items = [one for one in found["items"] if not changed or one["source"] != "default"]
    if as_json:
        print_json({"schema": 1, **found, "items": items})
        return
    from rich.table import Table

    table = Table("Setting", "Value", "From", "A change holds", box=None, header_style="bold")
    for one in items:
        value = shown(one["value"]) + (f"  (after a restart: {shown(one['stored'])})" if one["pending"] else "")
        table.add_row(escape(one["name"]), escape(value), escape(one["source"]), one["applies"])
    stdout().print(table)


@app.command("show")
def show_command(name: str, url: Url = None, key: Key = None) -> None:
    """Show all about one setting."""
    one = _one(_Place(url, key).list(), name)
    console = stdout()
    console.print(f"[bold]{escape(one['name'])}[/]  {escape(one['description'])}")
    rows = [("Value", shown(one["value"])), ("Default", shown(one["default"])), ("From", one["origin"])]
    if one["pending"]:
        rows.insert(1, ("After a restart", shown(one["stored"])))
    kind = {key: value for key, value in one["kind"].items() if key not in ("anyOf",)} or one["kind"]
    rows.append(("Takes", json.dumps(kind, ensure_ascii=False)))
    for label, text in rows:
        console.print(f"  {label:<16} {escape(text)}")
    if one["applies"] == "file":
        console.print("  It can only be set in the settings file, by a variable or a flag.")


@app.command("set")
def set_command(
    name: str,
    value: Annotated[str, typer.Argument(help="The value; a list with commas between its parts.")],
    url: Url = None,
    key: Key = None,
) -> None:
    """Change a setting. It is checked, written to settings.toml in the state folder, and in the audit log."""
    place = _Place(url, key)
    _tell(place.change({name: _read(value)}), name, runs=place.runs)


@app.command("reset")
def reset_command(name: str, url: Url = None, key: Key = None) -> None:
    """Take a change back: the settings file or the default counts again."""
    place = _Place(url, key)
    _tell(place.change({name: None}), name, runs=place.runs)


class _Place:
    """The running box, or the files of one that does not run."""

    def __init__(self, url: str | None, key: str | None) -> None:
        self._client = BoxClient(url, key) if url or key or admin_socket() is not None else None

    @property
    def runs(self) -> bool:
        return self._client is not None

    def list(self) -> dict[str, Any]:
        if self._client is not None:
            found: dict[str, Any] = self._client.get("/api/admin/settings")
            return found
        return self._offline(None)

    def change(self, values: dict[str, Any]) -> dict[str, Any]:
        if self._client is not None:
            found: dict[str, Any] = self._client.patch("/api/admin/settings", {"values": values})
            return found
        return self._offline(values)

    @staticmethod
    def _offline(values: dict[str, Any] | None) -> dict[str, Any]:
        from appliance.cli.accounts import console, open_accounts
        from appliance.live_settings import change_settings, setting_list
        from appliance.settings import load_settings
        from appliance.settings_store import SettingsStore

        store = SettingsStore(load_settings())
        if values is not None:
            with open_accounts() as accounts:
                change_settings(store, accounts.audit, values, console())
            store = SettingsStore(load_settings())
        return json.loads(setting_list(store.states(), str(store.file)).model_dump_json())  # type: ignore[no-any-return]


def _one(found: dict[str, Any], name: str) -> dict[str, Any]:
    from appliance.settings_store import UnknownSetting

    for one in found["items"]:
        if one["name"] == name:
            return dict(one)
    raise UnknownSetting(param=name[:64])


def _tell(found: dict[str, Any], name: str, *, runs: bool) -> None:
    one = _one(found, name)
    value = one["stored"] if one["pending"] else one["value"]
    typer.echo(f"{name} = {shown(value)}. {_WHEN[one['applies']] if runs else 'It holds from the next start on.'}")


def _read(text: str) -> Any:
    """Numbers, truth values and lists as such; the rest is text, which the setting's type reads."""
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def shown(value: Any) -> str:
    """A value as people read it."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
