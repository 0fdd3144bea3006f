"""Phantom MRI: head-like crops with a two-part structure, seen through each site's own scanner.

Every subject is drawn as parameters first (``SubjectParameters``), every site as a ``Scanner``; a deterministic
function then renders them. The parameters are written beside the volumes as ``parameters.json``, so that any volume can
be rendered again from that file alone (the idea of TorchIO's recorded transforms).

The structure is a bent, tapering tube: a thick front part (label 1) and a thinner back part (label 2), as in the
hippocampus, with subjects' own size, bend and tilt. Around it lie tissue of nearly its brightness, dark fluid and
bright distractors. Scanners differ in contrast, inversion of brightness, bias field, noise and resolution.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archipel.vocabulary import BadInput, Thing
from archipel.vocabulary.bounds import EXACT

SHAPE = (40, 56, 40)
Field3 = NDArray[np.float32]


@dataclass(frozen=True)
class Scanner:
    """What a site's scanner does to every image.

    ``tissue`` are the mean brightnesses of background tissue, structure front, structure back, fluid and distractor;
    ``gamma`` bends them; ``bias`` is the strength of the smooth brightness field; ``noise`` the standard deviation of
    Rician noise; ``blur`` the standard deviation (voxels) of the point spread along each axis.
    """

    tissue: tuple[float, float, float, float, float]
    gamma: float
    bias: float
    noise: float
    blur: tuple[float, float, float]


@dataclass(frozen=True)
class SubjectParameters:
    """One subject's anatomy (millimetres and radians) and the seed of the textures and noise in the image."""

    centre: tuple[float, float, float]
    length: float
    radius: float
    taper: float
    bend: float
    tilt: tuple[float, float]
    border: float
    seed: int


def scanner(site_number: int, seed: int) -> Scanner:
    """The scanner of the site with this number: one of three characters, varied a little by the seed."""
    draw = np.random.default_rng([seed, 1, site_number])
    tissue, gamma, bias, noise, blur = _CHARACTERS[site_number % len(_CHARACTERS)]
    varied = tuple(float(round(value + draw.normal(0, 0.012), 4)) for value in tissue)
    return Scanner(
        tissue=(varied[0], varied[1], varied[2], varied[3], varied[4]),
        gamma=float(round(gamma * np.exp(draw.normal(0, 0.03)), 4)),
        bias=float(round(bias * draw.uniform(0.9, 1.1), 4)),
        noise=float(round(noise * draw.uniform(0.9, 1.1), 4)),
        blur=blur,
    )


_CHARACTERS: tuple[tuple[tuple[float, ...], float, float, float, tuple[float, float, float]], ...] = (
    ((0.36, 0.82, 0.70, 0.12, 0.95), 1.0, 0.10, 0.03, (0.5, 0.5, 0.5)),
    ((0.42, 0.68, 0.84, 0.95, 0.12), 0.8, 0.20, 0.04, (0.5, 0.5, 1.0)),
    ((0.34, 0.70, 0.58, 0.88, 0.92), 1.3, 0.30, 0.05, (0.8, 0.8, 0.5)),
)


def subject(site_number: int, number: int, seed: int) -> SubjectParameters:
    """Draw one subject's anatomy."""
    draw = np.random.default_rng([seed, 2, site_number, number])
    x, y, z = (float(round(value, 3)) for value in draw.normal(0, [1.5, 2.0, 1.5]))
    return SubjectParameters(
        centre=(x, y, z),
        length=float(round(draw.uniform(26, 38), 3)),
        radius=float(round(draw.uniform(5.0, 7.0), 3)),
        taper=float(round(draw.uniform(0.40, 0.65), 3)),
        bend=float(round(draw.normal(0.012, 0.006), 5)),
        tilt=(float(round(draw.normal(0, 0.15), 4)), float(round(draw.normal(0, 0.15), 4))),
        border=float(round(draw.uniform(0.36, 0.50), 4)),
        seed=int(draw.integers(EXACT)),
    )


def render(anatomy: SubjectParameters, machine: Scanner) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The image (float32, 0 to about 1000) and the label (0, 1, 2) on a grid of SHAPE at 1 mm."""
    draw = np.random.default_rng(anatomy.seed)
    x, y, z = _turned(anatomy)
    along = y / anatomy.length + 0.5  # 0 at the back end, 1 at the front end
    # A tube whose axis bends with y; the front part is the thick one.
    sideways = np.asarray(x + anatomy.bend * (y**2 - anatomy.length**2 / 12), dtype=np.float32)
    radius = anatomy.radius * (anatomy.taper + (1 - anatomy.taper) * np.clip(along, 0, 1) ** 0.8)
    ends = np.clip(1 - (np.abs(along - 0.5) / 0.5) ** 6, 0, None)
    wobble = 1 + 0.22 * smooth_noise(draw, 4.0)
    depth = radius * np.sqrt(ends) * wobble - np.sqrt(sideways**2 + z**2)
    inside = depth > 0
    label = np.where(inside, np.where(along > 1 - anatomy.border, 1, 2), 0).astype(np.uint8)
    image = _tissue(draw, anatomy, machine, place=(sideways, z), label=label, depth=depth)
    image = np.clip(image, 0.01, None) ** machine.gamma
    image = blurred(image, machine.blur)
    image = image * np.exp(machine.bias * smooth_noise(draw, 16.0))
    real, imaginary = draw.normal(0, machine.noise, (2, *SHAPE))
    return np.asarray(1000 * np.hypot(image + real, imaginary), dtype=np.float32), label


def _turned(anatomy: SubjectParameters) -> tuple[Field3, Field3, Field3]:
    axes = [np.arange(size, dtype=np.float32) - (size - 1) / 2 for size in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    x, y, z = x - anatomy.centre[0], y - anatomy.centre[1], z - anatomy.centre[2]
    about_z, about_x = anatomy.tilt
    x, y = np.cos(about_z) * x - np.sin(about_z) * y, np.sin(about_z) * x + np.cos(about_z) * y
    y, z = np.cos(about_x) * y - np.sin(about_x) * z, np.sin(about_x) * y + np.cos(about_x) * z
    return x, y, z


def _tissue(
    draw: np.random.Generator,
    anatomy: SubjectParameters,
    machine: Scanner,
    *,
    place: tuple[Field3, Field3],
    label: NDArray[np.uint8],
    depth: Field3,
) -> Field3:
    background, front, back, fluid, bright = machine.tissue
    sideways, z = place
    image = background + 0.04 * smooth_noise(draw, 3.0)
    # A dark channel beside the structure and bright blobs around it are what a threshold would take for it.
    channel = np.abs(np.hypot(sideways - 1.8 * anatomy.radius, z - 2) - 0.5) < 1.6
    image = np.where(channel, fluid, image)
    blobs = (smooth_noise(draw, 2.6) > 1.8) & (depth < -3)
    image = np.where(blobs, bright, image)
    decoys = (smooth_noise(draw, 3.0) > 1.7) & (depth < -5)
    image = np.where(decoys, (front + back) / 2, image)
    grain = 0.04 * smooth_noise(draw, 1.5)
    return np.asarray(np.where(label == 1, front + grain, np.where(label == 2, back + grain, image)), dtype=np.float32)


def smooth_noise(draw: np.random.Generator, width: float) -> Field3:
    """A Gaussian random field on SHAPE of mean 0 and variance 1, smooth over ``width`` voxels."""
    field = blurred(draw.standard_normal(SHAPE).astype(np.float32), (width, width, width), wrap=True)
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def blurred(image: Field3, width: tuple[float, float, float], *, wrap: bool = False) -> Field3:
    """A Gaussian of this standard deviation (voxels) along each axis, by the Fourier transform."""
    margin = 0 if wrap else 4
    padded = np.pad(image, margin, mode="edge")
    gain = np.ones(padded.shape, dtype=np.float32)
    for axis, sigma in enumerate(width):
        frequency = np.fft.fftfreq(padded.shape[axis])
        response = np.exp(-2 * (np.pi * sigma * frequency) ** 2).astype(np.float32)
        gain *= response.reshape([-1 if other == axis else 1 for other in range(3)])
    result = np.fft.ifftn(np.fft.fftn(padded) * gain).real
    inner = slice(margin, -margin or None)
    return np.asarray(result[inner, inner, inner], dtype=np.float32)


def generate(
    root: Path, sites: Sequence[str] = ("site-a", "site-b", "site-c"), subjects_per_site: int = 20, seed: int = 0
) -> list[Path]:
    """Write a folder per site with ``images/``, ``labels/`` and ``parameters.json``; return the folders.

    The bytes of every file follow from the arguments. Raises BadInput when a site's folder holds something already.
    """
    import nibabel

    folders = []
    for site_number, site in enumerate(sites):
        folder = root / site
        if folder.exists() and any(folder.iterdir()):
            raise BadInput(
                Thing.folder(folder), "is not empty", "name a new folder for the phantom or remove the old one"
            )
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        machine = scanner(site_number, seed)
        anatomies: dict[str, SubjectParameters] = {}
        for number in range(subjects_per_site):
            anatomy = subject(site_number, number, seed)
            image, label = render(anatomy, machine)
            subject_id = f"{site}-{number:03}"
            anatomies[subject_id] = anatomy
            for part, values in (("images", np.rint(image).astype(np.int16)), ("labels", label)):
                nibabel.Nifti1Image(values, np.eye(4)).to_filename(folder / part / f"{subject_id}.nii.gz")
        subjects = {name: asdict(one) for name, one in anatomies.items()}
        recorded = {"seed": seed, "scanner": asdict(machine), "subjects": subjects}
        (folder / "parameters.json").write_text(json.dumps(recorded, indent=1) + "\n")
        folders.append(folder)
    return folders
