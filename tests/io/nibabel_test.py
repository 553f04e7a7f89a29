"""Has files written for references of every kind (argv[1] is write_like) and reads them by nibabel."""
import itertools
import json
import subprocess
import sys
import tempfile

import nibabel as nib
import numpy as np

SHAPE = (5, 4, 3)
PLACE = ["dim_info", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c",
         "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"]
DTYPES = {"image": np.float32, "labels": np.uint8, "probabilities": np.uint16, "map": np.float32}


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
random = np.random.default_rng(0)


def reference(kind=nib.Nifti1Image, dtype=np.int16, shape=SHAPE, matrix=AFFINES["oblique"],
              codes=(1, 1), **header):
    image = kind(random.integers(0, 100, shape).astype(dtype), None, kind.header_class(**header))
    image.set_data_dtype(dtype)
    image.set_qform(matrix, codes[0])
    image.set_sform(matrix, codes[1])
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_dim_info(freq=1, phase=0, slice=2)
    return image


def references():
    """(name, image, file name)"""
    for (name, matrix), codes in itertools.product(
            AFFINES.items(), [(1, 1), (1, 0), (0, 2), (3, 4), (0, 0)]):
        yield f"{name} {codes}", reference(matrix=matrix, codes=codes), "a.nii.gz"
    for size, kind in itertools.product([1, 2, 4, 8], "iuf"):
        if kind + str(size) not in ("f1", "f2"):
            yield f"{kind}{size}", reference(dtype=np.dtype(f"{kind}{size}")), "a.nii"
    for name, matrix in AFFINES.items():
        yield f"NIfTI-2 {name}", reference(nib.Nifti2Image, matrix=matrix), "a.nii.gz"
    yield "pair", reference(nib.Nifti1Pair), "a.hdr"
    yield "NIfTI-2 pair", reference(nib.Nifti2Pair), "a.hdr"
    yield "big-endian", reference(dtype=np.float64, endianness=">"), "a.nii.gz"
    yield "big-endian NIfTI-2", reference(nib.Nifti2Image, endianness=">"), "a.nii.gz"
    yield "fourth axis of one", reference(shape=SHAPE + (1,)), "a.nii.gz"
    four = reference(shape=SHAPE + (3,))
    four.header.set_zooms((0.7, 0.8, 5, 2.5))
    yield "4-D", four, "a.nii.gz"
    scaled = reference()
    scaled.header.set_slope_inter(0.5, -3)
    yield "scaled", scaled, "a.nii"
    extended = reference()
    for code, text in ((4, b"patient"), (6, b"comment" * 300)):
        extended.header.extensions.append(nib.nifti1.Nifti1Extension(code, text))
    yield "extensions", extended, "a.nii.gz"


def native(header):
    return header.as_byteswapped(nib.volumeutils.native_code)


def check_place(name, got, expected, is_stack):
    for field in PLACE:
        a, b = np.array(expected[field]), np.array(got[field])
        if is_stack and field == "pixdim":
            assert b[4] == 1, (name, b)
            a, b = a[:4], b[:4]
        if is_stack and field == "xyzt_units":  # the fourth axis is no time
            a = a & np.array(7, a.dtype)
        assert a.tobytes() == b.tobytes(), f"{name}: {field} is {b}, was {a}"


def check(name, image, file_name, kind, folder):
    name = f"{name}, {kind}"
    source, target = f"{folder}/{file_name}", f"{folder}/target.nii.gz"
    nib.save(image, source)
    subprocess.run([sys.argv[1], kind, source, target], check=True)
    expected, got = nib.load(source), nib.load(target)
    is_second = isinstance(expected.header, nib.nifti2.Nifti2Header)
    assert type(got) is (nib.Nifti2Image if is_second else nib.Nifti1Image), (name, type(got))
    is_stack = kind == "probabilities"
    assert got.shape == SHAPE + (2,) * is_stack, (name, got.shape)
    check_place(name, native(got.header), native(expected.header), is_stack)
    assert np.array_equal(got.affine, expected.affine), name
    assert got.get_data_dtype() == DTYPES[kind], name

    extension = json.dumps({"volumes": ["a", "b, c"]}, separators=(",", ":")) if is_stack else ""
    texts = [e.get_content().decode().rstrip("\0") for e in got.header.extensions]
    assert texts == [extension] * is_stack, (name, texts)
    with nib.openers.Opener(target) as file:
        slope = type(got.header).from_fileobj(file)["scl_slope"]
        assert np.isclose(slope, 1 / 65535 if is_stack else 1, rtol=1e-7), (name, slope)
    voxel = np.arange(np.prod(SHAPE))
    if kind == "image":
        data = expected.get_fdata().reshape(SHAPE + (-1,))[..., 0].astype(np.float32)
    elif kind == "labels":
        data = (voxel % 5).reshape(SHAPE, order="F")
    elif kind == "map":
        data = (0.25 * voxel).reshape(SHAPE, order="F")
    else:
        data = np.stack([(7 * voxel + 13 * i) % 101 / 100 for i in range(2)], -1)
        data = data.reshape(SHAPE + (2,), order="F")
        assert np.abs(got.get_fdata() - data).max() < 0.51 / 65535, name
        return
    assert np.array_equal(got.get_fdata(), data), name


count = 0
with tempfile.TemporaryDirectory() as folder:
    for (name, image, file_name), kind in itertools.product(references(), DTYPES):
        check(name, image, file_name, kind, folder)
        count += 1
print(count, "files written as their references lie")
