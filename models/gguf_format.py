"""Tables and bounds of the GGUF format: value types, tensor types with their block sizes, names of file types.

Source: GGUF specification (ggml docs/gguf.md); block sizes as ``ggml_blck_size``/``ggml_type_size`` of ggml 0.25.3 give
them; file types as ``enum llama_ftype`` of llama.cpp 0c1e57098.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib import resources
from typing import Final

MAGIC: Final = b"GGUF"
READABLE_VERSIONS: Final = (2, 3)
DEFAULT_ALIGNMENT: Final = 32

# Bounds. Real headers are far inside them: the 671B has about 1,100 tensors, 50 entries and 5 MB of header.
MAX_HEADER_BYTES: Final = 128 * 1024 * 1024
MAX_METADATA_ENTRIES: Final = 16_384
MAX_TENSORS: Final = 131_072
MAX_KEY_BYTES: Final = 65_535
MAX_STRING_BYTES: Final = 4 * 1024 * 1024
MAX_ARRAY_STRINGS: Final = 4_194_304
MAX_KEPT_BYTES: Final = 32 * 1024 * 1024
MAX_INLINE_ELEMENTS: Final = 1024
MAX_TENSOR_NAME_BYTES: Final = 63
MAX_DIMENSIONS: Final = 4
MAX_ALIGNMENT: Final = 1024 * 1024
READ_TIME_LIMIT_S: Final = 10.0

STRING: Final = 8
ARRAY: Final = 9
BOOL: Final = 7

NUMBER_FORMATS: Final[dict[int, struct.Struct]] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
"""Metadata value types of fixed size, by their number; 7 is a bool of one byte."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """How a tensor's numbers are stored: ``block_bytes`` for every ``block_elements`` of a row."""

    name: str
    block_elements: int
    block_bytes: int


TENSOR_TYPES: Final[dict[int, TensorType]] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}
"""By number. The gaps are forms that ggml has dropped."""

FILE_TYPES: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    0: ("F32", ("F32",)),
    1: ("F16", ("F16",)),
    2: ("Q4_0", ("Q4_0",)),
    3: ("Q4_1", ("Q4_1",)),
    7: ("Q8_0", ("Q8_0",)),
    8: ("Q5_0", ("Q5_0",)),
    9: ("Q5_1", ("Q5_1",)),
    10: ("Q2_K", ("Q2_K",)),
    11: ("Q3_K_S", ("Q3_K",)),
    12: ("Q3_K_M", ("Q3_K",)),
    13: ("Q3_K_L", ("Q3_K",)),
    14: ("Q4_K_S", ("Q4_K",)),
    15: ("Q4_K_M", ("Q4_K",)),
    16: ("Q5_K_S", ("Q5_K",)),
    17: ("Q5_K_M", ("Q5_K",)),
    18: ("Q6_K", ("Q6_K",)),
    19: ("IQ2_XXS", ("IQ2_XXS",)),
    20: ("IQ2_XS", ("IQ2_XS",)),
    21: ("Q2_K_S", ("Q2_K",)),
    22: ("IQ3_XS", ("IQ3_S", "IQ3_XXS")),
    23: ("IQ3_XXS", ("IQ3_XXS",)),
    24: ("IQ1_S", ("IQ1_S",)),
    25: ("IQ4_NL", ("IQ4_NL",)),
    26: ("IQ3_S", ("IQ3_S",)),
    27: ("IQ3_M", ("IQ3_S",)),
    28: ("IQ2_S", ("IQ2_XS", "IQ2_S")),
    29: ("IQ2_M", ("IQ2_S",)),
    30: ("IQ4_XS", ("IQ4_XS",)),
    31: ("IQ1_M", ("IQ1_M",)),
    32: ("BF16", ("BF16",)),
    36: ("TQ1_0", ("TQ1_0",)),
    37: ("TQ2_0", ("TQ2_0",)),
    38: ("MXFP4_MOE", ("MXFP4",)),
    39: ("NVFP4", ("NVFP4",)),
    40: ("Q1_0", ("Q1_0",)),
    41: ("Q2_0", ("Q2_0",)),
}
"""``general.file_type`` -> label and the tensor types of which at least one must occur for the label to be believed."""


def known_architectures() -> frozenset[str]:
    """Architecture names of the llama.cpp this box is built with (the list is reviewed data; llama.cpp itself has the
    last word when it loads)."""
    text = resources.files("models").joinpath("architectures.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
