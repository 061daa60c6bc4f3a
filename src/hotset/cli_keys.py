"""The commands around secrets: ``hotset token``, ``hotset keygen`` and ``hotset sign``. They ask no server.

``cli`` adds them to its own. A secret goes to stderr and to nobody else; what may be kept goes to stdout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from hotset.errors import InvalidInputError
from hotset.keys import ModelKey, parse_name
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


def keygen(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the key goes that signs; it must not exist.")
    ],
) -> None:
    """Make a key to sign versions with: the secret in a file, and on stdout the line for the setting `signing_keys`."""
    # Late, as in `serve`: no other command should wait for it.
    from hotset.signing.keys import check_installed, new_key

    check_installed("keygen")
    typer.echo(new_key(file).public.line)


def sign(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory with the version's files.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model that they are a version of.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", min=0, help="Its number.")],
    key: Annotated[Path, typer.Option("--key", "-k", metavar="FILE", help="The key, of `hotset keygen`.")],
) -> None:
    """Sign the files of a directory as a version of a model: writes `_SIGNATURE` beside them, to be uploaded with them."""
    # Late, as above.
    from hotset.publishing.source import check_unchanged, find_files
    from hotset.signing.manifest import SIGNATURE_FILE

    if not directory.is_dir():
        raise InvalidInputError(f"expected the directory with the version's files, found none: {directory}")
    make = signer(key)
    files = find_files(directory, with_signature=False)
    signature = make(ModelKey(parse_name(name), version), {path: file.path for path, file in files.items()})
    check_unchanged(files)
    try:
        (directory / SIGNATURE_FILE).write_bytes(signature)
    except OSError as error:
        raise InvalidInputError(f"cannot write {directory / SIGNATURE_FILE}: {error.strerror}") from error
    typer.echo(f"signed {name}@{version}: {len(files)} files")


def signer(file: Path) -> Callable[[ModelKey, Mapping[str, Path]], bytes]:
    """Return what makes signatures with the key of a file.

    Raises:
        InvalidInputError: there is no such key.
        ConfigError: what that needs is not installed.
    """
    from hotset.signing.keys import check_installed, read_signing_key
    from hotset.signing.manifest import digest_of_file, manifest_of

    check_installed("signing")
    key = read_signing_key(file)

    def make(version: ModelKey, files: Mapping[str, Path]) -> bytes:
        digests = {path: digest_of_file(place, path) for path, place in files.items()}
        return key.sign(manifest_of(version.name, version.version, digests))

    return make
