"""Times the reference tools on the cases of bench_eval and prints their ratio to ours.

    bench_eval.py FOLDER     FOLDER/{reference,prediction}/CASE.nii.gz and FOLDER/ours.txt

Called by scripts/bench.sh. Masks are in memory, except for the BraTS scripts, which read the files
themselves (their share of it is well below a second).
"""

import collections
import contextlib
import importlib
import io
import os
import statistics
import sys
import tempfile
import time
import warnings

import nibabel
import numpy

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}


def masks(labels):
    return [numpy.isin(labels, values) for values in REGIONS.values()]


def medpy_case(prediction, reference):
    """What the published 5_compute_metrics.py calls for each region."""
    from medpy.metric import binary

    for p, g in zip(masks(prediction), masks(reference)):
        binary.dc(p, g)
        binary.hd95(p, g)


def monai_case(prediction, reference):
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance

    p = torch.from_numpy(numpy.stack(masks(prediction))[None].astype(numpy.float32))
    g = torch.from_numpy(numpy.stack(masks(reference))[None].astype(numpy.float32))
    compute_dice(p, g)
    compute_hausdorff_distance(p, g, include_background=True, percentile=95)


def surface_distance_case(prediction, reference):
    import surface_distance

    for p, g in zip(masks(prediction), masks(reference)):
        surface_distance.compute_dice_coefficient(g, p)
        distances = surface_distance.compute_surface_distances(g, p, (1, 1, 1))
        surface_distance.compute_robust_hausdorff(distances, 95)


def script_case(module, folder, case):
    """An official BraTS script, on files, in a folder for what it leaves behind."""
    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(io.StringIO()):
        before = os.getcwd()
        os.chdir(work)
        try:
            module.get_LesionWiseResults(
                f"{folder}/prediction/{case}.nii.gz", f"{folder}/reference/{case}.nii.gz", "BraTS-GLI"
            )
        finally:
            os.chdir(before)


def patch_for_current_libraries():
    """What the BraTS scripts use and current numpy, scipy and pandas no longer have."""
    import pandas
    import scipy.ndimage

    numpy.Inf, numpy.NaN = numpy.inf, numpy.nan
    for name in ("filters", "morphology"):
        if not hasattr(scipy.ndimage, name):
            setattr(scipy.ndimage, name, scipy.ndimage)
    if not hasattr(pandas.DataFrame, "append"):
        pandas.DataFrame.append = lambda self, row, ignore_index=False: pandas.concat(
            [self, row if isinstance(row, pandas.DataFrame) else pandas.DataFrame([row])],
            ignore_index=ignore_index,
        )

    def replace(self, old, new, inplace=False):
        frame = self if inplace else self.copy()
        for column in frame.columns:
            frame[column] = frame[column].map(
                lambda x: new if isinstance(x, float) and x == old else x
            )
        return None if inplace else frame

    pandas.DataFrame.replace = replace


def official_script(variable, name):
    """The module in the folder that an environment variable names, or None."""
    folder = os.environ.get(variable)
    if not folder:
        print(f"{variable} is not set: {name} is not timed (see scripts/bench.sh --help)")
        return None
    patch_for_current_libraries()
    sys.path.insert(0, os.path.abspath(folder))
    for module in ("surface_distance", "surface_distance.metrics", "surface_distance.lookup_tables"):
        sys.modules.pop(module, None)  # each script brings its own copy
    module = importlib.import_module(name)
    sys.path.pop(0)
    return module


def seconds_of(call, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    warnings.simplefilter("ignore")
    folder = os.path.abspath(sys.argv[1])
    ours = collections.defaultdict(dict)
    with open(f"{folder}/ours.txt") as lines:
        for line in lines:
            case, convention, milliseconds = line.split()
            ours[case][convention] = float(milliseconds) / 1000

    print(f"{'case':11} {'tool':34} {'theirs':>9} {'ours':>9} {'ratio':>7} {'target':>7}")

    def report(case, tool, convention, theirs, target):
        mine = ours[case][convention]
        print(
            f"{case:11} {tool:34} {theirs:7.2f} s {1000 * mine:6.1f} ms {theirs / mine:6.0f}x {target:>6}x",
            flush=True,
        )

    for case in ours:
        prediction, reference = (
            numpy.asarray(nibabel.load(f"{folder}/{side}/{case}.nii.gz").dataobj)
            for side in ("prediction", "reference")
        )
        for tool, convention, call, target in (
            ("published script (MedPy)", "segmamba", medpy_case, 100),
            ("MONAI", "monai", monai_case, 20),
            ("surface-distance (DeepMind)", "surface-area", surface_distance_case, 8),
        ):
            report(case, tool, convention, seconds_of(lambda: call(prediction, reference), 3), target)
    compared = {"segmamba", "monai", "surface-area", "brats2023", "brats2024"}
    others = sorted({name for times in ours.values() for name in times} - compared)
    for case, times in ours.items():
        print(f"{case:11} ours, the other conventions: "
              + ", ".join(f"{name} {1000 * times[name]:.1f} ms" for name in others))
    # Last, since they change the libraries under the others.
    for variable, name, convention, target in (
        ("BRATS2023_METRICS", "metrics", "brats2023", 50),
        ("BRATS2024_METRICS", "metrics_GLI", "brats2024", 200),
    ):
        module = official_script(variable, name)
        if module is None:
            continue
        for case in ours:
            if case == "metastases" and convention == "brats2024":
                continue  # it dilates whole grids for every pair of lesions
            theirs = seconds_of(lambda: script_case(module, folder, case), 1)
            report(case, f"{convention} official script", convention, theirs, target)


if __name__ == "__main__":
    main()
