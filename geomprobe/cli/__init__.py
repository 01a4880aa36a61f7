"""The command line: ``geomprobe audit``, ``audit-many``, ``compare``, ``rank``, ``zoo``..."""

from __future__ import annotations

import sys

import typer

from geomprobe.cli.audits import audit, audit_many
from geomprobe.cli.exit_codes import UNUSABLE
from geomprobe.cli.inspection import doctor, layers
from geomprobe.cli.reports import compare, rank
from geomprobe.cli.zoos import zoo

#: Its interface are the commands.
__all__: list[str] = []

app = typer.Typer(
    help="The geometry of a PyTorch model. Exit codes: 0 all done, 1 done in part (a finding "
    "failed), 2 the input cannot be used, 3 a condition of --fail-on holds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (audit, audit_many, layers, compare, rank, doctor):
    app.command()(command)
app.add_typer(zoo, name="zoo")


def main() -> None:
    """Run the command line; what cannot be used is one line on stderr and exit code 2."""
    try:
        app()
    except (ValueError, TypeError, ImportError, OSError, MemoryError) as error:
        typer.echo(f"geomprobe: {error}", err=True)
        sys.exit(UNUSABLE)
