"""A vLLM engine: the only file of the rooms that imports vLLM. It lives in workers/vllm_backend/child.py.

The engine runs in this process, step by step (VLLM_ENABLE_V1_MULTIPROCESSING=0): which tokens share a step follows from
the request alone, never from how fast requests arrive, so a document's score is the same to the last bit every time.
Tensor-parallel ranks are child processes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import vllm
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.utils.cpu_resource_utils import get_memory_node_info, get_visible_memory_node

from evaluation.architecture.config import normalised, said_by
from evaluation.documents.skipping import Jump
from evaluation.models.loading import telling
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.scaling import Scaling
from workers.arithmetic import arithmetic, choose_device, choose_dtype, device_name
from workers.errors import ScorerUnavailable
from workers.memory import MemoryNeeded, free_bytes, tensor_count, whole_bytes
from workers.transformers_backend.passes import TOKENS_PER_FORWARD
from workers.vllm_backend.messages import (
    AnswerScore,
    ContinuePrompt,
    Done,
    EngineDocument,
    EngineOpened,
    GroupScored,
    OpenEngine,
    PromptContinued,
    ScoreGroup,
    Work,
)
from workers.vllm_backend.model import SEQUENCES, TOKENS_PER_STEP, engine_kv_bytes, hf_overrides, model_length
from workers.vllm_backend.rotary import RescaledLayers, RotaryExtension, RotaryFacts, RotaryValues
from workers.vllm_backend.version import vllm_version

_REVISION = 2  # of this file and rotary.py: raise it with every change that moves a bit of any score
_WEIGHTS = "get_all_weights"  # of a loader of vLLM: goes through the names and tensors of the files
_WIDE_NUMBERS = 1 << 27  # answer rows times vocabulary that the V2 runner may hand back for one document: 512 MiB


class Engine:
    """One model, loaded once.

    Raises:
        ScorerUnavailable: the model does not fit the free memory, vLLM's class cannot be loaded or run here, or it
            rotates in a way that cannot be written to.
    """

    def __init__(self, request: OpenEngine) -> None:
        if request.threads is not None:
            torch.set_num_threads(request.threads)
        device = choose_device()
        self._request = request
        self._written: tuple[Scaling, tuple[Jump, ...]] | None = None
        self._llm = _load(request, device)
        config = self._llm.llm_engine.vllm_config
        self._layers = RescaledLayers(
            layer_type=request.rope.place.layer_type,
            layer_types=tuple(getattr(config.model_config.hf_text_config, "layer_types", None) or ()),
        )
        self._facts = self._inspect()
        self._vocabulary = int(config.model_config.get_vocab_size())
        self._wide = bool(config.use_v2_model_runner)
        self.opened = EngineOpened(
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            device=device_name(device),
            arithmetic=", ".join(
                (
                    "V2 runner with prompt_logprob_token_ids" if self._wide else "V1 runner with prompt_logprobs=0",
                    *self._facts.attention_backends,
                    f"{TOKENS_PER_STEP[device.type]} tokens a step",
                    f"{request.tensor_parallel} ranks",
                    arithmetic(device),
                )
            ),
            version=f"scorer {_REVISION}, vllm {vllm_version()}, torch {torch.__version__}",
            places_positions=bool(self._facts.rows) and _turns_alike(request.rope),
            tokens_per_group=TOKENS_PER_FORWARD[device.type],
        )
        self._try_out()

    def do(self, work: Work) -> Done:
        """What is asked for.

        Raises:
            RuntimeError: a rank does not have the candidate's table, or vLLM broke.
        """
        self._write(work.scaling, work.jumps if isinstance(work, ScoreGroup) else ())
        return GroupScored(scores=self._score(work)) if isinstance(work, ScoreGroup) else self._generate(work)

    def _score(self, group: ScoreGroup) -> tuple[AnswerScore, ...]:
        """In order."""
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(document.token_ids)} for document in group.documents],
            [self._parameters(document) for document in group.documents],
            use_tqdm=False,
        )
        return tuple(answer_score(document, output) for document, output in zip(group.documents, outputs, strict=True))

    def _generate(self, prompt: ContinuePrompt) -> PromptContinued:
        parameters = vllm.SamplingParams(
            max_tokens=prompt.max_new_tokens,
            temperature=0.0,
            logprobs=0,  # those of the tokens that are taken
            ignore_eos=True,  # the tokens below are all that ends a text
            stop_token_ids=list(prompt.end_tokens),
            detokenize=False,
        )
        (output,) = self._llm.generate([{"prompt_token_ids": list(prompt.token_ids)}], parameters, use_tqdm=False)
        made = output.outputs[0]
        assert made.logprobs is not None, "log-probabilities were asked for"
        nats = -sum(found[token].logprob for token, found in zip(made.token_ids, made.logprobs, strict=True))
        return PromptContinued(token_ids=tuple(made.token_ids), nats=nats)

    def close(self) -> None:
        """End the ranks, which give back the shared memory between them."""
        self._llm.llm_engine.engine_core.shutdown()

    def _inspect(self) -> RotaryFacts:
        """What every rank says alike of its rotary modules."""
        told: list[RotaryFacts | str] = self._llm.collective_rpc(
            RotaryExtension.ropewalk_inspect_rotary.__name__, args=(self._layers,)
        )
        rope = self._request.rope
        for facts in told:
            if isinstance(facts, str):
                raise ScorerUnavailable(facts)
            rows, width = model_length(self._request.target_length), 2 * (rope.place.table_pairs or rope.num_pairs)
            if (facts.rows is not None and facts.rows < rows) or facts.width != width:
                raise ScorerUnavailable(
                    f"a rotary table must have {rows} positions of {width} numbers for "
                    f"target_length={self._request.target_length}, but got {facts.rows} of {facts.width}"
                )
        assert isinstance(facts, RotaryFacts)
        return facts

    def _try_out(self) -> None:
        """Score a few tokens: what no kernel here can compute fails on opening, not on the first candidate."""
        length = min(8, self._request.target_length)
        document = EngineDocument(token_ids=tuple(range(1, length + 1)), answers=(length - 1,))
        self.do(ScoreGroup(scaling=Scaling.identity(self._request.rope.num_pairs), documents=(document,)))

    def _write(self, scaling: Scaling, jumps: tuple[Jump, ...]) -> None:
        """Put the candidate into every rank, unless it is there; what is read back must be what was meant."""
        if self._written == (scaling, jumps):
            return
        self._written = None
        values = RotaryValues.of(
            self._request.rope,
            scaling,
            rows=self._facts.rows or 0,
            dtype=getattr(torch, self._facts.dtype),
            jumps=jumps,
        )
        written = RotaryExtension.ropewalk_write_rotary.__name__
        read_back = {
            digest for rank in self._llm.collective_rpc(written, args=(values, self._layers)) for digest in rank
        }
        if not read_back or not read_back <= values.digests:
            raise RuntimeError(
                f"every rank must rotate with the candidate's table, digest {sorted(values.digests)}, but read back "
                f"{sorted(read_back)}"
            )
        self._written = scaling, jumps

    def _parameters(self, document: EngineDocument) -> vllm.SamplingParams:
        """One token is generated, which vLLM insists on; the step that reads the last prompt token gives it."""
        common: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "detokenize": False, "ignore_eos": True}
        start = document.answers[0] - 1  # row p predicts token p + 1
        rows = len(document.token_ids) - 1 - start
        if self._wide and rows * self._vocabulary <= _WIDE_NUMBERS:
            # All of the vocabulary, because whether an answer is the first choice is asked too.
            ids = np.broadcast_to(np.arange(self._vocabulary, dtype=np.int32), (rows, self._vocabulary))
            return vllm.SamplingParams(**common, prompt_logprob_token_ids=ids, prompt_logprob_start=start)
        return vllm.SamplingParams(**common, prompt_logprobs=0, flat_logprobs=True)


def _turns_alike(rope: RopeConfig) -> bool:
    """Whether all that follows from positions is in the one table: no other layers' rope, no scale of queries."""
    return rope.place.layer_type is None and "llama_4_scaling_beta" not in rope.place.carried.as_dict()


def answer_score(document: EngineDocument, output: vllm.RequestOutput) -> AnswerScore:
    """From what the engine gave for a document's prompt: by either of the two ways it was asked."""
    wide = output.prompt_token_id_logprobs
    if wide is not None:  # (rows from the one before the first answer, vocabulary)
        first = document.answers[0]
        picked = [(wide[position - first], document.token_ids[position]) for position in document.answers]
        return AnswerScore(
            nats=-sum(float(row[token]) for row, token in picked),
            correct=sum(int(row.argmax()) == token for row, token in picked),
        )
    assert output.prompt_logprobs is not None, "prompt log-probabilities were asked for"
    found = [output.prompt_logprobs[position][document.token_ids[position]] for position in document.answers]
    return AnswerScore(nats=-sum(one.logprob for one in found), correct=sum(one.rank == 1 for one in found))


def _load(request: OpenEngine, device: torch.device) -> vllm.LLM:
    path = Path(request.model)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    dtype = choose_dtype(request.dtype, device)
    needed = MemoryNeeded.of(
        path,
        kv_cache_bytes=engine_kv_bytes,
        dtype=dtype,
        target_length=request.target_length,
        ranks=request.tensor_parallel,
        device=device,
    )
    needed.check(free_bytes(device), what=f"the free memory of {device_name(device)}")
    try:
        with tempfile.TemporaryDirectory() as directory, _tensors_told(path):
            return _open(
                request, config, needed, config_path=_stated(config, path, Path(directory)), dtype=dtype, device=device
            )
    except Exception as error:  # vLLM raises whatever its many parts raise
        names = ", ".join(config.get("architectures") or [str(config.get("model_type"))])
        raise ScorerUnavailable(f"vLLM's class for {names} cannot be opened here: {said_by(error)}") from error


@contextmanager
def _tensors_told(path: Path) -> Iterator[None]:
    """While it lasts, whoever listens hears of each tensor that vLLM reads in this process: ranks in others are silent.

    vLLM's own bar counts files.
    """
    plain, count = getattr(DefaultModelLoader, _WEIGHTS), tensor_count(path)

    def told(loader: DefaultModelLoader, *given: Any) -> Iterator[tuple[str, torch.Tensor]]:
        return telling(plain(loader, *given), count=count)

    setattr(DefaultModelLoader, _WEIGHTS, told)
    try:
        yield
    finally:
        setattr(DefaultModelLoader, _WEIGHTS, plain)


def _stated(config: Mapping[str, Any], model: Path, scratch: Path) -> Path:
    """Where vLLM finds the config: the model's own directory, unless transformers reads another spelling only."""
    if (readable := normalised(config)) == config:
        return model
    (scratch / "config.json").write_text(json.dumps(readable), encoding="utf-8")
    return scratch


def _open(
    request: OpenEngine,
    config: Mapping[str, Any],
    needed: MemoryNeeded,
    *,
    config_path: Path,
    dtype: torch.dtype,
    device: torch.device,
) -> vllm.LLM:
    return vllm.LLM(
        model=request.model,
        hf_config_path=str(config_path),
        hf_overrides=hf_overrides(
            config, request.rope, original_length=request.original_length, target_length=request.target_length
        ),
        max_model_len=model_length(request.target_length),
        dtype=str(dtype).removeprefix("torch."),
        tensor_parallel_size=request.tensor_parallel,
        worker_extension_cls=f"{RotaryExtension.__module__}.{RotaryExtension.__qualname__}",
        kv_cache_memory_bytes=needed.kv_cache,
        gpu_memory_utilization=_memory_share(needed.total, device),
        max_num_seqs=SEQUENCES,
        max_num_batched_tokens=TOKENS_PER_STEP[device.type],
        max_logprobs=-1,
        enable_chunked_prefill=True,
        enable_prefix_caching=False,  # keys in it would be rotated by the candidate before
        enforce_eager=True,  # graphs help decoding; here every step is a prefill, and nothing is compiled for minutes
        async_scheduling=False,
        skip_tokenizer_init=True,
        language_model_only=True,  # nothing else is scored: a vision encoder is neither loaded nor looked at
        generation_config="vllm",
        load_format="safetensors",
        trust_remote_code=False,
        disable_log_stats=True,
    )


def _memory_share(needed: int, device: torch.device) -> float:
    """Share of the device's memory that is needed on a rank, for vLLM's own check."""
    if device.type == "cuda":
        total = whole_bytes(device)
    else:
        total = get_memory_node_info(get_visible_memory_node()[0]).total_memory
    return min(max(needed / total, 0.01), 0.95)
