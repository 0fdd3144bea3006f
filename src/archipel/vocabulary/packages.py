"""Packages that a plan imports: the name in the plan, the name that pip knows, and what a site has of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from archipel.vocabulary.bounds import LONGEST_PACKAGE, MOST_PACKAGES

PackageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=LONGEST_PACKAGE)]
"""The name under which a plan imports a package, without what is inside of the package."""

PackageVersion = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+!-]*$", max_length=LONGEST_PACKAGE)]

Packages = Annotated[dict[PackageName, PackageVersion | None], Field(max_length=MOST_PACKAGES)]
"""What a site has: each package's version, empty where it has none, and None for a package that is not there."""

_INSTALLED_AS = {
    "Bio": "biopython",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "gdcm": "python-gdcm",
    "ignite": "pytorch-ignite",
    "itk": "itk",
    "lightning_fabric": "lightning",
    "medmnist": "medmnist",
    "pl_bolts": "lightning-bolts",
    "pytorch_lightning": "pytorch-lightning",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "sksurv": "scikit-survival",
    "umap": "umap-learn",
    "yaml": "PyYAML",
}
"""What pip installs where that has another name than what is imported."""


def installed_as(package: str) -> str:
    """The name under which pip installs a package that is imported as ``package``.

    >>> installed_as("sklearn"), installed_as("monai")
    ('scikit-learn', 'monai')
    """
    return _INSTALLED_AS.get(package, package)


def pip_install(packages: Iterable[str]) -> str:
    """The command that installs packages, given by the names under which they are imported.

    >>> pip_install(["sklearn", "monai"])
    'pip install monai scikit-learn'
    """
    return " ".join(("pip install", *sorted(map(installed_as, packages))))


def named(packages: Iterable[str]) -> str:
    """Packages as people know them, with the name that a plan imports where it is another one.

    >>> named(["sklearn", "monai"])
    'monai, scikit-learn (imported as sklearn)'
    """
    words = [one if installed_as(one) == one else f"{installed_as(one)} (imported as {one})" for one in packages]
    return ", ".join(sorted(words))


def missing(packages: Mapping[str, str | None]) -> list[str]:
    """Those of a site's answer that are not there, in order."""
    return sorted(name for name, version in packages.items() if version is None)
