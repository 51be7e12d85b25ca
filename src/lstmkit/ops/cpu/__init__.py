"""The CPU back end: C++ kernels from ``csrc``, called through ``torch.library``."""
