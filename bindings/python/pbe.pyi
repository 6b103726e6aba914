"""Progressive Backdoor Erasing: takes a suspect image classifier and its training data, gives back one without the
backdoor. What is wrong with arguments or files is a ValueError of one line; a run that failed is a RuntimeError.
Nothing holds the GIL while it computes."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, Optional, TypedDict, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Unpack

class Options(TypedDict, total=False):
    device: str
    """"auto" (the default), "cpu", "cuda", "cuda:1"."""
    precision: str
    """What convolutions multiply, "f32" or "bf16"; by default bf16 on a GPU."""
    threads: Optional[int]
    """By default all of the machine."""
    seed: int
    flip: bool
    """Whether a mirrored image shows the same thing; by default as the data set says, else True."""
    clean: bool
    """For `purify`: the images are known to be clean."""
    settings: Sequence[str]
    """For `purify`: settings that are not the defaults, as "rounds.*.clean.epochs=5"."""

class Model:
    @property
    def network(self) -> str: ...
    @property
    def classes(self) -> int: ...
    @property
    def normalisation(self) -> Optional[str]: ...
    def fit(self, images: Images, **options: Unpack[Options]) -> None:
        """Finds how images are normalised, where the model's file doesn't say it. `load_data` does it for its own."""
    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Its tensors, under the names that they came with: for `load_state_dict`, by `torch.from_numpy`."""
    def to_bytes(self) -> bytes:
        """The bytes of a safetensors file."""
    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Writes safetensors, atomically."""

class Images:
    def __init__(self, pixels: NDArray[np.uint8], labels: Sequence[int], classes: int) -> None:
        """`pixels` are images x height x width x channels (NHWC), with a label below `classes` for each image."""
    def __len__(self) -> int: ...
    @property
    def pixels(self) -> NDArray[np.uint8]:
        """NHWC, a copy."""
    @property
    def labels(self) -> NDArray[np.uint32]: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def names(self) -> list[str]: ...

class Inspection:
    @property
    def verdict(self) -> Literal["infected", "no_sign", "undecided"]: ...
    @property
    def targets(self) -> list[int]:
        """The attacker's labels; empty unless infected."""
    @property
    def p_value(self) -> float:
        """How often a benign model looks as infected, at most."""
    @property
    def suspects(self) -> NDArray[np.uint32]:
        """The suspected images, the most suspicious first."""
    @property
    def deviation(self) -> NDArray[np.float32]:
        """Of each image, from what its label's images have in common."""

def load_model(
    source: Union[str, os.PathLike[str], bytes, dict[str, ArrayLike]], normalisation: Optional[str] = None
) -> Model:
    """A model from a file (safetensors or a PyTorch checkpoint, in which nothing is executed), the bytes of one, or the
    arrays of a state dict. `normalisation` is a name as "cifar10" or "mean,mean,mean/std,std,std"."""

def load_data(
    path: Union[str, os.PathLike[str]], model: Model, **options: Unpack[Options]
) -> tuple[Images, Optional[Images]]:
    """Training and test images for `model`, both fitted to each other: its normalisation, the order of the classes."""

def predict(model: Model, images: Images, **options: Unpack[Options]) -> NDArray[np.uint32]:
    """The class of each image."""

def logits(model: Model, images: Images, **options: Unpack[Options]) -> NDArray[np.float32]:
    """A row of logits for each image."""

def score(infected: Model, purified: Model, images: Images, **options: Unpack[Options]) -> NDArray[np.float32]:
    """How likely each image is clean, -1 to 1: the cosine between the logits of the model before and after."""

def attack(model: Model, images: Images, epsilon: float, **options: Unpack[Options]) -> Images:
    """Adversarial examples: seven PGD steps in the L-infinity ball of radius `epsilon`/255."""

def inspect(model: Model, images: Images, **options: Unpack[Options]) -> Inspection:
    """Says from its training images whether a model is infected, for which labels, and which images are suspected."""

def purify(
    model: Model,
    images: Images,
    *,
    progress: Optional[Callable[[int, str, int, int, Optional[float]], object]] = None,
    **options: Unpack[Options],
) -> Model:
    """Erases what may be planted in `model`, from its training images. `progress` gets the round, the phase, how many
    of its units are done, of how many, and a loss where it trains. Its exceptions end the run, and so does Ctrl-C."""
