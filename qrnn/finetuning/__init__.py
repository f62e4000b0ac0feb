"""Fine-tuning for those who write no training loop: data, losses, epochs, checkpoints and a report (`qrnn.finetune`, `qrnn finetune`).

The module that is trained, whose outputs are those of the deployed integers, is `qrnn.qat`'s. PyTorch is imported only where something is
trained: `qrnn.finetuning.losses` and `qrnn.finetuning.trainer`.
"""
