"""Watch a small transformer in the Trainer of Hugging Face, with padding left out of the clouds.

Needs ``pip install 'geomprobe[hf]'``.
"""

import tempfile

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from geomprobe.callbacks import TrainerMonitor

LENGTH, VOCABULARY = 16, 40


def sequences(n: int) -> list[dict[str, torch.Tensor]]:
    """Return sequences of 6 to 16 tokens; the label says whether the first comes again."""
    rows = []
    for _ in range(n):
        length = int(torch.randint(6, LENGTH + 1, ()))
        tokens = torch.randint(3, VOCABULARY, (LENGTH,))
        label = int(torch.randint(2, ()))
        rest = tokens[1:length]
        rest[rest == tokens[0]] = 2
        if label:
            rest[int(torch.randint(len(rest), ()))] = tokens[0]
        mask = (torch.arange(LENGTH) < length).long()
        rows.append({"input_ids": tokens * mask, "attention_mask": mask, "labels": label})
    return rows


def main() -> None:
    """Train for some epochs, and keep the checkpoint whose last layer has the fewest loops."""
    set_seed(0)
    train, test = sequences(800), sequences(200)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
    )
    probe = {name: torch.stack([torch.as_tensor(row[name]) for row in test]) for name in test[0]}
    loops = "geom/persistent_homology/bert.encoder.layer.1/h1_total_persistence"
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            BertForSequenceClassification(config),
            TrainingArguments(
                folder,
                num_train_epochs=4,
                per_device_train_batch_size=32,
                gradient_accumulation_steps=2,
                learning_rate=1e-3,
                eval_strategy="epoch",
                save_strategy="epoch",
                metric_for_best_model=loops,
                greater_is_better=False,
                load_best_model_at_end=True,
                use_cpu=True,
                disable_tqdm=True,
                report_to=[],
            ),
            train_dataset=train,
            eval_dataset=test,
        )
        # The training is shorter than its observations: no budget, and no worker process.
        layers = ["bert.encoder.layer.0", "bert.encoder.layer.1"]
        watch = TrainerMonitor([probe], layers=layers, log=loops, budget=None, workers=0)
        watch.attach(trainer)
        trainer.train()
    frame = watch.monitor.history.to_frame()
    table = frame[frame["metric"] == loops][["epoch", "step", "value", "stderr"]]
    print(f"Total persistence of loops in the last layer:\n{table.to_string()}")
    print(f"The best checkpoint is that of step {trainer.state.best_global_step}.")

    axes = table.plot(
        x="step", y="value", yerr="stderr", marker="o", figsize=(6, 3.2), legend=False
    )
    axes.set_ylabel("total persistence of loops, last layer")
    axes.figure.savefig("watch_trainer.png", dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
