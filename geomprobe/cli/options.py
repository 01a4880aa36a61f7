"""Options that several commands take, and how what is typed is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geomprobe.named_objects import load_object

LOSSES = ("cross_entropy", "mse_loss", "binary_cross_entropy_with_logits")
DATA = (
    "MODULE:CALLABLE that returns a loader, dataset, or (inputs, targets); a .npz or .safetensors "
    "file of them; or a folder with a subfolder of images for each class."
)
Model = Annotated[str, typer.Argument(help="MODULE:FACTORY, a callable that returns the model.")]
Data = Annotated[str, typer.Option(help=DATA)]
Layers = Annotated[list[str] | None, typer.Option(help="Name, glob or re:...; may be repeated.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave these layers out; may be repeated.")]
Pool = Annotated[
    str, typer.Option(help="Points of maps and sequences: flatten, mean, positions, last, cls.")
]
Layout = Annotated[
    str, typer.Option(help="Axes of sequences: ntc, tnc or nct; by default what the model tells.")
]
Pickles = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Also open pickles of other objects: runs their code."),
]
Loss = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(LOSSES)}, or MODULE:CALLABLE of (outputs, targets).",
        show_default=LOSSES[0],
    ),
]
Analyzers = Annotated[
    str | None,
    typer.Option(help="Names, or MODULE:INSTANCE of one with parameters, between commas."),
]
Points = Annotated[int, typer.Option(help="Points a layer keeps.")]
Inputs = Annotated[int, typer.Option(help="Inputs for Fisher information.")]
Trained = Annotated[int | None, typer.Option(help="Number of training samples.")]
Minutes = Annotated[float | None, typer.Option(help="Plan the audit to fit; say what is left out.")]
ImageSize = Annotated[
    str | None,
    typer.Option(help="HEIGHTxWIDTH, or one for both: cut and scale images of a folder to it."),
]
FailOn = Annotated[
    list[str] | None,
    typer.Option(help="'geom/ANALYZER/LAYER/STAT > 3', with globs; may be repeated."),
]


def loss_from(spec: str | None) -> Any:
    """Return the loss of a name, or of a module; say so where none was named."""
    from torch.nn import functional

    if spec is None:
        spec = LOSSES[0]
        typer.echo(f"no --loss: taking {spec}", err=True)
    if spec in LOSSES:
        return getattr(functional, spec)
    if ":" not in spec:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, or MODULE:NAME, got {spec!r}")
    return load_object(spec)


def analyzers_from(spec: str | None) -> list[Any] | None:
    """Return names and objects of analyzers; ``None`` where none are asked for."""
    if spec is None:
        return None
    names = [name.strip() for name in spec.split(",")]
    if not all(names):
        raise ValueError(f"--analyzers takes names between commas, got {spec!r}")
    return [load_object(name) if ":" in name else name for name in names]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not height.isdecimal() or not (width or height).isdecimal() or "0" in (height, width):
        raise ValueError(f"--image-size takes HEIGHTxWIDTH, such as 32 or 48x64, got {text!r}")
    return int(height), int(width or height)


def size_for(data: str | None, text: str | None) -> tuple[int, int] | None:
    """Return the size of images; refuse one where the data are no folder of images."""
    size = _size(text)
    if size is not None and (data is None or not Path(data).is_dir()):
        raise ValueError(f"--image-size is for --data that is a folder of images, got {data}")
    return size


def data_from(spec: str, image_size: tuple[int, int] | None) -> Any:
    """Return the data of a module, file or folder."""
    from geomprobe.auditing.data_files import named_data

    return named_data(spec, image_size)
