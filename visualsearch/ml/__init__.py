"""The encoder: training, evaluation, checkpoints and export, with PyTorch and without Django."""

import os

# OpenMP reads this once, as torch is loaded, and whatever loads torch comes through here. Threads
# that wait by spinning take the processor from everything else on the machine, each other included
# (measured with two cores and other work: 4.0 s a training step, 1.8 s so).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
