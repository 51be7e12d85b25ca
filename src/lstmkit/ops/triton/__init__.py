"""The ``triton`` back end: GPU kernels for every cell and option."""
