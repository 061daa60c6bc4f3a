"""The commands that make secrets: ``hotset token``. They ask no server, and write no files.

``cli`` adds them to its own. A secret goes to stderr and to nobody else; what may be kept goes to stdout.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hotset.tokens import Scope, grant_of, line_of, new_secret


def token(
    *,
    name: Annotated[str, typer.Argument(help="Whose it is; it stands in messages.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option("--scope", "-s", help="What it may do; may be given again. Default: predict."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            "-m",
            help="Models that it may ask for, such as 'acme/*'; may be given again. Default: all.",
        ),
    ] = None,
) -> None:
    """Make a bearer token: the token itself on stderr, once, and on stdout the line for the setting `auth`."""
    fields = {"name": name, "scopes": ",".join(scope or [Scope.PREDICT]), "models": ",".join(models or [])}
    grant = grant_of(fields, place="token")
    secret = new_secret()
    typer.echo(f"the token, which is shown only now: {secret}", err=True)
    typer.echo(line_of(secret, grant))
