"""Write a tiny language model, data and a config, to try ``python -m scalars lora`` offline.

``python examples/tiny_model.py FOLDER``, and then the command that it prints, which trains for some
seconds, shows the schedules and the losses, and writes ``run.csv`` and ``run.png`` into the folder.
"""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

MODEL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
END = "<end>"
TEXTS = ["the cat sat on the mat.", "the dog ran to the door.", "who let the cat out?"]
CONFIG = """\
model: {folder}/model
data: {folder}/data
adapter_path: {folder}/adapters
train: true
num_layers: 2
batch_size: 4
iters: 100
steps_per_report: 10
steps_per_eval: 25
lr_schedule: Warmup(CosineAnnealing(1e-3, 1e-4), 0.1)
optimizer: adamw
optimizer_config:
  adamw:
    weight_decay: Linear(0.01, 0.1)
record: {folder}/run.csv
"""


def save_tiny_model(folder: Path, dtype: mx.Dtype = mx.float32) -> Path:
    """Write the model and a tokenizer, whose tokens are characters, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [END, *string.ascii_lowercase, " ", ".", "?"]
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(folder)
    config = {**MODEL, "vocab_size": len(tokens), "eos_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))
    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(config))
    model.set_dtype(dtype)
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"}
    )
    return folder


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/tiny_model.py FOLDER")
    folder = Path(sys.argv[1]).absolute()
    save_tiny_model(folder / "model")
    (folder / "data").mkdir(exist_ok=True)
    for name in ("train", "valid", "test"):
        lines = [json.dumps({"text": text}) + "\n" for text in TEXTS * 8]
        (folder / "data" / f"{name}.jsonl").write_text("".join(lines))
    (folder / "lora.yaml").write_text(CONFIG.format(folder=folder))
    print(f"python -m scalars lora --config {folder / 'lora.yaml'}")


if __name__ == "__main__":
    main()
