"""`kvplane directory`: what to ask of the running application's cache directory, its names, and who may use it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..directory import BadHolder, DirectorySettings, HolderId, holder_id
from ..directory.roles import ROLES, Role
from .accounts.operating import run
from .directory_acl import DIRECTORY_ROLES, HOW_TO_APPLY, accesses
from .directory_tables import show_found, show_stats, show_verified
from .fetch import fetch
from .options import STATE, Accounts, Json, State, Url
from .rotate import rotate

_VERIFY_S = 120  # three looks, a repair and some more looks, where nobody answers

directory = typer.Typer(
    name="directory", help="Look into the cache directory of the running application.", no_args_is_help=True
)


@directory.command()
def stats(state: State = STATE, url: Url = None, as_json: Json = False) -> None:
    """Show blocks and bytes by shard, replica, level and tenant, and how every router's mirror does."""
    report = fetch(state, url, "/directory/stats")
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        show_stats(report, Console())


@directory.command()
def find(
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="The prompt's text.")] = None,
    tokens: Annotated[str | None, typer.Option(help="The prompt's token ids: 1,2,3.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file with the prompt's text.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="The text is one user message: render it as a chat request would be.")
    ] = False,
    tenant: Annotated[
        str | None, typer.Option(help="Whose cache, as organisation/workspace; every tenant's if none is named.")
    ] = None,
    state: State = STATE,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show which replicas hold how much of a prompt, and in which tier; the deepest first."""
    query = {"chat": chat, "tenant": tenant, **_prompt(prompt, tokens, file)}
    report = fetch(state, url, "/directory/find", query)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        show_found(report, Console())


@directory.command()
def verify(state: State = STATE, url: Url = None, as_json: Json = False) -> None:
    """Compare what each replica holds with its page and with every router's mirror; repair what differs.

    Exits with 1 if anything differed each of the three times it was looked at, even if it is repaired by then.
    """
    report = fetch(state, url, "/directory/verify", {}, _VERIFY_S)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        show_verified(report, Console())
    if not report["equal"]:
        raise typer.Exit(1)


@directory.command("rotate")
def rotate_command(
    wait_s: Annotated[int, typer.Option("--wait", min=0, help="Seconds to wait for the end; 0: not at all.")] = 120,
    state: State = STATE,
    accounts: Accounts = None,
    as_json: Json = False,
) -> None:
    """Give every cached prefix another name, while all goes on; no block is lost to anyone.

    Exits with 1 if it has not ended by then; it goes on by itself.
    """
    epochs = run(state, accounts, lambda store: rotate(store, wait_s))
    if as_json:
        typer.echo(json.dumps(asdict(epochs)))
    elif epochs.ending is None:
        typer.echo(f"All names are of epoch {epochs.present}.")
    else:
        typer.echo(
            f"Epoch {epochs.present} has begun, {epochs.ending} is ending; `kvplane status --json` tells when it has."
        )
    if wait_s and epochs.ending is not None:
        raise typer.Exit(1)


@directory.command()
def acl(
    redis: Annotated[
        str, typer.Option("--redis", help="The Redis, as its clients reach it, without user and password.")
    ] = "rediss://127.0.0.1:6379",
    role: Annotated[
        list[str] | None, typer.Option(help=f"Once or more: {', '.join(ROLES)}. The first three if none is named.")
    ] = None,
    holder: Annotated[
        str | None, typer.Option(help="The replica whose user this is; one user for all replicas if none is named.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="directory.shards of the settings.")] = DirectorySettings().shards,
    acl_file: Annotated[bool, typer.Option("--acl-file", help="Print lines for an ACL file.")] = False,
    state: State = STATE,
    as_json: Json = False,
) -> None:
    """Print the users that a Redis of your own needs, each with no more rights than its work takes.

    Passwords are made once, kept in URLs in the state folder, and printed as hashes only.
    """
    folder = state / "urls"
    found = accesses(redis, _roles(role), _holder(holder), shards, folder)
    if as_json:
        typer.echo(json.dumps([{**asdict(access), "url_file": str(access.url_file)} for access in found], indent=2))
        return
    for access in found:
        typer.echo(access.line if acl_file else access.command)
    typer.echo(HOW_TO_APPLY.format(folder=folder.absolute()), err=True)


def _roles(names: Sequence[str] | None) -> Sequence[Role]:
    if unknown := set(names or ()) - set(ROLES):
        raise typer.BadParameter(f"--role is one of {', '.join(ROLES)}; got {', '.join(sorted(unknown))}")
    return [role for role in ROLES if role in names] if names else DIRECTORY_ROLES


def _holder(name: str | None) -> HolderId | None:
    try:
        return None if name is None else holder_id(name)
    except BadHolder as exc:
        raise typer.BadParameter(f"--holder: {exc}") from exc


def _prompt(prompt: str | None, tokens: str | None, file: Path | None) -> dict[str, object]:
    """The one prompt that was given."""
    options = {"--prompt": prompt, "--tokens": tokens, "--file": file}
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        raise typer.BadParameter(f"give one of --prompt, --tokens, --file; got {' and '.join(given) or 'none'}")
    if tokens is not None:
        try:
            return {"tokens": [int(token) for token in tokens.split(",") if token.strip()]}
        except ValueError as exc:
            raise typer.BadParameter(f"--tokens takes whole numbers, separated by commas; got {tokens[:80]!r}") from exc
    if file is None:
        return {"text": prompt}
    try:
        return {"text": file.read_text()}
    except (OSError, UnicodeDecodeError) as exc:
        raise typer.BadParameter(f"--file takes a file of text: {exc}") from exc
