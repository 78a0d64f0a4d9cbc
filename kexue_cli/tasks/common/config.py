"""Options of the image data sets, for every task whose `TAKES` names images."""

from __future__ import annotations

from dataclasses import dataclass

from kexue_cli.config import DataConfig

DATA_ROOT = "${oc.env:KEXUE_DATA_DIR,data}"
IMAGES = "images"


@dataclass
class Digits(DataConfig):
    """scikit-learn's 1,797 real digits, 8 x 8 pixels of 0 to 16; comes with the package."""

    name: str = "digits"
    task: str = IMAGES
    valid_size: int = 200
    test_size: int = 400


@dataclass
class Mnist(DataConfig):
    """The four idx files of MNIST, gzipped or not."""

    name: str = "mnist"
    task: str = IMAGES
    root: str = DATA_ROOT + "/mnist"
    valid_size: int = 5000  # the last ones of the 60,000


@dataclass
class FashionMnist(Mnist):
    """The four idx files of Fashion-MNIST, same layout as MNIST."""

    name: str = "fashion_mnist"
    root: str = DATA_ROOT + "/fashion_mnist"


@dataclass
class MnistStatic(DataConfig):
    """Statically binarised MNIST of Larochelle and Murray: 50,000 / 10,000 / 10,000, no labels."""

    name: str = "mnist_static"
    task: str = IMAGES
    root: str = DATA_ROOT + "/mnist_static"


@dataclass
class ImageFiles(DataConfig):
    """The user's own images: a folder of pictures, an .npz, or a .mat (OMNIGLOT, Frey faces)."""

    name: str = "images"
    task: str = IMAGES
    path: str = DATA_ROOT + "/images"
    height: int | None = None  # only for flat rows of pixels that are not square
    width: int | None = None
    grayscale: bool = False  # turn colour pictures grey instead of refusing them
    valid_fraction: float = 0.1  # taken from train where the files name no such split
    test_fraction: float = 0.1


SCHEMAS = {
    "data/digits": Digits,
    "data/mnist": Mnist,
    "data/fashion_mnist": FashionMnist,
    "data/mnist_static": MnistStatic,
    "data/images": ImageFiles,
}
