"""The solar cells of the package `elpv-dataset`: 2,624 electroluminescence images.

The labels are the annotators' probability that a cell is defective: 0, 1/3, 2/3 or 1. The set
names no modules, but its files lie in module order; blocks of 60 neighbouring files stand in for
the modules (see datasets/elpv/README.md).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from inspection.box import install_command
from inspection.errors import DataError, MissingExtra
from training.data.rows import GOOD
from training.sources import Labelled, LabelledFile

PRODUCT = "elpv-cell"
DEFECT = "defective"
CELLS_A_GROUP = 60  # solar modules of that size are common; see the README
LICENCE = "CC-BY-NC-SA-4.0"
ORIGIN = """\
elpv-dataset, https://github.com/zae-bayern/elpv-dataset; to be cited as
Buerhop-Lutz, C.; Deitsch, S.; Maier, A.; Gallwitz, F.; Berger, S.; Doll, B.; Hauch, J.; Camus, C.;
Brabec, C. J.: A Benchmark for Visual Identification of Defective Solar Cells in
Electroluminescence Imagery. EU PVSEC 2018. doi:10.4229/35thEUPVSEC20182018-5CV.3.15.
Deitsch, S.; Buerhop-Lutz, C.; Sovetkin, E.; Steland, A.; Maier, A.; Gallwitz, F.; Riess, C.:
Segmentation of photovoltaic module cells in uncalibrated electroluminescence images. Machine
Vision and Applications 32(4), 2021. doi:10.1007/s00138-021-01191-9.
Deitsch, S.; Christlein, V.; Berger, S.; Buerhop-Lutz, C.; Maier, A.; Gallwitz, F.; Riess, C.:
Automatic classification of defective photovoltaic module cells in electroluminescence images.
Solar Energy 185, 455-468, 2019. doi:10.1016/j.solener.2019.02.067.
"""


def read_elpv(folder: Path | None = None) -> Labelled:
    """The labelled images of the installed package.

    Args:
        folder: holds labels.csv and images/; the package's own when absent.

    Raises:
        MissingExtra: the package is not installed.
        DataError: its labels are not as expected.
    """
    data = folder if folder is not None else _installed()
    try:
        lines = (data / "labels.csv").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{data / 'labels.csv'}: {error.strerror or error}") from error
    files = []
    for position, line in enumerate(sorted(line for line in lines if line.strip())):
        try:
            path, text, _cell_type = line.split()
            probability = float(text)
        except ValueError as error:
            raise DataError(f"{data / 'labels.csv'}: cannot read {line!r}") from error
        name = Path(path).name
        files.append(
            LabelledFile(
                file=data / path,
                name=name,
                label=DEFECT if probability >= 0.5 else GOOD,
                part=Path(path).stem,
                group=f"block-{position // CELLS_A_GROUP + 1:02d}",
                probability=probability,
            )
        )
    return Labelled(
        layout="the installed package elpv-dataset",
        files=tuple(files),
        classes=(DEFECT,),
        product=PRODUCT,
        licence=LICENCE,
        origin=ORIGIN,
        modality="vision",
        flips=("horizontal", "vertical"),
        notes=(
            "part: the cell's file",
            f"group: blocks of {CELLS_A_GROUP} neighbouring files, a stand-in for modules",
            "use: for trying out and for benchmarks, not for products (see the licence)",
        ),
    )


def _installed() -> Path:
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise MissingExtra(
            "the package elpv-dataset is not installed",
            remedy=f"run: {install_command('demo')}",
        )
    return Path(found.origin).parent / "data"
