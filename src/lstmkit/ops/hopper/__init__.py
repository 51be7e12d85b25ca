"""The ``cluster`` back end: CUDA C++ for clusters of a Hopper GPU."""
