"""What each consumer of an export ignores or replaces, in one sentence each, with the numbers of the file at hand.

An export that loads is not yet the model that was scored: consumers choose between short and long factors by rules of
their own, and some compute an attention factor instead of reading it. These sentences go out beside every export.
"""

from __future__ import annotations

from collections.abc import Callable

from search_space.factors.exports import mlx_max_position_embeddings
from search_space.factors.factor_file import FactorFile
from search_space.rope.attention import longrope_attention_factor

GGUF = "gguf"  # the format that needs the model's weights, so that `search_space.factors.exports` cannot write it


def export_notes(file: FactorFile, format: str) -> tuple[str, ...]:
    """Sentences for who loads `file` in `format`; none for `json`, which is read by Ropewalk itself."""
    return _NOTES[format](file) if format in _NOTES else ()


def _rule(length: int, original_length: int) -> float:
    """The attention factor that a consumer computes for itself from the two lengths."""
    if length <= original_length or original_length < 2:
        return 1.0
    return longrope_attention_factor(length / original_length, original_length)


def _own_rule(file: FactorFile) -> float:
    return _rule(file.target_length, file.original_max_position_embeddings)


def _hf(file: FactorFile) -> tuple[str, ...]:
    length, factor = file.original_max_position_embeddings, file.attention_factor
    notes = [
        f"transformers chooses per forward pass: short_factor up to {length} tokens, long_factor beyond; most model "
        f"families keep their cache, so text generated across {length} tokens reads keys rotated by short_factor.",
        "transformers does not know short_mscale and long_mscale, which vLLM reads, and warns of them.",
    ]
    if factor != 1.0:
        notes.append(f"transformers applies attention_factor {factor:.4f} to inputs within {length} tokens too.")
    return tuple(notes)


def _vllm(file: FactorFile) -> tuple[str, ...]:
    length, factor = file.original_max_position_embeddings, file.attention_factor
    return (
        f"vLLM chooses once, at start: with --max-model-len above {length} it uses long_factor at every position and "
        f"ignores short_factor, for short prompts too; with at most {length} it uses short_factor. Always pass it.",
        f"vLLM ignores attention_factor and factor: it applies {factor:.4f} because short_mscale and long_mscale say "
        f"so, and by its own rule would apply {_own_rule(file):.4f}.",
    )


def _mlx(file: FactorFile) -> tuple[str, ...]:
    length, target = file.original_max_position_embeddings, mlx_max_position_embeddings(file)
    applied = _rule(target, length)
    exact = "" if abs(applied - file.attention_factor) < 5e-5 else ", the nearest that it can"
    return (
        "mlx-lm ignores short_factor: it uses long_factor at every position, short prompts included.",
        f"mlx-lm ignores attention_factor and computes one from max_position_embeddings: {_own_rule(file):.4f} for the "
        f"target length {file.target_length}, where the factors were scored with {file.attention_factor:.4f}. "
        f"max_position_embeddings is therefore {target} here, not the context length, and mlx-lm applies "
        f"{applied:.4f}{exact}.",
    )


def _gguf(file: FactorFile) -> tuple[str, ...]:
    length, factor = file.original_max_position_embeddings, file.attention_factor
    return (
        f"llama.cpp chooses once, when it makes a context: with more than {length} tokens per sequence (--ctx-size "
        "over --parallel) it uses the long factors at every position, short prompts included, else the short ones.",
        f"llama.cpp applies rope.scaling.attn_factor {factor:.4f} at every length; its own converter, given the hf "
        f"export, ignores attention_factor and would write {_own_rule(file):.4f} by its own rule.",
    )


def _csv(file: FactorFile) -> tuple[str, ...]:
    return (f"csv holds long_factor only: not short_factor, not attention_factor {file.attention_factor:.4f}.",)


_NOTES: dict[str, Callable[[FactorFile], tuple[str, ...]]] = {
    "hf": _hf,
    "vllm": _vllm,
    "mlx": _mlx,
    "csv": _csv,
    GGUF: _gguf,
}
