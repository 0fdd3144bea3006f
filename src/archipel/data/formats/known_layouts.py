"""Known layouts: how public datasets and common programs lay out their files, each a record of path templates.

A record has no code. The more special ones come first: a folder is taken for the first that explains all of it.
Sources: the download pages of the challenges (BraTS, KiTS, LiTS, MM-WHS, ACDC, BTCV, VerSe, HECKTOR, PROMISE12,
LUNA16) and of TotalSegmentator.
"""

from __future__ import annotations

from archipel.vocabulary import Record

_IMAGES = "{:images|image|imgs|img|imagestr|scans|scan|volumes|vol|ct|mr|mri}"
_LABELS = (
    "{:labels|label|labelstr|masks|mask|segmentations|segmentation|segs|seg|gt|ground_truth|ground truth|groundtruth|"
    "annotations|annotation|contours}"
)
_LABEL = "{:label|labels|mask|masks|seg|segm|segmentation|gt|groundtruth|ground_truth|labelmap|roi|lesion|tumor|tumour}"
_ANY_LABEL = (
    "{:label|labels|labelmap|*_label|*_labels|label_*|mask|masks|*mask|mask_*|seg|segm|*_seg|*-seg|seg_*|*segmentation|gt|"
    "*_gt|ground?truth|groundtruth|roi|*_roi|*lesion|tumor|tumour}"
)
_MODALITIES = "ct|cbct|pt|pet|mr|mri|t1|t1w|t1c|t1ce|t2|t2w|flair|adc|dwi|swi|pd"
_SPLIT = "{split:train|training|val|valid|validation|dev|test|testing}"
_IMAGE = "{:image|img|im|scan|volume|vol|ct|mr|mri|orig}"
_UNUSED = ("imagesTs/*", "labelsTs/*", "imagesTs/*/*", "labelsTs/*/*")
"""Images that a challenge keeps for its own test."""


class KnownLayout(Record):
    """A layout by its templates. ``image`` templates have a part ``modality``, or give the one modality ``image``.

    A ``label`` template with a part ``structure`` is a file for each structure. ``unused`` are patterns of files that
    the layout has and that are not read. Named parts beside subject, session, modality and structure become values.
    """

    name: str
    title: str
    image: tuple[str, ...]
    label: tuple[str, ...] = ()
    unused: tuple[str, ...] = _UNUSED


KNOWN_LAYOUTS: tuple[KnownLayout, ...] = (
    KnownLayout(
        name="brats",
        title="BraTS 2018 to 2021: a folder for each patient, four modalities and seg",
        image=("{subject}/{subject}_{modality:flair|t1|t1ce|t1gd|t2}",),
        label=("{subject}/{subject}_seg",),
    ),
    KnownLayout(
        name="brats-grades",
        title="BraTS 2018 and 2019: HGG/ and LGG/ with a folder for each patient",
        image=("{group:hgg|lgg}/{subject}/{subject}_{modality:flair|t1|t1ce|t1gd|t2}",),
        label=("{group:hgg|lgg}/{subject}/{subject}_seg",),
    ),
    KnownLayout(
        name="brats-2023",
        title="BraTS 2023 and later: a folder for each patient and visit, t1n, t1c, t2w, t2f and seg",
        image=("{subject}-{session:#}/{subject}-{session:#}-{modality:t1n|t1c|t2w|t2f}",),
        label=("{subject}-{session:#}/{subject}-{session:#}-seg",),
    ),
    KnownLayout(
        name="brats-radiotherapy",
        title="BraTS 2024, meningioma radiotherapy: a folder for each patient, t1c and gtv",
        image=("{subject}-{session:#}/{subject}-{session:#}_{modality:t1c}",),
        label=("{subject}-{session:#}/{subject}-{session:#}_gtv",),
    ),
    KnownLayout(
        name="kits",
        title="KiTS: case_00000/imaging with segmentation",
        image=("{subject}/imaging",),
        label=("{subject}/segmentation",),
        unused=("*/instances/*", "*/*_instance-*", *_UNUSED),
    ),
    KnownLayout(
        name="lits",
        title="LiTS: volume-0 with segmentation-0",
        image=("volume-{subject}",),
        label=("segmentation-{subject}",),
    ),
    KnownLayout(
        name="lits-batches",
        title="LiTS as it is downloaded: Training Batch 1/volume-0 with segmentation-0",
        image=("{:training batch #|training_batch_#|training batch#|batch #|batch#}/volume-{subject}",),
        label=("{:training batch #|training_batch_#|training batch#|batch #|batch#}/segmentation-{subject}",),
    ),
    KnownLayout(
        name="totalsegmentator",
        title="TotalSegmentator: s0001/ct with s0001/segmentations/, a file for each structure",
        image=("{subject}/{modality:ct|mri|mr}",),
        label=("{subject}/segmentations/{structure}",),
    ),
    KnownLayout(
        name="acdc",
        title="ACDC: patient001/patient001_frame01 with patient001_frame01_gt",
        image=("{subject}/{subject}_{session:frame#}",),
        label=("{subject}/{subject}_{session:frame#}_gt",),
        unused=("*/*_4d.*", "*/*/*_4d.*", *_UNUSED),
    ),
    KnownLayout(
        name="btcv",
        title="BTCV: img/img0001 with label/label0001",
        image=("img/img{subject:#}",),
        label=("label/label{subject:#}",),
    ),
    KnownLayout(
        name="verse",
        title="VerSe: rawdata/sub-x/sub-x_ct with derivatives/sub-x/sub-x_seg-vert_msk",
        image=("rawdata/{subject}/{subject}_ct", "rawdata/{subject}/{subject}_{session}_ct"),
        label=(
            "derivatives/{subject}/{subject}_seg-vert_msk",
            "derivatives/{subject}/{subject}_{session}_seg-vert_msk",
        ),
    ),
    KnownLayout(
        name="hecktor",
        title="HECKTOR 2022: imagesTr/CHUM-001__CT and __PT with labelsTr/CHUM-001",
        image=("imagesTr/{subject}__{modality:ct|pt}",),
        label=("labelsTr/{subject}",),
    ),
    KnownLayout(
        name="hecktor-2020",
        title="HECKTOR 2020 and 2021: CHGJ007_ct and CHGJ007_pt with CHGJ007_gtvt",
        image=("{subject}_{modality:ct|pt}",),
        label=("{subject}_{:gtvt|ct_gtvt}",),
    ),
    KnownLayout(
        name="hecktor-2025",
        title="HECKTOR 2025: a folder for each patient, P/P__CT and P/P__PT with P/P",
        image=("{subject}/{subject}__{modality:ct|pt}",),
        label=("{subject}/{subject}",),
    ),
    KnownLayout(
        name="luna16",
        title="LUNA16: subset0/SERIES with seg-lungs-LUNA16/SERIES",
        image=("{split:subset#}/{subject}",),
        label=("seg-lungs-LUNA16/{subject}",),
    ),
    KnownLayout(
        name="luna16-images",
        title="LUNA16 without its masks of lungs: subset0/SERIES",
        image=("{split:subset#}/{subject}",),
    ),
    KnownLayout(
        name="promise12",
        title="PROMISE12: Case00 with Case00_segmentation",
        image=("{subject}",),
        label=("{subject}_segmentation",),
    ),
    KnownLayout(
        name="promise12-parts",
        title="PROMISE12 as it is downloaded: TrainingData_Part1/Case00 with Case00_segmentation",
        image=("{:trainingdata_part#|training_data_part#}/{subject}",),
        label=("{:trainingdata_part#|training_data_part#}/{subject}_segmentation",),
    ),
    KnownLayout(
        name="images-and-seg-nrrd",
        title="images/P with labels/P.seg.nrrd, as 3D Slicer writes segmentations",
        image=(f"{_IMAGES}/{{subject}}",),
        label=(f"{_LABELS}/{{subject}}.seg.nrrd",),
    ),
    KnownLayout(
        name="seg-nrrd",
        title="P with P.seg.nrrd in one folder, as 3D Slicer writes segmentations",
        image=("{subject}",),
        label=("{subject}.seg.nrrd",),
    ),
    KnownLayout(
        name="channels-and-labels",
        title="imagesTr/P_0000 with labelsTr/P, nnU-Net without its dataset.json",
        image=("imagesTr/{subject}_{modality:????}",),
        label=("labelsTr/{subject}",),
    ),
    KnownLayout(
        name="images-and-labels",
        title="a folder of images and one of labels, under the same names",
        image=(f"{_IMAGES}/{{subject}}",),
        label=(f"{_LABELS}/{{subject}}",),
    ),
    KnownLayout(
        name="images-and-labels-of-parts",
        title="images/train/P with labels/train/P",
        image=(f"{_IMAGES}/{_SPLIT}/{{subject}}",),
        label=(f"{_LABELS}/{_SPLIT}/{{subject}}",),
    ),
    KnownLayout(
        name="modality-folders-and-labels",
        title="a folder for each modality and one of labels: CT/P, PET/P and masks/P",
        image=(f"{{modality:{_MODALITIES}}}/{{subject}}",),
        label=(f"{_LABELS}/{{subject}}",),
    ),
    KnownLayout(
        name="images-and-labels-by-subject",
        title="images/P/T1 with labels/P/seg",
        image=(f"{_IMAGES}/{{subject}}/{{modality}}",),
        label=(f"{_LABELS}/{{subject}}/{{*}}",),
    ),
    KnownLayout(
        name="subject-folders-and-seg-nrrd",
        title="P/CT with P/Segmentation.seg.nrrd, as 3D Slicer writes segmentations",
        image=("{subject}/{modality}",),
        label=("{subject}/{*}.seg.nrrd",),
    ),
    KnownLayout(
        name="named-subject-folders",
        title="a folder for each subject: P/P_T1 with P/P_seg",
        image=("{subject}/{subject}_{modality}",),
        label=(f"{{subject}}/{{subject}}_{_ANY_LABEL}",),
    ),
    KnownLayout(
        name="subject-folders",
        title="a folder for each subject: P/T1 with P/seg",
        image=("{subject}/{modality}",),
        label=(f"{{subject}}/{_ANY_LABEL}",),
    ),
    KnownLayout(
        name="subject-folders-of-one-image-and-seg-nrrd",
        title="a folder for each subject with one image and one P.seg.nrrd, whatever they are called",
        image=("{subject}/{*}",),
        label=("{subject}/{*}.seg.nrrd",),
    ),
    KnownLayout(
        name="subject-folders-of-one-image",
        title="a folder for each subject with one image and one label, whatever the image is called",
        image=("{subject}/{*}",),
        label=(f"{{subject}}/{_ANY_LABEL}",),
    ),
    KnownLayout(
        name="modality-folders",
        title="a folder for each subject and modality: P/T1/x with P/seg/x",
        image=("{subject}/{modality}/{*}",),
        label=(f"{{subject}}/{_LABELS}/{{*}}",),
    ),
    KnownLayout(
        name="image-and-label-beside",
        title="P_image with P_label in one folder",
        image=(f"{{subject}}_{_IMAGE}",),
        label=(f"{{subject}}_{_LABEL}",),
    ),
    KnownLayout(
        name="label-beside",
        title="P with P_seg in one folder",
        image=("{subject}",),
        label=tuple(f"{{subject}}{sign}{_LABEL}" for sign in "_-. "),
    ),
    KnownLayout(
        name="named-subject-folders-of-images",
        title="a folder for each subject: P/P_T1",
        image=("{subject}/{subject}_{modality}",),
    ),
    KnownLayout(
        name="subject-folders-of-images",
        title="a folder for each subject: P/T1",
        image=("{subject}/{modality}",),
    ),
    KnownLayout(
        name="modality-folders-of-images",
        title="a folder for each modality: CT/P and PET/P",
        image=(f"{{modality:{_MODALITIES}}}/{{subject}}",),
    ),
    KnownLayout(
        name="images-in-a-folder",
        title="images/P without labels",
        image=(f"{_IMAGES}/{{subject}}",),
    ),
    KnownLayout(
        name="images-alone",
        title="one folder of images",
        image=("{subject}",),
    ),
)
LAYOUTS = {one.name: one for one in KNOWN_LAYOUTS}
