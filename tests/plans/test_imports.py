from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from textwrap import dedent

import pytest

from archipel.plans import declared, package
from archipel.plans.files import LARGEST_PLAN
from archipel.plans.imports import PlanImports, imports_of
from archipel.vocabulary import BadInput
from archipel.vocabulary.bounds import LONGEST_PACKAGE, MOST_PACKAGES

PLAN = "from archipel.plans import Plan\nclass Mine(Plan): ...\n"


def read(text: str, **others: str) -> PlanImports:
    return imports_of({"plan.py": dedent(text)} | {f"{name}.py": dedent(other) for name, other in others.items()})


def test_imports_are_found_wherever_they_stand_and_pythons_own_are_left_out() -> None:
    found = read(
        """
        import os, numpy as np, a.b as c; import d
        from torch.nn import (functional,
            Module)
        def train(self):
            if self.deep: import monai.networks
            with open("x") as file:
                from scipy \\
                    import ndimage
            return lambda x: x
        class Other:
            from pandas import DataFrame as frame
        text = "import nothing"  # import nothing_either
        """,
        losses="import skimage\nfrom archipel.plans import Plan\n",
    )
    assert found.needed == ("a", "d", "monai", "numpy", "pandas", "scipy", "skimage", "torch")
    assert found.optional == () and found.dynamic == () and "os" in found.every


def test_what_a_plan_handles_that_it_is_missing_is_optional() -> None:
    found = read(
        """
        try:
            import a
        except ImportError:
            import b
        try: import c
        except (ValueError, ModuleNotFoundError) as error: c = None
        try:
            import d
        except ValueError:
            d = None
        else:
            import e
        try:
            import f
        finally:
            pass
        try:
            if f:
                import g
            else:
                try:
                    import h
                except KeyError:
                    pass
        except: pass
        if TYPE_CHECKING:
            import i
        else:
            import j
        import k
        try:
            pass
        except Exception:
            pass
        else:
            import l
        """
    )
    assert found.optional == ("a", "b", "c", "g", "h", "i")
    assert found.needed == ("d", "e", "f", "j", "k", "l")


def test_a_package_that_is_optional_in_one_place_only_is_needed() -> None:
    found = read("try:\n    import a\nexcept ImportError:\n    pass\n", losses="import a\n")
    assert (found.needed, found.optional) == (("a",), ())


def test_relative_imports_are_the_plans_own_files_and_absolute_ones_are_not() -> None:
    text = "from .losses import dice\nfrom . import losses\nfrom .... import x\nimport losses\n"
    assert read(text, losses="x = 1\n").needed == ("losses",)


@pytest.mark.parametrize(
    "line",
    [
        "importlib.import_module(name)",
        "f = __import__",
        "exec(text)",
        "x = eval\n",
        "getattr(__builtins__, name)",
        "import builtins",
        "x = f'{__import__(name).x}'",
    ],
)
def test_imports_whose_names_cannot_be_read_are_said_to_be_unknown(line: str) -> None:
    assert read(f"import numpy\n{line}\n").dynamic == ("plan.py:2",)


def test_methods_of_the_same_name_are_not_dynamic() -> None:
    assert read("network.eval()\ndef eval(self): ...\nx = 'exec it'\n").dynamic == ()


def test_a_job_names_what_its_plan_imports_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "plan.py"
    path.write_text(f"import torch\nimport os\nimport numpy\n{PLAN}")
    reference = package(path).reference
    assert reference.packages == ("numpy", "torch")
    source = {"plan.py": path.read_bytes()}.items()
    assert declared(reference, source).files.texts
    assert declared(reference.model_copy(update={"packages": ()}), source).files.texts
    hostile = reference.model_copy(update={"packages": ("acme_pacs", "numpy")})
    with pytest.raises(BadInput, match="the job: names package acme_pacs, which no file of the plan imports; make the"):
        declared(hostile, source)


def test_packages_of_a_job_are_in_order_and_bounded_in_number_and_length(tmp_path: Path) -> None:
    path = tmp_path / "plan.py"
    path.write_text(PLAN + "".join(f"import p{number}\n" for number in range(10_000)))
    with pytest.raises(BadInput, match=f"imports 10000 packages; import at most {MOST_PACKAGES}"):
        _ = package(path).reference
    path.write_text(f"import {'p' * 101}\n{PLAN}")
    with pytest.raises(BadInput, match=f"a name of 101 characters; import packages with at most {LONGEST_PACKAGE}"):
        _ = package(path).reference
    path.write_text(PLAN)
    plain = package(path).reference.model_dump()
    for packages in (["b", "a"], ["a", "a"], ["a.b"], ["a b"], [f"p{n:05}" for n in range(10_000)]):
        with pytest.raises(ValueError, match="packages"):
            type(package(path).reference).model_validate(plain | {"packages": packages})


@pytest.mark.parametrize("line", ["import a\n", "try: import a\nexcept: pass\n", "((((", "    x\n  y\n"])
def test_a_plan_of_any_text_is_read_in_little_memory(line: str) -> None:
    text = line * (LARGEST_PLAN // 80 // len(line))
    tracemalloc.start()
    began = time.process_time()
    imports_of({"plan.py": text})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 << 20 and time.process_time() - began < 5
