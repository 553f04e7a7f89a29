"""Times nnU-Net's batchgeneratorsv2 on the augmentation recipe of the published code, beside ours.

    bench_data.py [FOLDER] [OPTIONS]     FOLDER/ours.json: seconds a patch by name, as in the table

Called by scripts/bench.sh. One thread; a random image with four labels, cut from a box as large as
nnU-Net would cut it. The transforms are always applied and to all channels, and cutting the patch is
in every row; the recipe draws what it applies, and its figure is the mean over many patches. Theirs
interpolates linearly; the row "cubic" is ours as the published code does it, beside the same figure.
Without ours.json: theirs alone.
"""

import argparse
import json
import math
import os
import statistics
import time

import numpy
import torch
from batchgeneratorsv2.transforms.intensity.brightness import (
    BrightnessAdditiveTransform, MultiplicativeBrightnessTransform)
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

ANGLE = math.radians(30)


def box_side(side):
    """nnU-Net's box for a patch: room for one rotation, and for scaling only in part."""
    return int(side * (math.cos(ANGLE) + math.sin(ANGLE)) / 0.85)


def make_case(side, channels):
    """Image and labels 0 to 3; the labels in nested balls, as a tumour's parts are."""
    box = box_side(side)
    image = torch.randn(channels, box, box, box)
    axis = torch.linspace(-1, 1, box)
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    labels = torch.zeros(1, box, box, box, dtype=torch.int8)
    for label, limit in ((2, 0.4), (1, 0.25), (3, 0.15)):
        labels[0][radius < limit] = label
    return image, labels


def spatial(side, elastic=0.0, rotation=0.0, scaling=0.0):
    return SpatialTransform(
        (side,) * 3, patch_center_dist_from_border=0, random_crop=False,
        p_elastic_deform=elastic, elastic_deform_scale=(0.05, 0.2), elastic_deform_magnitude=(1, 8),
        p_rotation=rotation, rotation=(-ANGLE, ANGLE),
        p_scaling=scaling, scaling=(0.7, 1.4), p_synchronize_scaling_across_axes=1)


def blur(share):
    return GaussianBlurTransform((0.5, 1.0), p_per_channel=share, benchmark=True)


def low_resolution(share):
    return SimulateLowResolutionTransform(
        (0.5, 1.0), synchronize_channels=False, synchronize_axes=True, ignore_axes=None,
        p_per_channel=share)


def gamma(inverted):
    return GammaTransform(BGContrast((0.7, 1.5)), p_invert_image=float(inverted),
                          synchronize_channels=False, p_per_channel=1, p_retain_stats=1)


def noise():
    return GaussianNoiseTransform((0, 0.1), synchronize_channels=True)


def brightness():
    return MultiplicativeBrightnessTransform(BGContrast((0.75, 1.25)), synchronize_channels=False)


def contrast():
    return ContrastTransform(BGContrast((0.75, 1.25)), preserve_range=True,
                             synchronize_channels=False)


class MirrorAllAxes(MirrorTransform):
    def get_parameters(self, **data):
        return {"axes": self.allowed_axes}


def transforms(side):
    """Name, transform and whether it starts from the box, not from the patch."""
    yield "crop", spatial(side), True
    yield "rotation+scaling", spatial(side, rotation=1, scaling=1), True
    yield "elastic", spatial(side, elastic=1), True
    yield "noise", noise(), False
    yield "blur", blur(1), False
    yield "brightness_multiplicative", brightness(), False
    yield "brightness_additive", BrightnessAdditiveTransform(0, 0.1, False), False
    yield "contrast", contrast(), False
    yield "low_resolution", low_resolution(1), False
    yield "gamma_inverted", gamma(True), False
    yield "gamma", gamma(False), False
    yield "mirror", MirrorAllAxes((0, 1, 2)), False


def recipe(side):
    return ComposeTransforms([
        spatial(side, rotation=0.2, scaling=0.2),
        RandomTransform(noise(), 0.1),
        RandomTransform(blur(0.5), 0.2),
        RandomTransform(brightness(), 0.15),
        RandomTransform(contrast(), 0.15),
        RandomTransform(low_resolution(0.5), 0.25),
        RandomTransform(gamma(True), 0.1),
        RandomTransform(gamma(False), 0.3),
        MirrorTransform((0, 1, 2)),
    ])


def seconds_of(transform, image, labels, repeats, warm_up):
    """Of every call. A patch must be in memory of its own: a crop alone would be a view."""
    times = []
    for repeat in range(warm_up + repeats):
        data = {"image": image.clone(), "segmentation": labels.clone()}
        start = time.perf_counter()
        data = transform(**data)
        for tensor in data.values():
            tensor.contiguous()
        if repeat >= warm_up:
            times.append(time.perf_counter() - start)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", default=".", help="folder of ours.json")
    parser.add_argument("--size", type=int, default=128, help="voxels along a patch's axis")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7, help="calls of a transform: the median")
    parser.add_argument("--patches", type=int, default=200, help="patches of the recipe: the mean")
    arguments = parser.parse_args()

    ours = {}
    path = os.path.join(arguments.folder, "ours.json")
    if os.path.exists(path):
        with open(path) as file:
            ours = json.load(file)["seconds"]

    torch.set_num_threads(1)
    torch.manual_seed(1)
    numpy.random.seed(1)
    image, labels = make_case(arguments.size, arguments.channels)
    crop = spatial(arguments.size)(image=image, segmentation=labels)
    patch = crop["image"].contiguous(), crop["segmentation"].contiguous()

    columns = " {:>11} {:>11} {:>7}" if ours else " {:>11}"
    print(f"{'transform':26}" + columns.format("theirs", "ours", "ratio"))

    def report(name, theirs):
        cells = [f"{1000 * theirs:.1f} ms", "-", "-"]
        if name in ours:
            cells[1:] = [f"{1000 * ours[name]:.2f} ms", f"{theirs / ours[name]:.1f}x"]
        print(f"{name:26}" + columns.format(*cells), flush=True)

    with torch.no_grad():
        for name, transform, from_box in transforms(arguments.size):
            # The blur tries, for every width of its kernel, which of two ways is faster.
            warm_up = 10 if name == "blur" else 2
            source = (image, labels) if from_box else patch
            seconds = statistics.median(
                seconds_of(transform, *source, arguments.repeats, warm_up))
            if name == "crop":
                cutting = seconds
            report(name, seconds if from_box else cutting + seconds)
        whole = recipe(arguments.size)
        for step in whole.transforms:
            if isinstance(getattr(step, "transform", None), GaussianBlurTransform):
                seconds_of(step.transform, *patch, 0, 20)
        torch.manual_seed(2)
        numpy.random.seed(2)
        theirs = statistics.mean(seconds_of(whole, image, labels, arguments.patches, 0))
        report("upstream-code", theirs)
        if "upstream-code, cubic" in ours:
            report("upstream-code, cubic", theirs)


if __name__ == "__main__":
    main()
