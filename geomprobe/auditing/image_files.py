"""A folder of images as a dataset: a subfolder a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from geomprobe.exceptions import FileFormatError
from geomprobe.sampling.rows import channels, pixels
from geomprobe.storage import PathLike


@dataclass(frozen=True)
class ImageFolder(Dataset[tuple[torch.Tensor, int]]):
    """Images in subfolders called as their classes, as tensors of shape (c, h, w) in [0, 1].

    Parameters
    ----------
    files : tuple of Path
        In the order of their names.
    labels : tuple of int
        The place of the class of each file among the sorted names of the subfolders, also of those
        without images. Hidden folders are no classes.
    size : (int, int), optional
        Height and width, to which each image is cut about its centre and scaled.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    size: tuple[int, int] | None = None

    @classmethod
    def read(cls, path: PathLike, size: tuple[int, int] | None = None) -> ImageFolder:
        """Find what Pillow can open in the subfolders of a folder, at any depth.

        Folders whose names begin with a dot, such as ``.ipynb_checkpoints``, are left out.

        Raises
        ------
        FileFormatError
            There is nothing, or a file that is damaged at its beginning; or images differ in size
            and none is given, or some have colours and some not.
        """
        from PIL import Image

        home, endings = Path(path), Image.registered_extensions()
        files = [
            file
            for file in sorted(home.glob("*/**/*"))
            if file.suffix.lower() in endings and not _is_hidden(file.relative_to(home).parent)
        ]
        if not files:
            raise FileFormatError(
                f"{home} holds no images in subfolders; expected a subfolder for each class, with "
                "files such as .png or .jpg"
            )
        folders = (one.name for one in home.iterdir() if one.is_dir())
        classes = sorted(name for name in folders if not name.startswith("."))
        label = {name: number for number, name in enumerate(classes)}
        labels = tuple(label[file.relative_to(home).parts[0]] for file in files)
        shapes = {_shape(file, size): file for file in files}
        if len(shapes) > 1:
            (one, this), (other, that), *_ = shapes.items()
            raise FileFormatError(
                f"{this} is {_in_words(one)}, {that} is {_in_words(other)}: make all images alike, "
                "or say to which size they are to be brought (--image-size)"
            )
        return cls(tuple(files), labels, size)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return an image and its label.

        Raises
        ------
        FileFormatError
            The file is damaged.
        """
        from PIL import Image, ImageOps

        try:
            with Image.open(self.files[index]) as image:
                if self.size is not None:
                    image = ImageOps.fit(image, self.size[::-1])
                return pixels(image), self.labels[index]
        except (OSError, SyntaxError, ValueError) as error:
            raise FileFormatError(f"{self.files[index]} cannot be read: {error}") from error


def _is_hidden(folder: Path) -> bool:
    return any(part.startswith(".") for part in folder.parts)


def _shape(file: Path, size: tuple[int, int] | None) -> tuple[int, ...]:
    """Return channels, height and width of the tensor that a file will be, from its header."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return channels(image), *(size or image.size[::-1])
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read: {error}") from error


def _in_words(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[2]} pixels {'in colours' if shape[0] == 3 else 'of grey'}"
