"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file of settings.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a machine.")]
State = Annotated[Path, typer.Option(help="The application's state folder.")]
Url = Annotated[str | None, typer.Option(help="Where it is served, if not where `kvplane up` said.")]
Accounts = Annotated[str | None, typer.Option(help="The accounts' Redis, if not the one of the state folder.")]

STATE = Path(".kvplane")
