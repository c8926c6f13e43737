"""What tests ask of an engine's process; imported by processes that shall start at once, so without torch."""

from __future__ import annotations

from ropewalk.rope.config import RopeConfig
from ropewalk.rope.scaling import Scaling
from workers.vllm_backend.messages import EngineDocument, OpenEngine, ScoreGroup

REQUEST = OpenEngine(
    model="a/model",
    rope=RopeConfig(rope_theta=1000.0, rotary_dim=16, original_max_position_embeddings=64),
    original_length=64,
    target_length=256,
    dtype="float32",
    tensor_parallel=1,
    threads=1,
)
GROUP = ScoreGroup(
    scaling=Scaling.identity(8),
    documents=(EngineDocument(token_ids=(1, 2, 3), answers=(2,)),),
)
