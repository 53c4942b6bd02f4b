"""What MONAI's published metadata schema, meta_schema_20240725.json, demands of a bundle's metadata.json.

Tests run where it cannot be downloaded, so its demands are written down here once more, after the copy that the MONAI
project keeps in the public/schema folder of its web site; only the descriptions are left out.
"""

from __future__ import annotations

__all__ = ["SCHEMA"]

REQUIRED = "schema version monai_version pytorch_version numpy_version required_packages_version task description"
REQUIRED += " authors copyright network_data_format"
TEXTS = "schema version monai_version pytorch_version numpy_version task description authors copyright data_source"
TEXTS += " data_type image_classes label_classes pred_classes intended_use"
MAPPINGS = "changelog required_packages_version eval_metrics supported_apps"


def of(kind, **more):
    return {"type": kind, **more}


TENSOR = of(
    "object",
    properties={
        "type": of("string"),
        "format": of("string"),
        "num_channels": of("integer"),
        "spatial_shape": of("array", items=of(["string", "integer"])),
        "dtype": of("string"),
        "value_range": of("array", items=of("number")),
        "is_patch_data": of("boolean"),
        "channel_def": of("object"),
    },
    required=["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
)
ARGUMENT = {"anyOf": [of("number"), of("integer"), of("string"), of("boolean"), TENSOR]}
ARGUMENTS = of("object", patternProperties={"^.+$": ARGUMENT})
NETWORK = of(
    "object",
    properties={"inputs": ARGUMENTS, "outputs": ARGUMENTS, "post_processed_outputs": ARGUMENTS},
    required=["inputs", "outputs"],
)
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2019-09/schema",
    **of(
        "object",
        properties={
            **{name: of("string") for name in TEXTS.split()},
            **{name: of("object") for name in MAPPINGS.split()},
            "references": of("array", items=of("string")),
        },
        # a bundle may describe further networks
        patternProperties={"^[_a-zA-Z0-9]+_data_format$": NETWORK},
        required=REQUIRED.split(),
    ),
}
