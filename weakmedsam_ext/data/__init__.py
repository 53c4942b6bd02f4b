"""Readers of public layouts, image-level labels, slice stores, splits by case, and phantoms in the same layouts."""

from .annotation_store import cache_with_unlabelled, with_unlabelled
from .cases import images_of, prediction_path
from .check import check_dataset
from .clicks import read_clicks
from .datasets.abdomenct1k import list_abdomenct1k, prepare_abdomenct1k
from .datasets.brats2019 import list_brats2019, prepare_brats2019
from .datasets.decathlon import decathlon_cases, image_items, require_images
from .datasets.la2018 import prepare_la2018
from .datasets.listing import LAYOUTS, images_only, list_cases, split_dataset
from .datasets.msd import MSD_TASKS, msd_folder, prepare_msd
from .datasets.phantoms import (
    SUBTYPES,
    AbdomenPhantom,
    BrainPhantom,
    HeartPhantom,
    abdomen_phantom,
    brain_phantom,
    heart_phantom,
    write_phantoms,
)
from .folds import read_split, split_cases
from .hashes import HashCache, content_hash
from .image_io import AtomicNibabelWriter, CheckedReader, name_of_output
from .intensity import IntensityScaling
from .io import (
    Grid,
    Volume,
    atomic_path,
    check_same_grid,
    load_case_mask,
    load_mask,
    load_volume,
    read_grid,
    read_json,
    set_aside,
    write_json,
    write_nifti,
)
from .labelled_split import semi_supervised_items, validation_items
from .patients import patients_of
from .problems import Problem, count_problems, format_problems, report_problems
from .progress import RemainingTime, duration, on_terminal, show_progress
from .reference_labels import class_numbers, write_reference_labels
from .regions.datasets import SliceMasks, SliceRegions, VolumeMasks, VolumeRegionDataset, VolumeRegions
from .regions.image_regions import region_hierarchy
from .regions.store import ReadRegionsd, RegionStore, build_region_store, build_volume_regions
from .slices.dataset import SliceDataset
from .slices.geometry import SLICE_AXES, SliceGeometry
from .slices.labels import SliceLabels, slice_labels_from_masks
from .slices.labels_csv import slice_labels_from_csv
from .slices.store import SlicePreprocessing, SliceStore, build_slice_store
from .slices.study import SliceStudy
from .slices.subclass_clustering import SubclassClustering
from .slices.subclasses import ReadSubclassd, Subclasses
from .two_stream_sampler import TwoStreamSampler, collate_two_streams
from .volume_store import VolumePreprocessing, VolumeStore, build_volume_store

__all__ = [
    "AbdomenPhantom",
    "AtomicNibabelWriter",
    "BrainPhantom",
    "CheckedReader",
    "Grid",
    "HashCache",
    "HeartPhantom",
    "IntensityScaling",
    "LAYOUTS",
    "MSD_TASKS",
    "Problem",
    "ReadRegionsd",
    "ReadSubclassd",
    "RegionStore",
    "RemainingTime",
    "SLICE_AXES",
    "SUBTYPES",
    "SliceDataset",
    "SliceGeometry",
    "SliceLabels",
    "SliceMasks",
    "SlicePreprocessing",
    "SliceRegions",
    "SliceStore",
    "SliceStudy",
    "SubclassClustering",
    "Subclasses",
    "TwoStreamSampler",
    "Volume",
    "VolumeMasks",
    "VolumePreprocessing",
    "VolumeRegionDataset",
    "VolumeRegions",
    "VolumeStore",
    "abdomen_phantom",
    "atomic_path",
    "brain_phantom",
    "build_region_store",
    "build_slice_store",
    "build_volume_regions",
    "build_volume_store",
    "cache_with_unlabelled",
    "check_dataset",
    "check_same_grid",
    "class_numbers",
    "collate_two_streams",
    "content_hash",
    "count_problems",
    "decathlon_cases",
    "duration",
    "format_problems",
    "heart_phantom",
    "image_items",
    "images_of",
    "images_only",
    "list_abdomenct1k",
    "list_brats2019",
    "list_cases",
    "load_case_mask",
    "load_mask",
    "load_volume",
    "msd_folder",
    "name_of_output",
    "on_terminal",
    "patients_of",
    "prediction_path",
    "prepare_abdomenct1k",
    "prepare_brats2019",
    "prepare_la2018",
    "prepare_msd",
    "read_clicks",
    "read_grid",
    "read_json",
    "read_split",
    "region_hierarchy",
    "report_problems",
    "require_images",
    "semi_supervised_items",
    "set_aside",
    "show_progress",
    "slice_labels_from_csv",
    "slice_labels_from_masks",
    "split_cases",
    "split_dataset",
    "validation_items",
    "with_unlabelled",
    "write_json",
    "write_nifti",
    "write_phantoms",
    "write_reference_labels",
]
