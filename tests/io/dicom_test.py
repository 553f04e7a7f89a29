"""Series made by pydicom are read by dicom_tool (argv[1]); its segmentations are read by pydicom."""
import io
import os
import subprocess
import sys
import tempfile

import nibabel as nib
import numpy as np
import PIL.Image
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

SIZE = (6, 11, 9)  # slices, rows, columns: a frame is no whole number of bytes
SPACING = (2.5, 0.75, 0.5)
STUDY, SERIES, FRAME_OF_REFERENCE = (uid.generate_uid() for _ in range(3))


def rotation(x, y, z):
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    return (np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
            @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]))


AXES = rotation(0.3, -0.2, 0.9)  # columns: along a row, along a column, the normal; LPS
ORIGIN = np.array([-91.25, 88.5, -40.75])
#Index(x, y, z) to RAS.
AFFINE = np.eye(4)
AFFINE[:3, :3] = np.diag([-1, -1, 1]) @ AXES @ np.diag(SPACING[::-1])
AFFINE[:3, 3] = np.array([-1, -1, 1]) * ORIGIN


def decimals(values):
    return [pydicom.valuerep.DSfloat(float(value), auto_format=True) for value in values]


def put_place(data, z):
    data.ImagePositionPatient = decimals(ORIGIN + z * SPACING[0] * AXES[:, 2])
    data.ImageOrientationPatient = decimals([*AXES[:, 0], *AXES[:, 1]])
    data.PixelSpacing = decimals(SPACING[1:])


def make_data(sop_class, bits, signed):
    data = Dataset()
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = uid.generate_uid()
    data.StudyInstanceUID = STUDY
    data.SeriesInstanceUID = SERIES
    data.FrameOfReferenceUID = FRAME_OF_REFERENCE
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName = "Müller^Jörg"
    data.PatientID = "odd"
    data.Modality = "MR"
    data.Rows, data.Columns = SIZE[1:]
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    data.PixelRepresentation = int(signed)
    return data


def put_pixels(data, stored, syntax, fragments=1):
    """stored: [frames, rows, columns]; fragments of a compressed frame."""
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    kind = "i" if data.PixelRepresentation else "u"
    frames = stored.astype(f"{order}{kind}{data.BitsAllocated // 8}")
    if syntax != uid.JPEG2000Lossless:
        data.PixelData = frames.tobytes()
        data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
        return
    streams = []
    for frame in frames:
        stream = io.BytesIO()
        PIL.Image.fromarray(frame).save(stream, format="JPEG2000", irreversible=False, no_jp2=True)
        streams.append(stream.getvalue())
    data.PixelData = encapsulate(streams, fragments_per_frame=fragments)
    data["PixelData"].is_undefined_length = True


def save(path, data, syntax):
    is_packed_here = syntax == uid.RLELossless
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if is_packed_here else syntax
    if is_packed_here:
        data.compress(syntax, generate_instance_uid=False)
    data.save_as(path, enforce_file_format=True)


def write_classic(folder, stored, syntax=uid.ExplicitVRLittleEndian, bits=16, signed=False):
    for z in range(SIZE[0]):
        data = make_data(uid.MRImageStorage, bits, signed)
        put_place(data, z)
        data.RescaleSlope, data.RescaleIntercept = 0.5, -10
        put_pixels(data, stored[z:z + 1], syntax)
        save(f"{folder}/{(5 * z + 3) % 7}.dcm", data, syntax)


def write_enhanced(folder, stored, syntax, fragments=1):
    data = make_data(uid.EnhancedMRImageStorage, 16, False)
    data.NumberOfFrames = SIZE[0]
    shared, transformation = Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = 0.5, -10
    transformation.RescaleType = "US"
    shared.PixelValueTransformationSequence = [transformation]
    data.SharedFunctionalGroupsSequence = [shared]
    groups, order = [], np.arange(SIZE[0])[::-1]
    for z in order:
        place, group = Dataset(), Dataset()
        put_place(place, z)
        for sequence, keyword in {"PlanePositionSequence": "ImagePositionPatient",
                                  "PlaneOrientationSequence": "ImageOrientationPatient",
                                  "PixelMeasuresSequence": "PixelSpacing"}.items():
            item = Dataset()
            setattr(item, keyword, getattr(place, keyword))
            setattr(group, sequence, [item])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    put_pixels(data, stored[order], syntax, fragments)
    save(f"{folder}/all.dcm", data, syntax)


def run(*arguments):
    subprocess.run([sys.argv[1], *arguments], check=True)


def check_reading(name, stored, write, *arguments):
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/series")
        write(f"{folder}/series", stored, *arguments)
        run("read", f"{folder}/series", f"{folder}/image.nii.gz")
        image = nib.load(f"{folder}/image.nii.gz")
        np.testing.assert_allclose(image.affine, AFFINE, atol=2e-5, err_msg=name)
        voxels = np.asarray(image.dataobj).transpose(2, 1, 0)
        np.testing.assert_array_equal(voxels, (stored * 0.5 - 10).astype(np.float32), err_msg=name)


def check_segmentation(stored):
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/series")
        write_classic(f"{folder}/series", stored)
        labels = (stored % 3).astype(np.uint8)
        labels[2] = 0
        nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), AFFINE), f"{folder}/labels.nii.gz")
        names = ["necrosis", "oedema", "enhancing"]
        run("segment", f"{folder}/series", f"{folder}/labels.nii.gz", f"{folder}/seg.dcm", *names)
        seg = pydicom.dcmread(f"{folder}/seg.dcm")
        assert seg.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
        assert seg.file_meta.MediaStorageSOPInstanceUID == seg.SOPInstanceUID
        assert seg.SOPClassUID == uid.SegmentationStorage
        assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (STUDY, FRAME_OF_REFERENCE)
        assert seg.PatientName == "Müller^Jörg", seg.PatientName
        assert [segment.SegmentLabel for segment in seg.SegmentSequence] == names
        sources = {data.SOPInstanceUID: data for data in
                   (pydicom.dcmread(entry.path) for entry in os.scandir(f"{folder}/series"))}
        found = np.zeros_like(labels)
        groups = seg.PerFrameFunctionalGroupsSequence
        assert seg.pixel_array.shape == (len(groups), *SIZE[1:])
        for frame, group in zip(seg.pixel_array, groups):
            assert frame.any()
            position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
            reference = group.DerivationImageSequence[0].SourceImageSequence[0]
            source = sources[reference.ReferencedSOPInstanceUID]
            assert np.array_equal(position, np.array(source.ImagePositionPatient, float))
            z = round((position - ORIGIN) @ AXES[:, 2] / SPACING[0])
            found[z][frame > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(found, labels)


random = np.random.default_rng(0)
count = 0
for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian,
               uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless):
    stored = random.integers(0, 4000, SIZE)
    check_reading(f"classic, {syntax.name}", stored, write_classic, syntax, 12)
    check_reading(f"enhanced, {syntax.name}", stored, write_enhanced, syntax)
    count += 2
for bits, signed in ((8, False), (8, True), (12, True), (16, True)):
    low = -(1 << (bits - 1)) if signed else 0
    for syntax in (uid.ExplicitVRLittleEndian, uid.RLELossless):
        stored = random.integers(low, low + (1 << bits), SIZE)
        check_reading(f"{bits} bits, signed {signed}, {syntax.name}", stored, write_classic, syntax,
                      bits, signed)
        count += 1
check_reading("frames in fragments", random.integers(0, 4000, SIZE), write_enhanced,
              uid.JPEG2000Lossless, 2)
count += 1
check_segmentation(random.integers(0, 4000, SIZE))
print(count, "series read, a segmentation written")
