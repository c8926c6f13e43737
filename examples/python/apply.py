"""Put factors into a loaded model and let it write a text that crosses its original length.

    python apply.py --model DIRECTORY --factors factors.json --text book.txt --prompt-tokens 250 --new-tokens 16

Needs torch and transformers. Prints the mean log-probability of the text's tokens up to the target length, with the
model as it is and with factors, and then what the model writes after the first tokens of it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import ropewalk


def log_probability(model: Any, ids: torch.Tensor) -> float:
    """Mean over the tokens of `ids`, (1, tokens)."""
    with torch.no_grad():
        logits = model(ids[:, :-1]).logits[0]
    return float(logits.log_softmax(-1).gather(-1, ids[0, 1:, None]).mean())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--factors", required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--prompt-tokens", type=int, default=250)
    parser.add_argument("--new-tokens", type=int, default=16)
    given = parser.parse_args()
    factors = ropewalk.Factors.read(given.factors)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32, use_safetensors=True)
    ids = torch.tensor([tokenizer.encode(given.text.read_text(encoding="utf-8"))])
    long = ids[:, : factors.target_length]
    print(f"{factors.model}, {long.shape[1]} tokens: {log_probability(model, long):.4f} as it is")
    with factors.apply(model):
        print(f"{factors.model}, {long.shape[1]} tokens: {log_probability(model, long):.4f} with factors")
        text = ropewalk.generate(model, ids[:, : given.prompt_tokens], max_new_tokens=given.new_tokens, do_sample=False)
    print(repr(tokenizer.decode(text[0, given.prompt_tokens :])))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ropewalk.RopewalkError as error:
        sys.exit(f"{error}")
