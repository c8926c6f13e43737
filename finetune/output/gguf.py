"""A model's GGUF with the found factors in it, for llama.cpp.

llama.cpp reads `longrope` from a GGUF, not from a config:

    <arch>.context_length                        L'
    <arch>.rope.scaling.type                     "longrope"
    <arch>.rope.scaling.original_context_length  L
    <arch>.rope.scaling.attn_factor              A, which multiplies cos and sin as transformers' attention_factor does
    <arch>.rope.freq_base                        rope_theta
    rope_factors_short.weight                    float32 (n,), what a context of at most L tokens divides its angles by
    rope_factors_long.weight                     float32 (n,), the same for a longer context

Everything else is copied byte for byte, whatever quantisation it has: the input is mapped, never loaded, and its tensor
data is passed on in pieces. The new tensors come last, so that no offset of the others moves.

Here and not in `search_space`, which does no I/O: this room writes models that other programs load.
"""

import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np

from finetune.errors import UnsupportedGguf
from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.exports.gguf import check_holds
from ropewalk.factors.factor_file import FactorFile

#: Architectures whose loader in llama.cpp reads the two factor tensors; any other refuses a file that has them.
ARCHITECTURES = frozenset({"apertus", "llama", "minicpm", "phi3", "phimoe"})
#: transformers' model types that llama.cpp's converter makes these of.
MODEL_TYPES = frozenset({"apertus", "llama", "minicpm", "mistral", "mixtral", "phi3", "phimoe"})
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
_FREQS = "rope_freqs.weight"  # Llama 3.1's own scaling
_FREQS_REASON = ": llama.cpp divides by that at every length, and then reads neither short nor long factors"
_SCALING_TENSORS = frozenset({LONG_FACTORS, SHORT_FACTORS, _FREQS})
_UNSCALED: Mapping[str, tuple[object, ...]] = {
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (0.0, 1.0),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scale_linear": (0.0, 1.0),
}
_DEFAULT_FREQ_BASE = 10000.0  # what llama.cpp takes where the key is missing
_COPY_BYTES = 16 * 1024 * 1024
_NUM_HEADER_FIELDS = 3  # version and the two counts, which the reader lists among the keys


def write_gguf(file: FactorFile, *, source: Path, output: Path) -> None:
    """Write `source`, a GGUF of the model, with the factors in it to `output`, which appears whole or not at all.

    Raises:
        UnsupportedGguf: `source` is no GGUF, one of several parts, scaled already, or of an architecture without
            `longrope`; or `output` is `source`.
        FactorsDoNotFit: its rotary embedding is not the one that the factors were found for.
        InvalidFactorFile: a GGUF has no place for what this family's config says.
        OSError: the disk does not give or take it.
    """
    if output.exists() and output.samefile(source):
        raise UnsupportedGguf(f"the output must be another file than the model's GGUF, but got output={output}")
    check_holds(file)
    model = _Gguf.open(source)
    model.check_unscaled()
    model.check_fits(file)
    with _appearing_whole(output) as stream:
        model.write_with(_metadata(file, model.architecture), _tensors(file), stream)


def _metadata(file: FactorFile, architecture: str) -> dict[str, bytes]:
    """The keys that change, each as the bytes of its type and value, little-endian."""
    values = {
        "context_length": _uint32(file.target_length),
        "rope.scaling.type": _string(gguf.RopeScalingType.LONGROPE.value),
        "rope.scaling.original_context_length": _uint32(file.original_max_position_embeddings),
        "rope.scaling.attn_factor": _float32(file.attention_factor),
        "rope.freq_base": _float32(file.model.rope_theta),
    }
    return {f"{architecture}.{key}": value for key, value in values.items()}


def _tensors(file: FactorFile) -> dict[str, bytes]:
    factors = {LONG_FACTORS: file.long_factor, SHORT_FACTORS: file.short_factor}
    return {name: values.as_array().astype("<f4").tobytes() for name, values in factors.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gguf:
    """A mapped GGUF. `path` is read once more for the tensor data."""

    path: Path
    reader: gguf.GGUFReader
    architecture: str

    @classmethod
    def open(cls, path: Path) -> "_Gguf":
        try:
            reader = gguf.GGUFReader(path)
        except OSError:
            raise
        except Exception as error:  # whatever a broken file makes the reader raise
            raise UnsupportedGguf(f"the model must be a GGUF that can be read, but {path} is not: {error}") from error
        if reader.endianess is not gguf.GGUFEndian.LITTLE:
            raise UnsupportedGguf(f"the GGUF must be little-endian, but {path} is not")
        field = reader.get_field(gguf.Keys.General.ARCHITECTURE)
        architecture = "" if field is None else field.contents()
        if architecture not in ARCHITECTURES:
            raise UnsupportedGguf(
                "llama.cpp reads rope factors from models of architecture "
                f"{', '.join(sorted(ARCHITECTURES))} only, but {path} has {architecture or 'none'}"
            )
        if not reader.tensors:
            raise UnsupportedGguf(f"the GGUF must hold the model's tensors, but {path} has none")
        return cls(path=path, reader=reader, architecture=architecture)

    def value(self, key: str) -> Any:
        """The value of an architecture's key, of whatever type it has; None where it is missing."""
        field = self.reader.get_field(f"{self.architecture}.{key}")
        return None if field is None else field.contents()

    def check_unscaled(self) -> None:
        """Refuse what would leave two scalings in one file, and a part of a model."""
        parts = self.reader.get_field(gguf.Keys.Split.LLM_KV_SPLIT_COUNT)
        if parts is not None and int(parts.contents()) > 1:
            raise UnsupportedGguf(
                f"the GGUF must be in one file, but {self.path} is one of {parts.contents()}; "
                "join them first: llama-gguf-split --merge FIRST OUT"
            )
        found = sorted(_SCALING_TENSORS & {tensor.name for tensor in self.reader.tensors})
        found += [
            f"{key}={value}" for key, plain in _UNSCALED.items() if (value := self.value(key)) not in (None, *plain)
        ]
        if found:
            reason = _FREQS_REASON if _FREQS in found else ""
            raise UnsupportedGguf(
                f"the GGUF must carry no rope scaling yet, but {self.path} has {', '.join(found)}{reason}"
            )

    def check_fits(self, file: FactorFile) -> None:
        """Compare the rotary embedding with the one that the factors were found for."""
        stated = self.value("rope.freq_base")
        base = _DEFAULT_FREQ_BASE if stated is None else stated
        if np.float32(file.model.rope_theta) != np.float32(base):
            raise FactorsDoNotFit(
                f"the factors are for rope_theta={file.model.rope_theta}, but {self.path} has rope.freq_base={base}"
            )
        rotary_dim = self._rotary_dim()
        if rotary_dim != file.model.rotary_dim:
            raise FactorsDoNotFit(
                f"the factors are for rotary_dim={file.model.rotary_dim}, but {self.path} has {rotary_dim}"
            )
        length, original = self.value("context_length"), file.original_max_position_embeddings
        if length is not None and length < original:
            raise FactorsDoNotFit(
                f"the factors are for original_max_position_embeddings={original}, "
                f"but {self.path} has context_length={length}"
            )

    def _rotary_dim(self) -> Any:
        """As llama.cpp finds it: stated, else the width of a key, else the hidden size over the heads."""
        for key in ("rope.dimension_count", "attention.key_length"):
            if (stated := self.value(key)) is not None:
                return stated
        width, heads = self.value("embedding_length"), self.value("attention.head_count")
        return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else "unknown"

    def write_with(self, metadata: Mapping[str, bytes], tensors: Mapping[str, bytes], stream: BinaryIO) -> None:
        """Write this file with `metadata` replaced or added and `tensors`, of float32 and one dimension, added."""
        kept = [piece for name, piece in self._metadata() if name not in metadata]
        counts = (len(self.reader.tensors) + len(tensors), len(kept) + len(metadata))
        stream.write(struct.pack("<IIQQ", gguf.GGUF_MAGIC, gguf.GGUF_VERSION, *counts))
        stream.writelines(kept)
        stream.writelines(_text(key) + value for key, value in metadata.items())
        stream.write(self._bytes(self._infos_start(), self._infos_end()))
        offset = self._aligned(self._data_size())
        for name, data in tensors.items():
            stream.write(_tensor_info(name, size=len(data) // 4, offset=offset))
            offset = self._aligned(offset + len(data))
        self._pad(stream)
        self._copy_data(stream)
        for data in tensors.values():
            stream.write(data)
            self._pad(stream)

    def _metadata(self) -> Iterator[tuple[str, bytes]]:
        """Every key with the bytes of its name, type and value. A key ends where the next begins."""
        fields = list(self.reader.fields.values())[_NUM_HEADER_FIELDS:]
        ends = [field.offset for field in fields[1:]] + [self._infos_start()]
        for field, end in zip(fields, ends, strict=True):
            yield field.name, self._bytes(field.offset, end)

    def _infos_start(self) -> int:
        return self.reader.tensors[0].field.offset

    def _infos_end(self) -> int:
        last = self.reader.tensors[-1].field
        return last.offset + sum(int(part.nbytes) for part in last.parts)

    def _data_start(self) -> int:
        return int(self.reader.data_offset)  # with an alignment of its own a numpy uint32, which would overflow

    def _data_size(self) -> int:
        return max(tensor.data_offset + tensor.n_bytes for tensor in self.reader.tensors) - self._data_start()

    def _bytes(self, start: int, end: int) -> bytes:
        return bytes(self.reader.data[start:end])

    def _aligned(self, offset: int) -> int:
        return offset + -offset % int(self.reader.alignment)

    def _pad(self, stream: BinaryIO) -> None:
        stream.write(bytes(-stream.tell() % int(self.reader.alignment)))

    def _copy_data(self, stream: BinaryIO) -> None:
        left = self._data_size()
        with self.path.open("rb") as data:
            data.seek(self._data_start())
            while left > 0:
                piece = data.read(min(left, _COPY_BYTES))
                if not piece:
                    raise UnsupportedGguf(f"the GGUF must be whole, but {self.path} ends {left} bytes early")
                stream.write(piece)
                left -= len(piece)
        self._pad(stream)


def _uint32(value: int) -> bytes:
    return struct.pack("<II", gguf.GGUFValueType.UINT32, value)


def _float32(value: float) -> bytes:
    return struct.pack("<If", gguf.GGUFValueType.FLOAT32, value)


def _string(value: str) -> bytes:
    return struct.pack("<I", gguf.GGUFValueType.STRING) + _text(value)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _tensor_info(name: str, *, size: int, offset: int) -> bytes:
    return _text(name) + struct.pack("<IQIQ", 1, size, gguf.GGMLQuantizationType.F32, offset)


@contextmanager
def _appearing_whole(output: Path) -> Iterator[BinaryIO]:
    """A stream into a file beside `output` that takes its place when the block ends well, and else vanishes."""
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        with (scratch / output.name).open("wb") as stream:
            yield stream
        (scratch / output.name).replace(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
