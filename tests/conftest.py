"""For all tests."""

import torch

# Models of a few numbers: a second thread only waits for the first. And checkpoints promise the same bits for the same
# number of threads.
torch.set_num_threads(1)
