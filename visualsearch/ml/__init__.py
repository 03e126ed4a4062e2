"""The encoder: training, evaluation, checkpoints and export, with PyTorch and without Django."""
