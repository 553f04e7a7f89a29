"""Writes the small NIfTI files of this folder with nibabel; volume_test.cpp knows their numbers.

Every file stores the voxel values 0, 1, 2, ... in the order of the file (x fastest), size 3x4x5.
"""
import gzip
import struct

import nibabel as nib
import numpy as np

values = np.arange(60).reshape(3, 4, 5, order="F")

# A rotation by 30 degrees about the patient's z axis; voxels of 0.5 x 1 x 2.5 mm.
cos, sin = np.sqrt(3) / 2, 0.5
oblique = np.array(
    [[0.5 * cos, -sin, 0, -90], [0.5 * sin, cos, 0, 126], [0, 0, 2.5, -72], [0, 0, 0, 1]])


def save(name, dtype, kind=nib.Nifti1Image, header=None):
    image = kind(values.astype(dtype), oblique, header)
    image.set_data_dtype(dtype)
    image.set_qform(oblique, 1)
    image.set_sform(oblique, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, name)


save("oblique_int16.nii.gz", np.int16)
save("nifti2_uint8.nii.gz", np.uint8, nib.Nifti2Image)
save("big_endian_float64.nii.gz", np.float64, header=nib.Nifti1Header(endianness=">"))

# Read as 0.5 * stored - 3: scl_slope and scl_inter stand at byte 112.
save("scaled_int32.nii.gz", np.int32)
with gzip.open("scaled_int32.nii.gz") as file:
    content = bytearray(file.read())
struct.pack_into("<ff", content, 112, 0.5, -3)
with gzip.open("scaled_int32.nii.gz", "wb") as file:
    file.write(content)
