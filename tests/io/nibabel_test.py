"""Copies volumes by copy_volume (argv[1]) and compares the copies with the originals by nibabel."""
import itertools
import subprocess
import sys
import tempfile

import nibabel as nib
import numpy as np

FIELDS = ["pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x",
          "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"]


def rotation(x, y, z):
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    return (np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
            @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]))


def affine(axes, spacing, origin):
    result = np.eye(4)
    result[:3, :3] = axes @ np.diag(spacing)
    result[:3, 3] = origin
    return result


nearly = affine(rotation(0.1, 0.2, 0.3), [1, 2, 3], [5, 6, 7])
nearly[0, 1] += 0.003
AFFINES = {
    "oblique": affine(rotation(0.3, -0.2, 0.9), [0.7, 0.8, 5], [-91.2, 88.1, -40.7]),
    "left-handed": affine(rotation(0.3, -0.2, 0.9) @ np.diag([-1, 1, 1]), [1, 1, 3], [1, 2, 3]),
    "permuted": affine(np.array([[0, 0, 1.0], [-1, 0, 0], [0, 1, 0]]), [1, 1.2, 1.5], [1, 2, 3]),
    "nearly orthonormal": nearly,
}


def check(name, image, kind, folder):
    source, target = f"{folder}/source.nii.gz", f"{folder}/target.nii.gz"
    nib.save(image, source)
    subprocess.run([sys.argv[1], kind, source, target], check=True)
    expected, got = nib.load(source), nib.load(target)
    assert got.shape == expected.shape[:3], (name, got.shape)
    for field in FIELDS:
        a, b = expected.header[field], got.header[field]
        assert np.array_equal(a, b), f"{name}: {field} is {b}, was {a}"
    assert np.array_equal(got.affine, expected.affine), name
    assert got.get_data_dtype() == (np.float32 if kind == "image" else np.uint8), name
    data = expected.get_fdata().reshape(got.shape)
    assert np.array_equal(got.get_fdata(), data.astype(np.float32)), name


random = np.random.default_rng(0)
count = 0
with tempfile.TemporaryDirectory() as folder:
    for (name, matrix), codes, kind in itertools.product(
            AFFINES.items(), [(1, 1), (1, 0), (0, 2), (3, 4)], ["image", "labels"]):
        image = nib.Nifti1Image(random.integers(0, 4, (5, 4, 3)).astype(np.int16), None)
        image.set_qform(matrix, codes[0])
        image.set_sform(matrix, codes[1])
        image.header.set_xyzt_units("mm", "sec")
        check(f"{name} {codes} {kind}", image, kind, folder)
        count += 1
    big_endian = nib.Nifti1Image(random.normal(size=(5, 4, 3, 1)), AFFINES["oblique"],
                                 nib.Nifti1Header(endianness=">"))
    check("big-endian, fourth axis of one", big_endian, "image", folder)
print(count + 1, "volumes copied with their headers")
